"""Retouching: colours, depth, transparency and holes, under translators that tell what they saw."""

import tracemalloc

import numpy as np
import pytest

from jaxgan import retouch
from jaxgan.data import resize
from jaxgan.data.photos import Photo
from jaxgan.types import UserError
from tests.helpers.retoucher import TRANSLATORS

RANDOM = np.random.default_rng(0)
DEPTHS = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])


def photo_of(channels=3, dtype=np.uint8, *, alpha=False, size=(21, 34)):
    values = RANDOM.integers(0, np.iinfo(dtype).max + 1, (*size, channels + 1), dtype)
    return Photo(values[..., :channels], values[..., channels:] if alpha else None, b"icc", b"exif")


def apply(kind, photo, **options):
    return retouch.retouch(TRANSLATORS[kind], {}, photo, **{"tile": 4, **options})


@DEPTHS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["echo", "grey echo"])
def test_where_nothing_changes_no_bit_does(kind, channels, dtype):
    photo = photo_of(channels, dtype, alpha=True)
    made = apply(kind, photo)
    np.testing.assert_array_equal(made.pixels, photo.pixels)
    np.testing.assert_array_equal(made.alpha, photo.alpha)
    assert made.pixels.dtype == dtype and (made.icc, made.exif) == (b"icc", b"exif")


def test_every_value_comes_back():
    values = np.arange(65536).astype(np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(apply("echo", Photo(values), tile=512).pixels, values)


def test_a_network_of_greys_changes_the_luminance_and_keeps_the_colours():
    photo = photo_of()
    made = apply("grey", photo).pixels.astype(float)
    luma = photo.pixels @ np.array([0.299, 0.587, 0.114])
    exact = photo.pixels + (255 - 2 * luma)[..., None]
    inside = (exact > 0) & (exact < 255)
    assert np.abs(made - exact)[inside].max() <= 0.51 and inside.mean() > 0.3
    assert (made[exact < 0] == 0).all() and (made[exact > 255] == 255).all()


def test_a_network_of_colours_leaves_a_grey_photo_grey():
    photo = photo_of(1)
    made = apply("negative", photo)
    np.testing.assert_array_equal(made.pixels, 255 - photo.pixels)


@DEPTHS
def test_a_network_that_makes_colours_sees_the_luminance(dtype):
    grey, colour = photo_of(1, dtype), photo_of(3, dtype)
    made = apply("tint", grey).pixels
    np.testing.assert_array_equal(made[..., :1], grey.pixels)
    assert made.shape[-1] == 3 and made[..., 1:].max() == 0
    luma = colour.pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(apply("tint", colour).pixels[..., 0] - luma).max() <= 0.51


@DEPTHS
def test_transparency_and_colours_grow_bicubically(dtype):
    photo, largest = photo_of(3, dtype, alpha=True), np.iinfo(dtype).max
    made = apply("twice grey", photo)
    assert made.alpha is not None and photo.alpha is not None

    def grown(values):
        values = values[None].astype(np.float32)
        return np.asarray(resize.enlarge(values, factor=2))[0]

    assert np.abs(made.alpha - np.clip(grown(photo.alpha), 0, largest)).max() < 0.6
    luma = (photo.pixels @ np.array([0.299, 0.587, 0.114]))[..., None]
    exact = grown(photo.pixels - luma) + luma.repeat(2, 0).repeat(2, 1)  # Echo repeats pixels
    assert np.abs(made.pixels - np.clip(exact, 0, largest)).max() < 0.6


def test_what_is_known_stays_and_the_network_sees_no_hole():
    photo, mask = photo_of(), np.zeros((21, 34), bool)
    mask[3:9, 5:30] = True
    made = apply("white", photo, mask=mask)
    np.testing.assert_array_equal(made.pixels[~mask], photo.pixels[~mask])
    assert (made.pixels[mask] == 255).all()


def test_tiles_without_a_hole_are_not_made(monkeypatch):
    calls, real = [], retouch.translate._applied
    monkeypatch.setattr(
        retouch.translate, "_applied", lambda *args: calls.append(args) or real(*args)
    )
    mask = np.zeros((21, 34), bool)
    apply("white", photo_of(), mask=mask)
    assert not calls
    mask[20, 33] = True
    apply("white", photo_of(), mask=mask)
    assert len(calls) == 1


def test_before_and_after_lie_side_by_side():
    photo = photo_of(1, alpha=True)
    after = apply("twice", photo)
    both = retouch.beside(photo, after)
    assert both.pixels.shape == (42, 136, 1) and both.alpha is not None
    np.testing.assert_array_equal(both.pixels[:, 68:], after.pixels)
    np.testing.assert_array_equal(both.pixels[:, :68], retouch.enlarged(photo.pixels, 2))
    assert both.alpha.shape == (42, 136, 1)
    tinted = retouch.beside(photo, apply("tint", photo))
    np.testing.assert_array_equal(tinted.pixels[:, :34], photo.pixels.repeat(3, -1))


def test_a_photo_is_never_as_a_whole_in_floats():
    photo = photo_of(size=(600, 800))
    apply("grey", photo, tile=64)  # compiled
    tracemalloc.start()
    apply("grey", photo, tile=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * photo.pixels.nbytes  # as floats, it alone would be twice as much again


def test_progress_is_told_in_pixels_of_the_photo():
    done = []
    apply("twice", photo_of(), done=done.append)
    assert sum(done) == 21 * 34 and len(done) > 4


def test_mistakes_are_one_line():
    photo = photo_of()
    with pytest.raises(UserError, match="21 x 5 pixels .* are too few; this network needs 8 or"):
        apply("large", photo_of(size=(21, 5)))
    with pytest.raises(UserError, match="needs a mask"):
        apply("white", photo)
    with pytest.raises(UserError, match="takes no mask"):
        apply("echo", photo, mask=np.zeros((21, 34), bool))
    with pytest.raises(UserError, match="the mask is 34 x 21 .* the photo 21 x 34; make them"):
        apply("white", photo, mask=np.zeros((34, 21), bool))
