"""Translating pictures: the tiles are the whole, at any size, and mistakes are one line."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import sample, translate
from jaxgan.data import masks
from jaxgan.nets import dncnn, srresnet, unet
from jaxgan.types import UserError
from tests.helpers import retoucher

TRANSLATORS = {
    # They reach 15, 5 and 6 pixels far; tiles begin at multiples of 2, 2 and 1.
    "unet": translate.Translator(unet.Restorer(widths=(4, 4), blocks=1)),
    "dncnn": translate.Translator(dncnn.Restorer(width=4, depth=2, fold=2)),
    "srresnet": translate.Translator(srresnet.Generator(scale=2, width=4, blocks=1), scale=2),
}


def variables_of(translator):
    """Variables none of which is zero, so that the correction is seen."""
    channels = translator.source_channels + translator.masked
    shapes = jax.eval_shape(
        lambda: translator.gen.init(
            jax.random.key(0), np.zeros((1, 16, 16, channels), np.float32), train=False
        )
    )
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


def picture_of(size, channels=3):
    return np.random.default_rng(1).uniform(-0.5, 0.5, (*size, channels)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def whole(gen, variables, picture):
    return jnp.clip(gen.apply(variables, picture[None], train=False)[0], -1, 1)


@pytest.mark.parametrize("name", TRANSLATORS)
# Larger than a window on both sides or on one, with last tiles one pixel wide, and on neither.
@pytest.mark.parametrize("size", [(49, 65), (58, 7), (3, 1)])
def test_tiles_are_the_whole(name, size):
    translator = TRANSLATORS[name]
    variables, picture = variables_of(translator), picture_of(size)
    made = translate.translate(translator, variables, picture, tile=8)
    expected = np.asarray(whole(translator.gen, variables, picture))
    scale = translator.scale
    assert made.shape == (size[0] * scale, size[1] * scale, 3) and made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-3)
    assert (
        np.abs(expected).max() <= 1
        and np.abs(made - picture.repeat(scale, 0).repeat(scale, 1)).max() > 0.05
    )


@pytest.mark.parametrize("length", [1, 8, 31, 32, 40, 41, 200])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 12), (4, 0), (16, 4)])
def test_windows_keep_each_pixel_once_away_from_their_cut_edges(length, tile, overlap):
    found = translate.windows(length, tile=tile, overlap=overlap)
    seen = min(length, tile + 2 * overlap)
    kept = [pixel for at in found for pixel in range(at.first, at.stop)]
    assert kept == list(range(length))
    for at in found:
        stop = at.start + seen
        assert 0 <= at.start and stop <= length
        assert at.start == 0 or at.first - at.start >= overlap
        assert stop == length or stop - at.stop >= overlap


def test_of_a_masked_translator_the_tiles_are_the_whole_too():
    gen = dncnn.Restorer(width=4, depth=2, fold=2)
    translator = translate.Translator(gen, masked=True)
    variables, picture = variables_of(translator), picture_of((33, 21))
    mask = np.random.default_rng(2).integers(0, 2, (33, 21)).astype(bool)
    made = translate.translate(translator, variables, picture, mask=mask, tile=4)
    seen = masks.punch(picture[None], mask[None, ..., None])[0]
    np.testing.assert_allclose(made, whole(gen, variables, seen), atol=1e-3)


def test_a_network_that_says_nothing_of_its_reach_sees_the_whole():
    made = translate.translate(
        retoucher.TRANSLATORS["whole"], {}, picture := picture_of((40, 30)), tile=4
    )
    np.testing.assert_allclose(made, np.broadcast_to(picture.mean((0, 1)), made.shape), atol=1e-5)


def test_all_tiles_of_pictures_are_one_program():
    translate._applied.clear_cache()
    for size in ((40, 31), (77, 53)):
        translate.translate(retoucher.TRANSLATORS["echo"], {}, picture_of(size), tile=4)
    assert translate._applied._cache_size() == 1  # pyright: ignore


def test_what_is_made_is_cut_off_at_black_and_white():
    made = translate.translate(retoucher.TRANSLATORS["echo"], {}, 3 * picture_of((5, 5)))
    assert made.min() == -1 and made.max() == 1


def test_mistakes_are_one_line():
    translator, picture = retoucher.TRANSLATORS["echo"], picture_of((5, 7))
    for changes, options, match in [
        ({"source_channels": 1}, {}, "of 3 channels; the network sees 1"),
        ({}, {"mask": np.zeros((5, 7))}, "takes no mask"),
        ({}, {"tile": -1}, "tile -1 is not possible; use 1 pixel or more"),
        ({"masked": True}, {}, "needs a mask"),
        ({"masked": True}, {"mask": np.zeros((7, 5))}, "a mask of .7, 5. for a picture of .5, 7."),
        ({"least": 6}, {}, "needs 6 or more a side"),
    ]:
        changed = dataclasses.replace(translator, **changes)
        with pytest.raises(UserError, match=match):
            sample.translate(changed, {}, picture, **options)
