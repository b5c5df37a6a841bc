import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxgan.data import blur


def random_images(shape=(3, 12, 9, 3), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 12, 9, 3), (3, 7, 30, 1), (3, 2, 1, 1)])
def test_each_image_is_convolved_with_its_own_kernel_as_scipy_does(shape):
    images = random_images(shape)
    kernel = np.random.default_rng(1).uniform(0, 1, (3, 5, 5)).astype(np.float32)
    expected = [
        scipy.ndimage.convolve(images[i], kernel[i][..., None], mode="reflect") for i in range(3)
    ]
    np.testing.assert_allclose(blur.filtered(images, jnp.asarray(kernel)), expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.4, 1.6, 3.0])
def test_a_gaussian_is_scipys(sigma):
    images = random_images((2, 20, 17, 3))
    expected = scipy.ndimage.gaussian_filter(images, sigma, axes=(1, 2), mode="reflect")
    kernel = blur.gaussian_kernel(jnp.full(2, sigma), int(4 * sigma + 0.5))
    np.testing.assert_allclose(blur.filtered(images, kernel), expected, atol=2e-6)


def test_no_blur_is_the_identity():
    images = random_images()
    for kernel in (
        blur.gaussian_kernel(jnp.zeros(3), 2),
        blur.motion_kernel(jnp.ones(3), jnp.arange(3.0), 2),
    ):
        np.testing.assert_allclose(blur.filtered(images, kernel), images, atol=1e-6)


def test_motion_along_the_axes_is_a_mean_over_so_many_pixels():
    kernel = np.asarray(blur.motion_kernel(jnp.array([5.0, 4.0]), jnp.array([0, np.pi / 2]), 3))
    row = np.zeros((7, 7))
    row[3, 1:6] = 0.2
    np.testing.assert_allclose(kernel[0], row, atol=1e-6)
    # Of an even length, both ends are halves.
    np.testing.assert_allclose(kernel[1, :, 3], np.array([0, 0.5, 1, 1, 1, 0.5, 0]) / 4, atol=1e-6)


def test_motion_by_45_degrees_goes_up_to_the_right_and_is_as_long_as_it_says():
    kernel = np.asarray(blur.motion_kernel(jnp.array([9.0]), jnp.array([np.pi / 4]), 5))[0]
    np.testing.assert_allclose(kernel.sum(), 1, atol=1e-6)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    np.testing.assert_allclose(kernel, kernel.T[::-1, ::-1], atol=1e-7)
    y, x = np.mgrid[5:-6:-1, -5:6]
    assert (kernel * x * y).sum() > 3  # upwards to the right
    along, across = (x + y) / 2**0.5, (x - y) / 2**0.5
    # The variance of an even line of 9 pixels is 81 / 12, of its width 1 / 6.
    np.testing.assert_allclose((kernel * along**2).sum(), 81 / 12, rtol=0.06)
    np.testing.assert_allclose((kernel * across**2).sum(), 1 / 6, rtol=0.06)


def test_jit_changes_nothing():
    images, kernel = random_images(), blur.gaussian_kernel(jnp.array([0.5, 1.0, 2.0]), 4)
    compiled = jax.jit(blur.filtered)(images, kernel)
    np.testing.assert_allclose(compiled, blur.filtered(images, kernel), atol=1e-6)
