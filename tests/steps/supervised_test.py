"""The step of a generator that learns from examples alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxgan import losses, parallel, state, steps
from tests.helpers import tiny

BATCH = {
    "source": jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (16, 3)), jnp.float32),
    "image": jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (16, 2)), jnp.float32),
}
TX = optax.sgd(0.1)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2, use_bias=False)(x)


class Judge(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(1)(x)[:, 0]


def _game(**fields):
    terms = {"half": lambda seen: 0.5 * jnp.square(seen.fake["image"] - seen.batch["image"]).sum(1)}
    axis = fields.get("axis_name")
    return steps.Game(
        gen=steps.from_entry(Linear(), "source", "image", axis_name=axis),
        disc=steps.judged(Judge(), "image", axis_name=axis),
        loss=losses.ADVERSARIAL["nonsaturating"],
        **{"gen_terms": terms, **fields},
    )


def _start():
    gen, disc = jax.random.split(jax.random.key(0))
    return state.init_state(
        state.init_player(Linear().init(gen, BATCH["source"], train=False), TX),
        state.init_player(Judge().init(disc, BATCH["image"], train=False), TX),
    )


def test_a_step_is_that_of_least_squares_and_leaves_the_discriminator():
    start = _start()
    kernel = np.asarray(start.gen.params["Dense_0"]["kernel"], np.float64)
    x, y = (np.asarray(BATCH[name], np.float64) for name in ("source", "image"))
    gradient = x.T @ (x @ kernel - y) / len(x)
    end, metrics = jax.jit(steps.supervised_step(_game(), TX))(jax.random.key(1), start, BATCH)
    np.testing.assert_allclose(
        end.gen.params["Dense_0"]["kernel"], kernel - 0.1 * gradient, rtol=1e-5
    )
    loss = 0.5 * np.square(x @ kernel - y).sum(1).mean()
    np.testing.assert_allclose(metrics["gen/loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gen/half"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gen/gradient"], np.linalg.norm(gradient), rtol=1e-5)
    assert tiny.equal(end.disc, start.disc)


def test_micro_batches_and_devices_change_nothing():
    expected, seen = steps.supervised_step(_game(), TX)(jax.random.key(1), _start(), BATCH)
    parts = steps.supervised_step(_game(), TX, accumulate=4)
    spread = parallel.pmap_step(
        steps.supervised_step(_game(axis_name=parallel.AXIS), TX), mesh=parallel.make_mesh()
    )
    for step in (parts, spread):
        found, metrics = step(jax.random.key(1), _start(), BATCH)
        for ours, theirs in zip(
            jax.tree.leaves(found.gen.params), jax.tree.leaves(expected.gen.params), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        np.testing.assert_allclose(metrics["gen/loss"], seen["gen/loss"], rtol=1e-5)


def test_without_terms_there_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="without terms"):
        steps.supervised_step(dataclasses.replace(_game(), gen_terms={}), TX)
