"""JPEG in JAX beside Pillow's files, and numbers worked by hand."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.fft

from jaxgan.data import jpeg


def picture(height=40, width=48, channels=3, seed=0):
    """uint8 [H, W, C]: smooth, with edges and some noise, as photographs are."""
    y, x, c = np.mgrid[:height, :width, :channels].astype(np.float64)
    values = 128 + 60 * np.sin(x / 7 + c) + 40 * np.cos(y / 5 - c) + 50 * (x + y > 45)
    values += np.random.default_rng(seed).normal(0, 6, values.shape)
    return np.clip(values, 0, 255).round().astype(np.uint8)


def through_pillow(image, quality):
    file = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(PIL.Image.open(file)).reshape(image.shape).astype(np.float64)


def through_jax(image, quality):
    value = jpeg.compress(jnp.asarray(image[None] / 127.5 - 1, jnp.float32), jnp.array([quality]))
    return (np.asarray(value[0], np.float64) + 1) * 127.5


def decibels(a, b):
    return 10 * np.log10(255**2 / max(np.square(a - b).mean(), 1e-9))


@pytest.mark.parametrize("quality", [5, 30, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_is_pillows(quality, channels):
    image = picture(channels=channels)
    theirs, ours = through_pillow(image, quality), through_jax(image, quality)
    # 50 dB is a difference of one in most values, or a few ties in the rounding of frequencies.
    assert decibels(ours, theirs) > max(50, decibels(theirs, image) + 4)


@pytest.mark.parametrize("height, width", [(8, 8), (13, 21), (1, 1)])
def test_sides_that_are_no_multiples_of_eight_are_pillows_too(height, width):
    image = picture(height, width)
    assert decibels(through_jax(image, 40), through_pillow(image, 40)) > 50


def test_tables_at_every_quality_are_those_that_pillow_writes():
    for quality in (1, 10, 49, 50, 51, 75, 99, 100):
        file = io.BytesIO()
        PIL.Image.fromarray(picture(8, 8)).save(file, "JPEG", quality=quality)
        written = PIL.Image.open(file).quantization
        for number, table in enumerate((jpeg.LUMINANCE, jpeg.CHROMINANCE)):
            ours = np.asarray(jpeg.scaled(table, jnp.array([quality])))[0]
            np.testing.assert_array_equal(ours.ravel(), written[number])


def test_one_block_is_scipys_transform_rounded():
    image = picture(8, 8, 1)
    frequencies = scipy.fft.dctn(image[..., 0] - 128.0, norm="ortho")
    kept = np.round(frequencies / jpeg.LUMINANCE) * jpeg.LUMINANCE
    expected = np.clip(np.round(scipy.fft.idctn(kept, norm="ortho") + 128), 0, 255)
    np.testing.assert_allclose(through_jax(image, 50)[..., 0], expected, atol=1e-3)


def test_a_plain_block_is_off_by_less_than_half_a_step_of_its_mean():
    # Grey 77: the mean is 8 x (77 - 128) = -408 = 16 x -25.5; at quality 50 it becomes 16 x -26.
    plain = np.full((8, 8, 1), 77, np.uint8)
    np.testing.assert_allclose(through_jax(plain, 50), 128 - 16 * 26 / 8, atol=1e-4)
    np.testing.assert_allclose(through_jax(plain, 100), 77, atol=1e-4)  # steps of 1/8


def test_each_image_has_its_own_quality_and_jit_changes_nothing():
    images = jnp.asarray(np.stack([picture(seed=i) for i in range(3)]) / 127.5 - 1, jnp.float32)
    quality = jnp.array([5, 50, 95])
    together = np.asarray(jax.jit(jpeg.compress)(images, quality))
    apart = np.concatenate([jpeg.compress(images[i : i + 1], quality[i : i + 1]) for i in range(3)])
    assert (np.abs(together - apart) < 1e-5).mean() > 0.99  # but for ties
    errors = np.square(together - images).mean((1, 2, 3))
    assert errors[0] > errors[1] > errors[2]
    np.testing.assert_allclose((together + 1) * 127.5, np.round((together + 1) * 127.5), atol=1e-3)
