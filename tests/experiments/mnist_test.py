"""The MNIST experiment: every way of updating, and bad data."""

import gzip
import os
import struct

import jax
import numpy as np
import pytest

from experiments import mnist
from jaxgan.run import rundir
from jaxgan.types import UserError
from tests.helpers import command, runs, tiny


@pytest.mark.parametrize("update", ["simultaneous", "alternating", "fresh"])
def test_every_way_of_updating_trains(tmp_path, update):
    settings = {"disc_norm": "batch", "penalty": "none", "loss": "hinge", "decay_steps": 4}
    state = mnist.run(runs.config(tmp_path / "run", update=update, num_steps=2, **settings))
    assert int(state.step) == 2
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


def test_gamma_fades_over_the_decay(tmp_path):
    # The penalty of each step is that of the same parameters under the constant gamma, times what
    # the cosine has left: all of it, then three quarters; rates near 0 keep the parameters.
    rates = {"gen_lr": 1e-12, "disc_lr": 1e-12, "penalty": "r1", "num_steps": 5, "log_every": 1}
    for name, share in (("constant", 1.0), ("fading", 0.0)):
        fade = {"gamma_final": share, "decay_steps": 3}
        mnist.run(runs.config(tmp_path / name, **rates, **fade))
    constant, fading = (
        np.array([x["disc/penalty"] for x in rundir.read_metrics(tmp_path / name)])
        for name in ("constant", "fading")
    )
    np.testing.assert_allclose(fading / constant, [1, 0.75, 0.25, 0, 0], rtol=1e-5, atol=1e-7)


def test_a_gamma_that_has_no_time_to_fade_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--gamma_final=0.1 needs --decay_steps"):
        runs.config(tmp_path / "run", gamma_final=0.1)


@pytest.mark.slow  # compiles three programs
def test_a_run_with_ada_that_is_stopped_ends_as_one_that_is_not(tmp_path):
    settings = {"augment": "ada", "loss": "hinge", "penalty": "none", "ada_ramp": 640}
    ours, theirs = (
        [mnist.run(runs.config(tmp_path / name, num_steps=num, **settings)) for num in stops][-1]
        for name, stops in (("straight", [6]), ("stopped", [3, 6]))
    )
    assert tiny.equal(ours, theirs)


def test_adas_controller_trains_and_is_resumed(tmp_path):
    settings = {"augment": "ada", "loss": "hinge", "penalty": "none", "ada_ramp": 640}
    for num_steps in (3, 6):
        state = mnist.run(runs.config(tmp_path / "run", num_steps=num_steps, **settings))
    assert int(state.extra["ada"]["count"]) == 2  # since p moved after the fourth step
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


def test_diffaugment_trains(tmp_path):
    state = mnist.run(runs.config(tmp_path / "run", augment="diffaug", num_steps=1))
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("loss", ["relativistic", "relativistic_average", "wasserstein"])
def test_ada_needs_logits_whose_sign_means_something(tmp_path, loss):
    with pytest.raises(UserError, match="--augment=ada reads the sign of D's logits, which --loss"):
        runs.config(tmp_path / "run", augment="ada", loss=loss)


def _idx(path, array, *, cut=0, magic=None):
    """Writes an idx file, damaged as asked."""
    header = magic or bytes([0, 0, 8, array.ndim])
    data = header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    data = data[: len(data) - cut]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


IMAGES = np.zeros((6, 28, 28), np.uint8)
LABELS = np.arange(6, dtype=np.uint8)


def _mnist_folder(folder, *, images=IMAGES, labels=LABELS, **damage):
    folder.mkdir()
    _idx(folder / "train-images-idx3-ubyte.gz", images, **damage)
    if labels is not None:
        _idx(folder / "train-labels-idx1-ubyte", labels)
    return folder


def _empty(folder):
    _mnist_folder(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: _mnist_folder(f, labels=None), ["train-labels-idx1-ubyte", "missing"]),
        (_empty, ["train-images-idx3-ubyte.gz", "empty"]),
        (lambda f: _mnist_folder(f, cut=100), ["train-images-idx3-ubyte.gz", "truncated"]),
        (lambda f: _mnist_folder(f, magic=b"<htm"), ["train-images-idx3-ubyte.gz", "magic"]),
        (lambda f: _mnist_folder(f, labels=LABELS + 5), ["label 10", "train-labels-idx1-ubyte"]),
        (lambda f: _mnist_folder(f, labels=LABELS[:4]), ["6 images", "4"]),
    ],
    ids=["missing", "empty", "truncated", "magic", "label", "count"],
)
def test_a_bad_data_file_is_one_line_that_names_it(tmp_path, make, words):
    make(tmp_path / "data")
    before = command.tree(tmp_path)
    message = command.mistake(
        "experiments.mnist",
        "--dataset=mnist",
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert all(word in message for word in words), message
    assert command.tree(tmp_path) == before


def test_a_missing_data_file_and_a_label_outside_its_range_in_an_archive(tmp_path):
    argv = ["--dataset=arrays", "--image_size=8", f"--workdir={tmp_path / 'run'}"]
    message = command.mistake("experiments.mnist", *argv, f"--data_dir={tmp_path / 'no.npz'}")
    assert "no.npz" in message
    bad = {**runs.images(), "num_classes": np.int64(2)}
    np.savez(tmp_path / "bad.npz", **bad)
    message = command.mistake("experiments.mnist", *argv, f"--data_dir={tmp_path / 'bad.npz'}")
    assert "label 2" in message and "0..1" in message
    assert not (tmp_path / "run").exists()


def test_a_dataset_nobody_knows_is_refused_with_those_there_are(tmp_path):
    message = command.mistake(
        "experiments.mnist", "--dataset=mnits", f"--workdir={tmp_path / 'run'}"
    )
    assert "mnits" in message and "mnist" in message.replace("mnits", "")
    assert not (tmp_path / "run").exists()


def test_conditions_need_labels(tmp_path):
    np.savez(tmp_path / "plain.npz", image=runs.images()["image"])
    with pytest.raises(UserError, match="--conditional needs labels"):
        mnist.run(
            runs.config(tmp_path / "run", data_dir=str(tmp_path / "plain.npz"), conditional=True)
        )


def test_changed_data_stop_a_resume(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, **runs.images())
    mnist.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=1))
    np.savez(path, image=runs.images()["image"][::-1], label=runs.images()["label"])
    with pytest.raises(UserError, match="training data have changed"):
        mnist.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=2))


FLAGFILES = sorted((command.ROOT / "experiments" / "flags").glob("*.flags"))


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_of_this_experiment_hold_settings_it_knows(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    values = dict(line.removeprefix("--").split("=", 1) for line in lines)
    fields = mnist.Config.__dataclass_fields__
    if not set(values) <= set(fields):
        pytest.skip("of another experiment")
    settings = {name: type(fields[name].default)(value) for name, value in values.items()}
    mnist.Config(**{**settings, "workdir": os.devnull})
