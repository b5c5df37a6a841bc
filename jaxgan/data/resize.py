"""Bicubic resizing by the convention of MATLAB's `imresize`, which super-resolution papers follow.

The centres of the first and of the last pixel keep their distance to the edge of the picture, the
kernel is widened where the picture shrinks, its weights are scaled to sum to 1, and beyond the
edge the picture is mirrored, its last pixel repeated. Pillow's BICUBIC differs at the edge alone:
it leaves out what lies beyond and scales the remaining weights. Values are floats throughout, so
that nothing is rounded or clipped: MATLAB's result for `im2double(image)`.
"""

import math

import chex
import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array, UserError

_REACH = 2.0  # of the cubic kernel, to either side


def shrink(images: Array, *, factor: int) -> Array:
    """Makes images smaller by a whole factor, as `imresize(images, 1 / factor, "bicubic")` does.

    Args:
      images: [B, H, W, C].
      factor: 1 or more. A side that it does not divide is rounded up, the last pixel then lying
        partly outside; papers cut such sides off first.

    Returns:
      [B, ceil(H / factor), ceil(W / factor), C], not clipped.

    Raises:
      UserError: an impossible factor.
    """
    _check_factor(factor)
    height, width = (-(-side // factor) for side in images.shape[1:3])
    return _resize(images, (height, width), (1 / factor, 1 / factor))


def enlarge(images: Array, *, factor: int) -> Array:
    """Makes images larger by a whole factor, as `imresize(images, factor, "bicubic")` does.

    Args:
      images: [B, H, W, C].
      factor: 1 or more.

    Returns:
      [B, H * factor, W * factor, C], not clipped.

    Raises:
      UserError: an impossible factor.
    """
    _check_factor(factor)
    height, width = (side * factor for side in images.shape[1:3])
    return _resize(images, (height, width), (factor, factor))


def bicubic(images: Array, size: tuple[int, int]) -> Array:
    """Resizes images to any size, as `imresize(images, size, "bicubic")` does.

    See "Cubic convolution interpolation for digital image processing" by Keys
    (https://doi.org/10.1109/TASSP.1981.1163711), with a = -1/2.

    Args:
      images: [B, H, W, C].
      size: height and width, 1 or more each; one may grow while the other shrinks.

    Returns:
      [B, height, width, C], not clipped.

    Raises:
      UserError: an impossible size.
    """
    if min(size) < 1:
        raise UserError(f"size {size} is not possible; use a height and a width of 1 or more")
    height, width = images.shape[1:3]
    return _resize(images, size, (size[0] / height, size[1] / width))


def _resize(images: Array, size: tuple[int, int], scale: tuple[float, float]) -> Array:
    """One product with a matrix an axis; the matrices are constants of the compiled step."""
    chex.assert_rank(images, 4)
    rows, columns = (
        jnp.asarray(_weights(old, new, by), jnp.float32)
        for old, new, by in zip(images.shape[1:3], size, scale, strict=True)
    )
    values = images.astype(jnp.float32)
    values = jnp.einsum("yh,bhwc->bywc", rows, values, precision="highest")
    values = jnp.einsum("xw,bywc->byxc", columns, values, precision="highest")
    return values.astype(images.dtype)


def _weights(old: int, new: int, scale: float) -> np.ndarray:
    """[new, old]: how much of each old pixel there is in each new one, on one axis."""
    widen = max(1.0, 1.0 / scale)
    centre = (np.arange(new) + 0.5) / scale - 0.5
    taps = math.ceil(2 * _REACH * widen) + 2
    place = np.floor(centre - _REACH * widen)[:, None] + np.arange(taps)  # [new, taps]
    weight = _keys((centre[:, None] - place) / widen)
    weight /= weight.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(old), np.arange(old)[::-1]])
    inside = mirrored[place.astype(int) % (2 * old)]
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], inside), weight)
    return matrix


def _keys(x: np.ndarray) -> np.ndarray:
    """The cubic of Keys' equation 15, which is 0 beyond 2 pixels."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _check_factor(factor: int) -> None:
    if factor < 1 or factor != int(factor):
        raise UserError(f"factor {factor} is not possible; use a whole number, 1 or more")
