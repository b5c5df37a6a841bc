import json
import os

import numpy as np
import pytest

from jaxgan.metrics import weights
from jaxgan.types import UserError

PARAMS = {"Conv_0": {"kernel": np.ones((2, 2))}, "Dense_1": {"bias": np.arange(3.0)}}


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


def test_a_missing_classifier_says_how_to_train_it(tmp_path):
    with pytest.raises(UserError, match=r"python -m experiments.classifier --dataset=mnist"):
        weights.load_classifier("mnist", data_dir=tmp_path)


def test_the_classifier_lies_beside_writable_data_and_else_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    beside = data_dir / "classifier_mnist.npz"
    cached = tmp_path / "cache" / "jaxgan" / "classifier_mnist.npz"
    assert weights.classifier_path("mnist", data_dir) == beside
    assert weights.classifier_path("mnist", "") == cached
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert weights.classifier_path("mnist", data_dir) == cached
    beside.touch()
    assert weights.classifier_path("mnist", data_dir) == beside


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
