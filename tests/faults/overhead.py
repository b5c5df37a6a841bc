"""Times what safety costs a run of mnist.flags: the guards of each step, the manifest of a save.

    python -m tests.faults.overhead

The guards are the look for NaN, and what the alarms of collapse read: the samples' diversity and
the norm of G's gradient. Steps with and without are timed in turn; the median of the differences
counts.
"""

import contextlib
import dataclasses
import pathlib
import statistics
import tempfile
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import mnist
from jaxgan import parallel
from jaxgan.data.spec import Spec
from jaxgan.run import checkpoint, manifest
from jaxgan.steps import combine, game

FLAGS = pathlib.Path(mnist.__file__).parent / "flags" / "mnist.flags"
ROUNDS, SAVE_EVERY = 40, 500


def config():
    """The settings of the flagfile."""
    types = {field.name: type(field.default) for field in dataclasses.fields(mnist.Config)}
    lines = [line for line in FLAGS.read_text().splitlines() if line.startswith("--")]
    pairs = [line.removeprefix("--").split("=") for line in lines]
    return mnist.Config(channels=1, **{name: types[name](value) for name, value in pairs})


@contextlib.contextmanager
def unguarded():
    """Steps that are traced in here have no guards."""
    with (
        mock.patch.object(combine, "_finite", lambda player, loss: jnp.asarray(True)),
        mock.patch.object(game, "diversity", lambda *args, **options: jnp.ones(())),
        mock.patch.object(optax.tree, "norm", lambda tree: jnp.ones(())),
    ):
        yield


def trained(settings, *, guarded):
    """(compiled step, state after its first call): what a run does, with guards or without."""
    experiment = mnist.build(settings, Spec("", shapes={"image": (28, 28, 1)}))
    step = jax.jit(experiment.step, donate_argnums=1)
    fresh = jax.jit(experiment.init)(jax.random.key(0))
    with contextlib.nullcontext() if guarded else unguarded():
        now, _ = step(jax.random.key(1), fresh, batch(settings))
    return step, now


def batch(settings):
    """One batch of noise."""
    shape = (settings.batch_size, 28, 28, 1)
    return {"image": np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}


def main():
    """Prints both costs as shares of a step, and of the steps between two saves."""
    parallel.initialize()
    settings = config()
    games = [trained(settings, guarded=guarded) for guarded in (True, False)]
    images = batch(settings)
    seconds = ([], [])
    for number in range(2 * ROUNDS):
        which = (number + number // 2) % 2  # each of the two goes first every other time
        step, now = games[which]
        start = time.perf_counter()
        now, _ = jax.block_until_ready(step(jax.random.key(1), now, images))
        seconds[which].append(time.perf_counter() - start)
        games[which] = step, now
    bare = statistics.median(seconds[1])
    guards = statistics.median(a - b for a, b in zip(*seconds, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        with checkpoint.manager(folder) as manager:
            checkpoint.save(manager, games[0][1])
        (saved,) = (path for path in pathlib.Path(folder).iterdir() if path.name.isdecimal())
        start = time.perf_counter()
        manifest.write(saved)
        written = time.perf_counter() - start
    print(f"a step {1e3 * bare:.1f} ms; its guards {1e3 * guards:.2f} ms, {guards / bare:.2%}")
    share = written / (SAVE_EVERY * bare)
    print(f"a manifest {1e3 * written:.1f} ms, {share:.4%} of {SAVE_EVERY} steps")


if __name__ == "__main__":
    main()
