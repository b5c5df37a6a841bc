"""Blur: kernels of a lens and of a moving hand, one an image, and the convolution with them."""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array


def gaussian_kernel(sigma: Array, radius: int) -> Array:
    """Makes a Gaussian kernel for each image.

    Args:
      sigma: [B], standard deviation in pixels; 0 leaves an image as it is.
      radius: pixels to each side of the middle.

    Returns:
      [B, 2 * radius + 1, 2 * radius + 1], each of sum 1.
    """
    place = jnp.arange(-radius, radius + 1.0)[None] / jnp.maximum(sigma, 1e-2)[:, None]
    line = jax.nn.softmax(-0.5 * jnp.square(place))
    return line[:, :, None] * line[:, None, :]


def motion_kernel(length: Array, angle: Array, radius: int) -> Array:
    """Makes the kernel of a straight motion for each image: a line, one pixel wide.

    A pixel's weight falls from 1 on the line to 0 at a pixel's distance.

    Args:
      length: [B], of the line in pixels; 1 leaves an image as it is.
      angle: [B] in radians, from the horizontal, counter-clockwise.
      radius: pixels to each side of the middle.

    Returns:
      [B, 2 * radius + 1, 2 * radius + 1], each of sum 1.
    """
    place = jnp.arange(-radius, radius + 1.0)
    right, up = place[None, None, :], -place[None, :, None]
    cosine, sine = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    along, across = right * cosine + up * sine, up * cosine - right * sine
    beyond = jnp.maximum(jnp.abs(along) - (length[:, None, None] - 1.0) / 2.0, 0.0)
    weight = jnp.maximum(1.0 - jnp.hypot(across, beyond), 0.0)
    return weight / weight.sum((1, 2), keepdims=True)


def filtered(images: Array, kernel: Array) -> Array:
    """Convolves each image with its own kernel; beyond the edge lies the mirror image.

    By Fourier transforms: no library has a fast convolution whose kernels differ within a batch.

    Args:
      images: [B, H, W, C].
      kernel: [B, 2 * r + 1, 2 * r + 1].

    Returns:
      [B, H, W, C].
    """
    chex.assert_rank([images, kernel], [4, 3])
    radius, (height, width) = kernel.shape[1] // 2, images.shape[1:3]
    edge = (radius, radius)
    padded = jnp.pad(images.astype(jnp.float32), ((0, 0), edge, edge, (0, 0)), mode="symmetric")
    size = padded.shape[1:3]
    spectrum = jnp.fft.rfft2(padded, axes=(1, 2)) * jnp.fft.rfft2(kernel, size)[..., None]
    result = jnp.fft.irfft2(spectrum, size, axes=(1, 2))[:, 2 * radius :, 2 * radius :]
    return result[:, :height, :width].astype(images.dtype)
