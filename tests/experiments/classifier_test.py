import json
import subprocess
import sys

import numpy as np
import pytest

from experiments import classifier
from jaxgan import data
from jaxgan.metrics import features, reference, weights
from jaxgan.types import UserError
from tests.helpers import runs


def config(tmp_path, **changes):
    options = {"dataset": "digits", "out": str(tmp_path / "net.npz"), "epochs": 2}
    return classifier.Config(**{**options, "batch_size": 64, "max_shift": 1, **changes})


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"epochs": 1, "image_size": 8, "max_shift": 0}, 0.7),  # a tenth is chance
        pytest.param({"epochs": 4, "image_size": 28}, 0.9, marks=pytest.mark.slow),
    ],
    ids=["a little", "well"],
)
def test_learns_the_bundled_digits_and_records_what_it_wrote(tmp_path, settings, least):
    record = classifier.run(config(tmp_path, learning_rate=1e-2, decay=0.9, **settings))
    assert record["test_accuracy"] > least
    assert record == json.loads((tmp_path / "net.json").read_text())
    params, loaded = weights.load_classifier("digits", path=tmp_path / "net.npz")
    assert loaded["sha256"] == weights.sha256(tmp_path / "net.npz")
    test = data.load("digits", split="test", image_size=settings["image_size"])
    probs = features.extract(features.classifier_features(params), test.arrays["image"])["probs"]
    share = (probs.argmax(1) == test.arrays["label"]).mean()
    assert share == pytest.approx(record["test_accuracy"])


@pytest.mark.slow
def test_the_same_seed_trains_the_same_weights(tmp_path):
    short = {"dataset": "arrays", "data_dir": str(runs.data_file()), "image_size": 8, "epochs": 1}
    first, again, other = (
        classifier.run(config(tmp_path, seed=seed, **short))["sha256"] for seed in (0, 0, 1)
    )
    assert first == again != other


# The residual network, which is that of images in colour, takes ten seconds to compile.
@pytest.mark.parametrize("net", ["digits", pytest.param("auto", marks=pytest.mark.slow)])
def test_a_folder_without_splits_is_trained_at_any_size_and_found_by_scores(
    tmp_path, monkeypatch, capsys, net
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez(tmp_path / "set.npz", **runs.images(200))
    settings = {"dataset": "arrays", "data_dir": str(tmp_path / "set.npz"), "out": ""}
    size = {"image_size": 12, "channels": 3}
    record = classifier.run(config(tmp_path, epochs=1, net=net, **settings, **size))
    assert record["image_shape"] == [12, 12, 3] and record["test_images"] == 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "set.npz"]
    train = data.load("arrays", data_dir=settings["data_dir"], **size)
    options = {"dataset": "arrays", "data_dir": settings["data_dir"], "train": train}
    feature_fn, found = reference.open_features("classifier", **options)
    assert found["sha256"] == record["sha256"]
    assert feature_fn(np.zeros((2, 12, 12, 3), np.float32))["probs"].shape == (2, 3)
    assert "below 90%" in capsys.readouterr().out  # random images cannot be told apart


def test_shift_moves_images_and_repeats_the_border():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(classifier.random_shift(rng, image, 0), image)
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")[0]
    windows = [padded[i : i + 4, j : j + 4] for i in range(5) for j in range(5)]
    for shifted in classifier.random_shift(rng, image.repeat(20, 0), 2):
        assert any((shifted == window).all() for window in windows)


def test_thickening_widens_some_strokes_by_a_pixel_each_way():
    line = np.zeros((400, 5, 5, 1), np.uint8)
    line[:, :, 2] = 200
    out = classifier.random_thickening(np.random.default_rng(0), line, 0.25)
    thick = (out[:, :, 1:4] == 200).all((1, 2, 3)) & (out[:, :, [0, 4]] == 0).all((1, 2, 3))
    plain = (out == line).all((1, 2, 3))
    assert (thick ^ plain).all() and 0.2 < thick.mean() < 0.3
    assert (classifier.random_thickening(np.random.default_rng(0), line, 0.0) == line).all()


def test_mistakes_are_one_line_before_any_training(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.npz"):
        classifier.run(config(tmp_path, out="net.pkl"))
    with pytest.raises(UserError, match="--epochs=0 trains nothing"):
        config(tmp_path, epochs=0)
    image = np.zeros((10, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "images.npz", image=image, test_image=image)
    with pytest.raises(UserError, match="has no labels"):
        classifier.run(config(tmp_path, dataset="arrays", data_dir=str(tmp_path / "images.npz")))
    with pytest.raises(UserError, match="too small; give --image_size=8"):
        classifier.run(config(tmp_path, image_size=4))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written .*another place with --out"):
        classifier.run(config(tmp_path, out=str(tmp_path / "file" / "net.npz")))


def test_importing_it_defines_no_flag_and_starts_nothing():
    program = (
        "import dataclasses, jax; from absl import flags; from experiments import classifier\n"
        "names = {field.name for field in dataclasses.fields(classifier.Config)}\n"
        "assert not names & set(flags.FLAGS)\n"
        "jax.config.update('jax_num_cpu_devices', 3)  # refused once a device was used\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
