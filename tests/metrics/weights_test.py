import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxgan.metrics import classifiers, weights
from jaxgan.types import UserError
from tests.metrics import references

PARAMS = {
    **{f"Conv_{i}": {"kernel": np.ones((2, 2, 1, 1))} for i in range(3)},
    "Dense_0": {"kernel": np.ones((2, 2))},
    "Dense_1": {"kernel": np.ones((2, 3)), "bias": np.arange(3.0)},
}


def test_saved_weights_come_back_with_their_record(tmp_path):
    path = tmp_path / "new" / "classifier.npz"
    digest = weights.save(path, PARAMS, {"test_accuracy": 0.99})
    params, record = weights.load_classifier("mnist", path=path)
    np.testing.assert_array_equal(params["Dense_1"]["bias"], PARAMS["Dense_1"]["bias"])
    assert record == {"test_accuracy": 0.99, "sha256": digest}
    assert record == json.loads(path.with_suffix(".json").read_text())
    assert weights.sha256(path) == digest
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "classifier.json",
        "classifier.npz",
    ]


def test_changed_weights_are_refused(tmp_path):
    path = tmp_path / "classifier.npz"
    weights.save(path, PARAMS, {})
    record = path.with_suffix(".json").read_text()
    weights.save(path, {**PARAMS, "Conv_0": {"kernel": np.zeros((2, 2))}}, {})
    path.with_suffix(".json").write_text(record)
    with pytest.raises(UserError, match="the weights changed"):
        weights.load_classifier("mnist", path=path)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_damaged_record_is_refused(tmp_path, text):
    path = tmp_path / "classifier.npz"
    weights.save(path, PARAMS, {})
    path.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match="not a record"):
        weights.load(path)


def test_weights_of_another_network_are_refused(tmp_path):
    weights.save(tmp_path / "other.npz", {"Dense_0": {"bias": np.zeros(2)}}, {})
    with pytest.raises(UserError, match="holds Dense_0, not a classifier"):
        weights.load_classifier("mnist", path=tmp_path / "other.npz")


@pytest.mark.parametrize("change", [{"Conv_1": {}}, {"Dense_0": {"kernel": np.ones(3)}}])
def test_weights_of_a_network_that_is_almost_it_are_refused(tmp_path, change):
    weights.save(tmp_path / "other.npz", {**PARAMS, **change}, {})
    with pytest.raises(UserError, match="not a classifier's weights"):
        weights.load_classifier("mnist", path=tmp_path / "other.npz")


def test_the_classifier_of_another_dataset_is_refused_unless_the_images_have_no_name(tmp_path):
    path = tmp_path / "net.npz"
    weights.save(path, PARAMS, {"dataset": "mnist"})
    with pytest.raises(UserError, match="is the classifier of mnist, and .* with fashion_mnist"):
        weights.load_classifier("fashion_mnist", path=path)
    for dataset in ("mnist", "arrays", "folder"):
        assert weights.load_classifier(dataset, path=path)[1]["dataset"] == "mnist"


def test_a_missing_classifier_says_how_to_train_it_and_what_needs_none(tmp_path, cache):
    with pytest.raises(UserError, match=r"experiments.classifier --dataset=mnist.*, or score with"):
        weights.load_classifier("mnist", data_dir=tmp_path)
    command = "--dataset=folder --image_size=64 --channels=3"
    with pytest.raises(UserError, match=f"{command}, or .*--features=autoencoder"):
        weights.load_classifier("folder", image_shape=(64, 64, 3))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxgan"


def test_classifiers_are_written_into_the_users_cache_and_not_beside_the_data(cache, monkeypatch):
    name = "classifier_mnist_28x28x1.npz"
    assert weights.classifier_path("mnist", image_shape=(28, 28, 1)) == cache / "classifiers" / name
    monkeypatch.delenv("XDG_CACHE_HOME")
    found = weights.classifier_path("mnist", image_shape=(28, 28, 1))
    assert found == pathlib.Path.home() / ".cache" / "jaxgan" / "classifiers" / name


