"""Reference images are a random choice; their features are extracted once and kept by content."""

import functools
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import arrays
from jaxgan.metrics import reference, unlabelled, weights
from jaxgan.types import UserError
from tests.helpers import runs

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), np.uint8)


def _source(pixels):
    images = {"image": pixels, "label": np.zeros(len(pixels), np.int32)}
    return arrays.ArraySource(images, name="fake", num_classes=1)


@pytest.fixture
def features():
    """A feature function (the mean of an image) that counts its calls."""
    seen = types.SimpleNamespace(calls=0)

    def function(images):
        seen.calls += 1
        return {"features": images.mean((1, 2))}

    seen.function = function
    return seen


def _extract(pixels, features, cache, *, num=12, digest="weights"):
    return reference.extract(pixels[:num], features.function, digest=digest, cache=str(cache))[
        "features"
    ]


def _expected(pixels):
    return pixels.mean((1, 2)) / 127.5 - 1


def test_features_are_extracted_once_for_the_same_images_and_weights(features, tmp_path):
    for _ in range(2):
        found = _extract(PIXELS, features, tmp_path / "new")
        np.testing.assert_allclose(found, _expected(PIXELS), atol=1e-6)
    assert features.calls == 1
    _extract(PIXELS, features, tmp_path / "new", digest="others")
    assert _extract(PIXELS, features, tmp_path / "new", num=10).shape == (10, 1)
    assert features.calls == 3


def test_other_images_of_the_same_fingerprint_have_features_of_their_own(features, tmp_path):
    for pixels in (PIXELS, 255 - PIXELS):
        found = _extract(pixels, features, tmp_path)
        np.testing.assert_allclose(found, _expected(pixels), atol=1e-6)


def test_a_damaged_file_is_made_again_and_none_is_kept_where_nothing_can_be(features, tmp_path):
    _extract(PIXELS, features, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"half")
    np.testing.assert_allclose(_extract(PIXELS, features, tmp_path), _expected(PIXELS), atol=1e-6)
    assert kept.stat().st_size > 100
    found = _extract(PIXELS, features, kept / "below a file")
    np.testing.assert_allclose(found, _expected(PIXELS), atol=1e-6)


def test_references_that_do_not_fit_are_refused():
    fine = lambda images: {"features": jnp.zeros((len(images), 2))}  # noqa: E731
    with pytest.raises(UserError, match="fake: 9 reference images are too few; need 10"):
        reference.check_fit(_source(PIXELS[:9]), fine)
    reference.check_fit(_source(PIXELS), fine)


