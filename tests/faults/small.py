"""A run of `driver.train` whose step computes next to nothing: for what happens around steps.

As a process: `python -m tests.faults.small WORKDIR '{"num_steps": 9}'`.
"""

import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.run import cli, driver
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, init_player, init_state
from tests.helpers import runs


def state(scale=1.0, step=0) -> GANState:
    """A state whose every leaf is known: the n-th holds n, n + 1/8, ..., times a scale."""
    params = {"dense": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    variables = {"params": params, "batch_stats": {"norm": {"mean": jnp.zeros(2)}}}
    gen, disc = (init_player(v, optax.adam(1e-3)) for v in (variables, {"params": params}))
    seen = {"count": jnp.int32(0), "any": jnp.array([False])}
    fresh = init_state(gen, disc, half=jnp.zeros(5, jnp.bfloat16), seen=seen)
    leaves, structure = jax.tree.flatten(fresh)
    leaves = [
        jnp.asarray(scale * (n + np.arange(leaf.size).reshape(leaf.shape) / 8), leaf.dtype)
        for n, leaf in enumerate(leaves)
    ]
    return structure.unflatten(leaves).replace(step=jnp.int32(step))


def advance(key, now, batch):
    """A step in the size of which randomness and the batch can be seen."""
    noise = jax.random.normal(jax.random.fold_in(key, now.step)) + batch["image"].mean()
    gen = now.gen.replace(params=jax.tree.map(lambda w: w + noise, now.gen.params))
    return now.replace(step=now.step + 1, gen=gen), {"gen/loss": noise}


def train(
    workdir, *, at=None, step=advance, pretraining=(), score=None, **settings
) -> GANState | None:
    """Trains six steps, saving every second one; `at[n]` is called at the n-th samples."""
    settings = {"num_steps": 6, "save_every": 2, "log_every": 1, "sample_every": 1, **settings}
    number = itertools.count(1)

    def sample(variables, key, num):
        (at or {}).get(next(number), lambda: None)()
        return {"image": np.zeros((num, 8, 8, 1), np.float32)}

    experiment = Experiment(lambda key: state(), step, sample, score=score, pretraining=pretraining)
    return driver.train(runs.config(workdir, **settings), build=lambda config, spec: experiment)


if __name__ == "__main__":
    cli.or_one_line(lambda: train(sys.argv[1], **json.loads(sys.argv[2])))
