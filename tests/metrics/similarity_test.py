import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxgan import images as images_lib
from jaxgan.metrics import similarity
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())


def pair(side=64):
    a = references.random_images(side, num=1).astype(np.float64)
    noise = np.random.default_rng(5).normal(0, 20, a[0].shape)
    b = np.clip(a + noise[None], 0, 255)
    return tuple(jnp.asarray(x / 127.5 - 1, jnp.float32) for x in (a, b))


def test_ssim_equals_scikit_image():
    np.testing.assert_allclose(similarity.ssim(*pair()), [REFERENCES["ssim"]], rtol=1e-4)


def naive_multi_scale(a, b):
    """Wang et al. in NumPy and SciPy, in float64 on the range [0, 255]."""
    a, b = ((np.asarray(x[0], np.float64) + 1) * 127.5 for x in (a, b))
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x):
        for axis in (0, 1):
            x = scipy.ndimage.correlate1d(x, window, axis=axis)
        return x[5:-5, 5:-5]

    weights, result = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]), 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        ma, mb = blur(a), blur(b)
        contrast = (2 * (blur(a * b) - ma * mb) + (0.03 * 255) ** 2) / (
            blur(a * a) - ma**2 + blur(b * b) - mb**2 + (0.03 * 255) ** 2
        )
        luminance = (2 * ma * mb + (0.01 * 255) ** 2) / (ma**2 + mb**2 + (0.01 * 255) ** 2)
        result *= (contrast * luminance if scale == 4 else contrast).mean() ** weight
        a, b = (x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3)) for x in (a, b))
    return result


def test_multi_scale_ssim_equals_float64():
    a, b = pair(192)
    np.testing.assert_allclose(
        similarity.multi_scale_ssim(a, b), [naive_multi_scale(a, b)], rtol=1e-4
    )


@pytest.mark.parametrize("side", [11, 28, 32])
def test_equal_images_have_similarity_one(side):
    a, b = pair(side)
    np.testing.assert_allclose(similarity.multi_scale_ssim(a, a), [1.0], rtol=1e-5)
    assert similarity.multi_scale_ssim(a, b)[0] < 0.99


def test_diversity_tells_one_image_from_many():
    many = references.random_images(16, num=40, channels=1)
    one = np.repeat(many[:1], 40, 0)
    key = jax.random.key(0)
    assert similarity.diversity(key, one, pairs=30) == pytest.approx(1.0, abs=1e-5)
    value = similarity.diversity(key, many, pairs=30)
    assert value < 0.6
    floats = images_lib.from_uint8(many)
    assert similarity.diversity(key, floats, pairs=30, batch_size=7) == pytest.approx(value)


def test_diversity_refuses_what_the_window_does_not_fit():
    with pytest.raises(UserError, match="11 pixels or more"):
        similarity.diversity(jax.random.key(0), np.zeros((5, 8, 8, 1), np.uint8))


def test_sliced_wasserstein_in_one_dimension_is_scipys():
    x, y = np.random.default_rng(0).normal(size=(2, 300, 1)).astype(np.float32)
    y = 2 * y + 1
    value = similarity.sliced_wasserstein(jax.random.key(0), x, y, projections=4)
    np.testing.assert_allclose(value, scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]), rtol=1e-4)


def test_sliced_wasserstein_of_a_shift_is_the_mean_projection_of_it():
    x = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    value = similarity.sliced_wasserstein(
        jax.random.key(0), x, x + np.float32([3.0, 4.0]), projections=4000
    )
    assert value == pytest.approx(5 * 2 / np.pi, rel=0.03)  # the mean of |cos| is 2 / pi
    with pytest.raises(UserError, match="one shape"):
        similarity.sliced_wasserstein(jax.random.key(0), x, x[:50])


def test_laplacian_pyramid_adds_up_to_the_image():
    images = images_lib.from_uint8(references.random_images(64))
    levels = [similarity.laplacian_level(images, n, last=n == 2) for n in range(3)]
    assert [level.shape[1] for level in levels] == [64, 32, 16]
    image = levels[-1]
    for level in reversed(levels[:-1]):
        spread = jnp.zeros_like(level).at[:, ::2, ::2].set(4 * image)
        image = level + similarity._binomial(spread)
    np.testing.assert_allclose(image, images, atol=1e-5)