def _sorted_by_class(num=300):
    """A source of ten classes, one after the other; the label is the brightness."""
    label = (np.arange(num) * 10 // num).astype(np.int32)
    pixels = np.broadcast_to(label[:, None, None, None], (num, 4, 4, 1)).astype(np.uint8)
    return arrays.ArraySource({"image": pixels, "label": label}, name="sorted", num_classes=10)


def _classes(images):
    return images[:, 0, 0, 0]


def test_images_sorted_by_class_are_taken_from_every_class():
    source = _sorted_by_class()
    taken = _classes(reference.take(source, 100))
    assert len(taken) == 100 and set(taken) == set(range(10)) and (np.diff(taken) >= 0).all()
    np.testing.assert_array_equal(taken, _classes(reference.take(source, 100)))
    assert not np.array_equal(taken, _classes(reference.take(source, 100, seed=1)))


def _splits(test=True):
    def load(*, split):
        if split == "test" and not test:
            raise arrays.MissingSplit("no test split")
        whole = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
        part = {"image": whole if not test else whole[:120] if split == "train" else whole[120:]}
        return arrays.ArraySource(part, name="numbers")

    return load


def _numbers(source):
    return set(_classes(reference.take(source, 1000)).tolist())


@pytest.mark.parametrize(
    ("split", "trained_on", "real", "floor"),
    [
        ("test", "floor", range(120, 200), range(120)),
        ("train", "real", range(120), range(120, 200)),
    ],
)
def test_the_floor_comes_from_the_split_that_is_not_the_reference(split, trained_on, real, floor):
    found = reference.open_reference(_splits(), split=split, num=50)
    assert found.trained_on == trained_on and found.split == split != found.floor_split
    assert (_numbers(found.real), _numbers(found.floor)) == (set(real), set(floor))
    assert len(found.train) == 120


def test_all_joins_the_splits_and_the_floor_is_what_is_left():
    found = reference.open_reference(_splits(), split="all", num=150)
    real, floor = _numbers(found.real), _numbers(found.floor)
    assert len(real) == 150 and real | floor == set(range(200)) and not real & floor
    assert min(real) < 120 < max(real) and found.trained_on == ""
    assert reference.open_reference(_splits(), split="all", num=195).floor is None


def test_without_a_test_split_two_random_halves_take_its_place_where_that_is_asked_for():
    load = _splits(test=False)
    found = reference.open_reference(load, split="test", num=50, divide=True)
    real, floor = _numbers(found.real), _numbers(found.floor)
    assert len(real) == len(floor) == 100 and not real & floor
    assert real != set(range(0, 200, 2)) and real != set(range(100))
    assert "half" in found.split and found.trained_on == "floor"
    with pytest.raises(UserError, match="no test split"):
        reference.open_reference(load, split="test", num=50)


def test_data_without_labels_name_the_features_that_need_none():
    source = arrays.ArraySource({"image": PIXELS}, name="unlabelled")
    with pytest.raises(UserError, match="without labels.*--features=autoencoder or .*random"):
        reference.open_features("classifier", dataset="arrays", train=source)


def test_random_features_are_named_and_the_same_each_time():
    source = arrays.ArraySource({"image": PIXELS}, name="unlabelled")
    (first, record), (second, again) = (
        reference.open_features("random", dataset="arrays", train=source) for _ in range(2)
    )
    assert record == again and record["name"] == "random"
    blank = jnp.zeros((2, 4, 4, 1))
    np.testing.assert_array_equal(first(blank)["features"], second(blank)["features"])


def test_the_autoencoder_is_trained_once_for_the_same_images(tmp_path, monkeypatch):
    short = functools.partial(unlabelled.train_autoencoder, num_steps=2, batch_size=4)
    calls = []
    monkeypatch.setattr(
        reference.unlabelled,
        "train_autoencoder",
        lambda images, **options: calls.append(options) or short(images),
    )
    source = arrays.ArraySource({"image": PIXELS}, name="unlabelled")
    other = arrays.ArraySource({"image": 255 - PIXELS}, name="unlabelled")
    open_ = functools.partial(reference.open_features, "autoencoder", dataset="arrays")
    first, again, others, unkept = (
        open_(train=train, cache=cache)[1]
        for train, cache in (
            (source, str(tmp_path)),
            (source, str(tmp_path)),
            (other, str(tmp_path)),
            (source, ""),
        )
    )
    assert len(calls) == 3 and first == again == unkept != others
    assert first["name"] == "autoencoder" and first["images"] == len(PIXELS)
    for _ in range(2):  # one of as many steps is another one
        reference.open_autoencoder(PIXELS, dataset="arrays", cache=str(tmp_path), num_steps=5)
    assert calls[3:] == [{"num_steps": 5}]


def test_a_weak_classifier_is_warned_of_and_others_are_not(tmp_path):
    record = weights.load(runs.classifier_file())[1]
    assert reference.feature_warnings(record) == []  # its accuracy is not known
    assert reference.feature_warnings({"test_accuracy": 0.9}) == []
    (text,) = reference.feature_warnings({"test_accuracy": 0.832})
    assert "right on 83.2% of its test images, below 90%" in text


def test_classifiers_of_folders_are_found_by_content_and_size(tmp_path):
    params, _ = weights.load(runs.classifier_file())
    source = arrays.ArraySource(runs.images(), name="folder", num_classes=3)
    place = weights.classifier_path(
        "folder", image_shape=(8, 8, 1), fingerprint=source.fingerprint, folder=tmp_path
    )
    weights.save(place, params, {"dataset": "folder", "test_accuracy": 0.5})
    options = {"dataset": "folder", "path": str(tmp_path)}
    _, record = reference.open_features("classifier", train=source, **options)
    assert record["test_accuracy"] == 0.5
    with pytest.raises(UserError, match="no classifier of folder at 12x12x1.*--image_size=12"):
        larger = data.registry.conform(source, image_size=12)
        reference.open_features("classifier", train=larger, **options)
