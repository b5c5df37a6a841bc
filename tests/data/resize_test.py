"""Bicubic resizing: hand numbers, a loop over pixels in NumPy, Pillow, and published decibels."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxgan import images
from jaxgan.data import pixels, resize
from jaxgan.types import UserError


def random_images(shape=(2, 13, 11, 3), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def cubic(x):
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def imresize(line, new, scale):
    """MATLAB's imresize of the first axis, one pixel after another, counted from 1 as there."""
    old, narrow = len(line), min(1.0, scale)
    result = np.zeros((new, *line.shape[1:]))
    for x in range(1, new + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        total = 0.0
        for place in range(int(np.floor(u - 4 / narrow)), int(np.ceil(u + 4 / narrow)) + 1):
            weight = cubic(narrow * (u - place))
            inside = place
            while not 1 <= inside <= old:  # mirrored as often as it takes
                inside = 1 - inside if inside < 1 else 2 * old + 1 - inside
            result[x - 1] += weight * line[inside - 1]
            total += weight
        result[x - 1] /= total
    return result


def both_axes(batch, size, scales):
    down = [imresize(image.astype(np.float64), size[0], scales[0]) for image in batch]
    across = [imresize(image.swapaxes(0, 1), size[1], scales[1]).swapaxes(0, 1) for image in down]
    return np.stack(across)


def test_a_point_enlarged_twice_has_keys_weights():
    image = np.zeros((1, 1, 9, 1), np.float32)
    image[0, 0, 4] = 1
    row = np.asarray(resize.enlarge(image, factor=2))[0, 0, :, 0]
    # Keys' cubic at distances 1.75, 1.25, 0.75 and 0.25.
    half = [-0.0234375, -0.0703125, 0.2265625, 0.8671875]
    np.testing.assert_allclose(row, [0] * 5 + half + half[::-1] + [0] * 5, atol=1e-7)


def test_halves_have_the_weights_of_the_widened_kernel():
    image = np.zeros((1, 24, 1, 1), np.float32)
    image[0, 11] = 1
    column = np.asarray(resize.bicubic(image, (12, 1)))[0, :, 0, 0]
    # The point lies 1.5 pixels above, 0.5 below and so on of the new centres, half as far scaled.
    wanted = [-0.03515625, 0.43359375, 0.11328125, -0.01171875]
    np.testing.assert_allclose(column[4:8], wanted, atol=1e-7)
    assert not column[:4].any() and not column[8:].any()


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(2, 13, 11, 3), (1, 3, 24, 1)])
def test_shrinking_is_matlabs_everywhere(factor, shape):
    batch = random_images(shape)
    size = -(-shape[1] // factor), -(-shape[2] // factor)
    expected = both_axes(batch, size, (1 / factor, 1 / factor))
    np.testing.assert_allclose(resize.shrink(batch, factor=factor), expected, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_is_matlabs_everywhere(factor):
    batch = random_images((2, 5, 1, 3))
    expected = both_axes(batch, (5 * factor, factor), (factor, factor))
    np.testing.assert_allclose(resize.enlarge(batch, factor=factor), expected, atol=2e-6)


def test_any_size_is_matlabs_everywhere():
    batch = random_images()
    expected = both_axes(batch, (9, 20), (9 / 13, 20 / 11))
    np.testing.assert_allclose(resize.bicubic(batch, (9, 20)), expected, atol=2e-6)
    np.testing.assert_allclose(resize.bicubic(batch, (13, 11)), batch, atol=1e-6)


@pytest.mark.parametrize("size, edge", [((16, 12), 2), ((12, 8), 2), ((96, 72), 8), ((30, 50), 3)])
def test_inside_it_is_pillows(size, edge):
    batch = random_images((1, 48, 36, 1))
    picture = PIL.Image.fromarray(batch[0, ..., 0])
    expected = np.asarray(picture.resize(size[::-1], PIL.Image.Resampling.BICUBIC))
    found = np.asarray(resize.bicubic(batch, size))[0, ..., 0]
    inside = np.s_[edge:-edge, edge:-edge]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-6)
    assert np.abs(found - expected).max() > 1e-3  # the edges differ, as documented


def test_a_plain_image_stays_plain_and_jit_changes_nothing():
    plain = np.full((2, 7, 9, 3), 0.5, np.float32)
    np.testing.assert_allclose(resize.shrink(plain, factor=3), 0.5, atol=1e-6)
    batch = random_images()
    compiled = jax.jit(lambda x: resize.shrink(x, factor=2))(batch)
    np.testing.assert_allclose(compiled, resize.shrink(batch, factor=2), atol=1e-6)
    assert resize.shrink(jnp.asarray(batch, jnp.bfloat16), factor=2).dtype == jnp.bfloat16


def test_impossible_sizes_are_refused():
    for factor in (0, -2, 1.5):
        with pytest.raises(UserError, match="use a whole number, 1 or more"):
            resize.shrink(random_images(), factor=factor)
    with pytest.raises(UserError, match=r"size \(0, 3\) is not possible"):
        resize.bicubic(random_images(), (0, 3))


@pytest.mark.parametrize("factor, decibels", [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_published_decibels_of_set5_are_met(real_data, factor, decibels):
    # "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", table 3: bicubic.
    found = []
    for path in sorted((real_data / "restoration" / "set5").glob("*.png")):
        rgb = pixels.decode(path, channels=3).astype(np.float64)
        rgb = rgb[: len(rgb) // factor * factor, : rgb.shape[1] // factor * factor]
        luma = 16 + rgb @ [65.481, 128.553, 24.966] / 255
        truth = (np.round(luma) / 127.5 - 1).astype(np.float32)[None, ..., None]
        small = images.from_uint8(jnp.asarray(images.to_uint8(resize.shrink(truth, factor=factor))))
        large = images.to_uint8(resize.enlarge(small, factor=factor))
        error = large.astype(np.float64) - images.to_uint8(truth)
        error = error[:, factor:-factor, factor:-factor]
        found.append(10 * np.log10(255**2 / np.square(error).mean()))
    np.testing.assert_allclose(np.mean(found), decibels, atol=0.03)
