"""Features of reference images: extracted once, kept by content, made again if damaged."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import arrays
from jaxgan.metrics import reference
from jaxgan.types import UserError

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
