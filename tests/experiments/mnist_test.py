"""The MNIST experiment: its networks, and bad data."""

import gzip
import struct

import jax
import numpy as np
import pytest

from experiments import mnist
from jaxgan.run import load, rundir
from jaxgan.types import UserError
from tests.helpers import command, flagfile, runs

SMALL = {**runs.SMALL, "gen_features": "8", "disc_features": "4", "num_steps": 2}


def _config(workdir, **settings):
    data_dir = str(runs.data_file())
    return mnist.Config(**{**SMALL, "workdir": str(workdir), "data_dir": data_dir, **settings})


def test_a_conditional_dcgan_trains_and_is_sampled_from_its_directory(tmp_path):
    settings = {"disc_norm": "batch", "penalty": "none", "loss": "hinge", "conditional": True}
    state = mnist.run(_config(tmp_path / "run", mirror=True, log_every=1, **settings))
    assert int(state.step) == 2
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
    assert 0 < rundir.read_metrics(tmp_path / "run")[-1]["gen/class_diversity"] < 2
    trained = load.load(tmp_path / "run")
    entries = trained.sample(jax.random.key(0), 6)
    assert entries["image"].shape == (6, 8, 8, 1) and trained.config.channels == 1
    np.testing.assert_array_equal(entries["label"], [0, 1, 2, 0, 1, 2])


def test_widths_follow_the_image_size_and_too_few_are_one_line():
    for size, widths in ((28, "128,64"), (64, "512,256,128,64")):
        config = mnist.Config(image_size=size)
        assert config.gen_features == widths
        assert config.disc_features == ",".join(reversed(widths.split(",")))
    with pytest.raises(UserError, match="image_size 64 .* needs 4 feature maps or more"):
        mnist.Config(image_size=64, gen_features="8")
    with pytest.raises(UserError, match="--gen_features=8,x is not a list of positive numbers"):
        mnist.Config(gen_features="8,x")
    with pytest.raises(UserError, match="--penalty=r1_r2 needs each image's own gradient"):
        mnist.Config(disc_norm="batch")


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
    data = {"dataset": "mnist", "data_dir": str(tmp_path / "data"), "image_size": 28}
    message = _refused(tmp_path / "run", **data, gen_features="8,4", disc_features="4,8")
    assert all(word in message for word in words), message
    assert command.tree(tmp_path) == before


def _refused(workdir, **settings):
    """The line in which a run is refused; that a process ends with it, other tests see."""
    with pytest.raises(UserError) as caught:
        mnist.run(_config(workdir, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_data_file_and_a_label_outside_its_range_in_an_archive(tmp_path):
    message = _refused(tmp_path / "run", data_dir=str(tmp_path / "no.npz"))
    assert "no.npz" in message
    bad = {**runs.images(), "num_classes": np.int64(2)}
    np.savez(tmp_path / "bad.npz", **bad)
    message = _refused(tmp_path / "run", data_dir=str(tmp_path / "bad.npz"))
    assert "label 2" in message and "0..1" in message
    assert not (tmp_path / "run").exists()


def test_a_dataset_nobody_knows_is_refused_with_those_there_are(tmp_path):
    message = command.mistake(
        "experiments.mnist", "--dataset=mnits", f"--workdir={tmp_path / 'run'}"
    )
    assert "mnits" in message and "mnist" in message.replace("mnits", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", flagfile.FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_of_this_experiment_hold_settings_it_knows(path):
    if not flagfile.fits(mnist.Config, path):
        pytest.skip("of another experiment")
    flagfile.config(mnist.Config, path)
