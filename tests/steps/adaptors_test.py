"""Networks of another library as players: Flax NNX, step for step the same as Linen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxgan import latents, state, steps
from tests.helpers import tiny

KEY = jax.random.key(7)


class NnxGen(nnx.Module):
    """`tiny.DenseGen` in Flax NNX."""

    def __init__(self, rngs):
        self.first = nnx.Linear(tiny.LATENT_DIM, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(8, 16, rngs=rngs)

    def __call__(self, z):
        return jnp.tanh(self.last(nnx.relu(self.norm(self.first(z))))).reshape(-1, 4, 4, 1)


class NnxDisc(nnx.Module):
    """`tiny.DenseDisc` in Flax NNX."""

    def __init__(self, rngs):
        self.first = nnx.Linear(16, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.norm(self.first(x.reshape(x.shape[0], -1)))))[:, 0]


def _call(definition, variables, *inputs):
    """An NNX module's outputs, and its statistics afterwards."""
    module = nnx.merge(definition, variables["params"], variables["stats"])
    out = module(*inputs)
    _, _, stats = nnx.split(module, nnx.Param, ...)
    return out, {"stats": nnx.to_pure_dict(stats)}


def _as_linen(variables):
    """The same numbers as variables of the Linen networks."""
    names = {"first": "Dense_0", "norm": "BatchNorm_0", "last": "Dense_1"}
    renamed = {names[name]: value for name, value in variables["params"].items()}
    return {"params": renamed, "batch_stats": {"BatchNorm_0": variables["stats"]["norm"]}}


def test_networks_of_flax_nnx_plug_in_and_train_as_those_of_linen():
    tx, batch = optax.sgd(0.2, momentum=0.5), tiny.batch(side=4)
    parts = [nnx.split(net(nnx.Rngs(0)), nnx.Param, ...) for net in (NnxGen, NnxDisc)]
    (gen_def, *_), (disc_def, *_) = parts
    variables = [
        {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}
        for _, params, stats in parts
    ]

    def gen(key, variables, batch):
        z_key, _ = jax.random.split(key)  # as `from_latents` draws
        z = latents.normal(z_key, batch["image"].shape[0], tiny.LATENT_DIM)
        image, stats = _call(gen_def, variables, z)
        return {"image": image}, stats

    def disc(key, variables, batch):
        logits, stats = _call(disc_def, variables, batch["image"])
        return {"logits": logits}, stats

    linen = tiny.make_game(tiny.DenseGen(), tiny.DenseDisc(), "relativistic")
    ours = dataclasses.replace(linen, gen=gen, disc=disc)
    now = state.init_state(*(state.init_player(each, tx) for each in variables))
    same = state.init_state(*(state.init_player(_as_linen(each), tx) for each in variables))
    build = lambda game: jax.jit(  # noqa: E731
        steps.train_step(steps.alternating_step(game, tx, tx), steps.ema_step(0.9))
    )
    step, reference = build(ours), build(linen)
    for _ in range(3):
        now, metrics = step(KEY, now, batch)
        same, expected = reference(KEY, same, batch)
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for player in ("gen", "disc"):
        mine, theirs = (getattr(each, player).variables for each in (now, same))
        assert tiny.largest_difference(_as_linen(mine), theirs) < 1e-6
    assert tiny.largest_difference(_as_linen(now.gen_ema), same.gen_ema) < 1e-6
    assert tiny.largest_difference(now.gen.params, variables[0]["params"]) > 1e-2  # they did train
