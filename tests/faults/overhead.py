"""Times what safety costs a run of mnist.flags: the guards of each step, and each save's.

    python -m tests.faults.overhead

The guards are the look for NaN, and what the alarms of collapse read: the samples' diversity and
the norm of G's gradient. Steps with and without are timed in turn; the median of the differences
counts. Of a save: every array is opened, every file is synced and digested, in the background.
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
from jaxgan.run import checkpoint, disk, saver
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


def saves(state):
    """(bytes, seconds, seconds of a core): medians of what checks and syncs add to a save."""
    seconds, busy, real = [], [], saver.Manager._describe
    sync_file, sync_folder = disk.sync_file, disk.sync_folder

    def timed(call, *args):
        start, used = time.perf_counter(), time.process_time()
        call(*args)
        seconds[-1] += time.perf_counter() - start
        busy[-1] += time.process_time() - used

    def describe(manager):
        # What it calls is counted once: as part of it.
        with mock.patch.multiple(disk, sync_file=sync_file, sync_folder=sync_folder):
            timed(real, manager)

    with (
        tempfile.TemporaryDirectory() as folder,
        checkpoint.manager(folder) as manager,
        mock.patch.object(saver.Manager, "_describe", describe),
        mock.patch.object(disk, "sync_file", lambda path: timed(sync_file, path)),
        mock.patch.object(disk, "sync_folder", lambda path: timed(sync_folder, path)),
    ):
        for step in range(1, 8):
            seconds.append(0.0)
            busy.append(0.0)
            checkpoint.save(manager, state.replace(step=jnp.int32(step)))
            manager.wait_until_finished()
        files = (pathlib.Path(folder) / "7").rglob("*")
        size = sum(path.stat().st_size for path in files if path.is_file())
    return size, statistics.median(seconds), statistics.median(busy)


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
    print(f"a step {1e3 * bare:.1f} ms; its guards {1e3 * guards:.2f} ms, {guards / bare:.2%}")
    size, seconds, busy = saves(games[0][1])
    share, of_a_core = (value / (SAVE_EVERY * bare) for value in (seconds, busy))
    print(
        f"a save of {size / 1e6:.1f} MB: {1e3 * seconds:.1f} ms more in the background, "
        f"{share:.4%} of {SAVE_EVERY} steps; {1e3 * busy:.1f} ms of a core, {of_a_core:.4%}"
    )


if __name__ == "__main__":
    main()
