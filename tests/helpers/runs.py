"""Tiny runs of the toy experiment that several tests look at."""

import functools
import json
import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxgan import steps
from jaxgan.metrics import classifiers, weights
from tests.helpers import toy

MODULE = "tests.helpers.toy"  # of these runs
_FOLDERS = []  # removed when the tests end
SMALL = {
    "dataset": "arrays",
    "image_size": 8,
    "batch_size": 16,
    "latent_dim": 4,
    "num_samples": 4,
    "keep_memory": False,  # it would change the whole test process
}


def folder() -> pathlib.Path:
    """A new folder that lasts as long as the tests."""
    _FOLDERS.append(tempfile.TemporaryDirectory())
    return pathlib.Path(_FOLDERS[-1].name)


def images(num=40):
    """Bytes [num, 8, 8, 1] and labels in [0, 3)."""
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (num, 8, 8, 1), np.uint8),
        "label": np.arange(num) % 3,
    }


@functools.cache
def data_file() -> pathlib.Path:
    """40 labelled images: with batches of 16, an epoch ends in the middle of the third."""
    path = folder() / "images.npz"
    np.savez(path, **images())
    return path


@functools.cache
def split_file() -> pathlib.Path:
    """The same images, and 30 of a test split."""
    path, test = folder() / "split.npz", images(70)
    held_out = {f"test_{name}": value[40:] for name, value in test.items()}
    np.savez(path, **images(), **held_out)
    return path


@functools.cache
def classifier_file() -> pathlib.Path:
    """An untrained classifier of such images: any features will do to see that numbers arrive."""
    path = folder() / "net.npz"
    net = classifiers.DigitClassifier(num_classes=3, width=2, features=4)
    variables = jax.jit(net.init)(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    weights.save(path, variables["params"], {"dataset": "arrays"})
    return path


def config(workdir, **settings) -> toy.Config:
    """The settings of a tiny run."""
    return toy.Config(
        **{**SMALL, "workdir": str(workdir), "data_dir": str(data_file()), **settings}
    )


def flags(workdir, **settings) -> list[str]:
    """The same as a command line."""
    values = {**SMALL, "workdir": workdir, "data_dir": data_file(), **settings}
    return [f"--{name}={value}" for name, value in values.items()]


@functools.cache
def conditional() -> pathlib.Path:
    """The directory of a finished conditional run of 4 steps."""
    workdir = folder() / "run"
    toy.run(config(workdir, conditional=True, num_steps=4, save_every=2, log_every=1))
    return workdir


def steps_saved(workdir) -> list[int]:
    """Steps with a checkpoint, oldest first."""
    checkpoints = pathlib.Path(workdir) / "checkpoints"
    names = [p.name for p in checkpoints.glob("*")] if checkpoints.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def steps_logged(workdir) -> list[int]:
    """Steps in the log, in its order."""
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def arrays(workdir, step) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path, read without any state to compare with."""
    found = {}
    for item in ("state", "gen_ema"):
        path = pathlib.Path(workdir).resolve() / "checkpoints" / str(step) / item
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            stored = reader.metadata(path).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
            tree = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        for place, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            found[item + jax.tree_util.keystr(place)] = leaf
    return found


def different(workdir, other, step) -> list[str]:
    """Paths of the arrays in which two runs' checkpoints of a step are not the same bits."""
    ours, theirs = arrays(workdir, step), arrays(other, step)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    return [
        name
        for name in ours
        if ours[name].dtype != theirs[name].dtype or ours[name].tobytes() != theirs[name].tobytes()
    ]


def killed_after(workdir, copy, step) -> pathlib.Path:
    """Copies a run as a kill would have left it: a longer log, and no checkpoint after a step."""
    shutil.copytree(workdir, copy)
    for saved in steps_saved(copy):
        if saved > step:
            shutil.rmtree(copy / "checkpoints" / str(saved))
    assert steps_saved(copy)[-1] == step
    return copy


def poison(monkeypatch, bad_step, streams):
    """Breaks G at a step, on the host's word alone, unless the key is another than in `streams`."""
    monkeypatch.setattr(steps, "map_batch", poisoned(steps.map_batch, bad_step, streams))


def poisoned(real, bad_step, streams):
    """The `steps.map_batch` that does so."""

    def map_batch(prepare, step):
        def poisoned(key, now, batch):
            after, metrics = step(key, now, batch)
            times = now.extra["guard"]["rollbacks"] if "guard" in now.extra else 0
            bad = (now.step == bad_step) & (times < streams)
            gen = jax.tree.map(lambda w: jnp.where(bad, jnp.nan, w), after.gen.params)
            after = after.replace(gen=after.gen.replace(params=gen))
            return after, {**metrics, "gen/finite": metrics["gen/finite"] & ~bad}

        return real(prepare, poisoned)

    return map_batch
