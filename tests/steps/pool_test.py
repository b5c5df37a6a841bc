"""The pool of past examples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgan import losses, state, steps
from jaxgan.steps import pool as pools
from tests.helpers import tiny

TX = optax.sgd(0.1)


def _exchanged(num, size, batch=3, seed=0):
    """What comes of the numbers 1, 2, ..., in batches; row by row."""
    pool, shown = pools.init_pool({"a": (), "b": ()}, size), []
    exchange = jax.jit(pools.exchange)
    for step in range(num):
        new = 1.0 + batch * step + jnp.arange(batch, dtype=jnp.float32)
        out, pool = exchange(jax.random.key(seed + step), pool, {"a": new, "b": 100 + new})
        np.testing.assert_array_equal(out["b"], out["a"] + 100)  # together
        shown += out["a"].tolist()
    return np.array(shown), pool


def test_until_it_is_full_new_examples_are_shown():
    shown, pool = _exchanged(2, size=7)
    np.testing.assert_array_equal(shown, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(pool["held"]["a"], [1, 2, 3, 4, 5, 6, 0])
    assert int(pool["count"]) == 6


def test_then_half_are_old_ones_which_the_new_ones_replace():
    shown, pool = _exchanged(400, size=10)
    new = np.arange(1, 1201)
    later = slice(10, None)
    assert 0.45 < np.mean(shown[later] == new[later]) < 0.55
    # Whatever came is shown or held; nothing is shown twice, nothing lost.
    seen = np.concatenate([shown[later], pool["held"]["a"]])
    np.testing.assert_array_equal(np.sort(seen), new)


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return x * self.param("scale", nn.initializers.ones, (1, 1))


class Judge(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(1)(x)[:, 0]


def _game():
    return steps.Game(
        gen=steps.from_entry(Scaled(), "source", "image"),
        disc=steps.judged(Judge(), "image"),
        loss=losses.ADVERSARIAL["least_squares"],
        example="none",
    )


def _start(size):
    key, batch = jax.random.key(0), jnp.ones((2, 3))
    return state.init_state(
        state.init_player(Scaled().init(key, batch, train=False), TX),
        state.init_player(Judge().init(key, batch, train=False), TX),
        **{steps.POOL: steps.init_pool({"image": (3,)}, size)},
    )


def _batch(step):
    random = np.random.default_rng(step)
    return {k: jnp.asarray(random.normal(size=(2, 3)), jnp.float32) for k in ("source", "image")}


def test_while_it_fills_the_step_is_that_of_g_and_then_d_on_the_same_examples():
    step = jax.jit(steps.pooled_step(_game(), TX, TX))
    start, batch = _start(4), _batch(0)
    end, metrics = step(jax.random.key(1), start, batch)
    gen, _ = steps.gen_step(_game(), TX)(jax.random.key(2), start, batch)
    disc, _ = steps.disc_step(_game(), TX)(jax.random.key(2), start, batch)
    for ours, theirs in ((end.gen, gen.gen), (end.disc, disc.disc)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours.params, theirs.params
        )
    assert {"gen/loss", "disc/loss", "gen/gradient"} < set(metrics)


def test_the_pool_is_state_and_a_stopped_run_goes_on_as_the_same():
    step = jax.jit(steps.train_step(steps.pooled_step(_game(), TX, TX)))
    ours = _start(3)
    for number in range(6):
        ours, _ = step(jax.random.key(5), ours, _batch(number))
        if number == 3:
            kept = jax.device_get(ours)
    theirs = jax.tree.map(jnp.asarray, kept)
    for number in range(4, 6):
        theirs, _ = step(jax.random.key(5), theirs, _batch(number))
    assert int(ours.extra[steps.POOL]["count"]) == 3
    assert tiny.equal(ours, theirs)