def test_names_of_folders_hold_size_and_content(tmp_path):
    options = {"image_shape": (64, 64, 3), "folder": tmp_path}
    for dataset in ("folder", "arrays"):
        path = weights.classifier_path(dataset, fingerprint="0123456789abcdef", **options)
        assert path == tmp_path / f"classifier_{dataset}_64x64x3_0123456789ab.npz"
    named = weights.classifier_path("a/b", fingerprint="0123", **options)
    assert named == tmp_path / "classifier_a_b_64x64x3.npz"


def test_classifiers_are_found_where_they_used_to_be_written(tmp_path, cache):
    small = {"image_shape": (4, 4, 1)}
    net = classifiers.DigitClassifier(width=1, features=2)
    params = jax.jit(net.init)(jax.random.key(0), np.zeros((1, 4, 4, 1)))["params"]
    data_dir = tmp_path / "data"
    beside, older = data_dir / "classifier_mnist.npz", cache / "classifier_mnist.npz"
    weights.save(older, params, {})
    find = functools.partial(weights.find_classifier, "mnist", data_dir=data_dir, **small)
    assert find() == older
    weights.save(beside, params, {})
    assert find() == beside
    written = weights.classifier_path("mnist", **small)
    weights.save(written, params, {})
    assert find() == written
    # One for other images is not taken for it.
    assert weights.find_classifier("mnist", data_dir=data_dir, image_shape=(32, 32, 1)) is None
    file = tmp_path / "mine.npz"
    file.touch()
    weights.save(tmp_path / "classifier_arrays_mine.npz", params, {})
    found = weights.find_classifier("arrays", data_dir=file, fingerprint="0123", **small)
    assert found == tmp_path / "classifier_arrays_mine.npz"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for write in (weights.check_writable, lambda path: weights.save(path, PARAMS, {})):
        with pytest.raises(UserError, match="cannot be written .* name another place with --out"):
            write(tmp_path / "file" / "net.npz")
    weights.check_writable(tmp_path / "new" / "net.npz")
    assert list((tmp_path / "new").iterdir()) == []


def test_missing_or_wrong_inception_weights_say_where_they_come_from(tmp_path):
    with pytest.raises(UserError, match="no Inception weights there; put https://"):
        weights.load_inception(tmp_path / "none.pth")
    (tmp_path / "wrong.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match="sha256 is .* download https://"):
        weights.load_inception(tmp_path / "wrong.pth")


def test_weights_of_another_network_are_not_taken_for_inceptions(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="not Inception's weights .* is missing"):
        weights.load_inception(tmp_path / "other.npz", digest="")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_files_of_every_kind_are_named_where_they_hold_another_network(tmp_path, suffix):
    path = tmp_path / f"other{suffix}"
    if suffix == ".npz":
        np.savez(path, a=np.zeros(3))
    elif suffix == ".safetensors":
        header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    else:
        path.write_bytes((references.FOLDER / "tiny.pth").read_bytes())
    with pytest.raises(UserError, match=f"other{suffix}: .*not Inception's .* is missing") as error:
        weights.load_inception(path, digest="" if suffix == ".pth" else None)
    assert "\n" not in str(error.value)


def test_inception_weights_come_from_safetensors_and_say_that_nobody_vouches_for_them(
    tmp_path, monkeypatch
):
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    content = len(header).to_bytes(8, "little") + header + np.arange(3, dtype="<f4").tobytes()
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(weights.inception, "convert", dict)  # ours are 95 MB
    params, record = weights.load_inception(path)
    np.testing.assert_array_equal(params["a"], [0, 1, 2])
    assert record == {"weights": "inception of unverified origin", "sha256": weights.sha256(path)}
    digest = weights.sha256(path)
    assert weights.load_inception(path, digest=digest)[1]["weights"] == "inception-2015-12-05"
    with pytest.raises(UserError, match="sha256 is"):
        weights.load_inception(path, digest=weights.INCEPTION_SHA256)
