"""Transforms of images by given amounts: the deterministic maths under `ada`.

All keep the shape, take any number of channels, are differentiable, and give an image back bit for
bit where its amount says so. Products are at full precision: in the short formats that
accelerators prefer, a pixel's coordinate would be off by more than a pixel.
"""

import math
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.types import Array

Taps = tuple[Array, Array]  # indices and weights [B, H, W, taps] of neighbours on one axis

NUM_BANDS = 4
_ROLL_OFF = 0.1  # cycles a pixel from where `warp` keeps all to where it keeps nothing
# The low-pass of the wavelet sym2 (Daubechies' of four taps), from its closed form.
_SYM2 = np.array([1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5]) / (4 * 2**0.5)


def warp(images: Array, inverse: Array) -> Array:
    """Moves the pixels of each image by an affine map; what lies outside is the mirror image.

    Interpolates with the cubic of Catmull and Rom, so that whole-pixel maps lose nothing. An image
    that shrinks is filtered first: frequencies that the result's pixels cannot show would come
    back as false ones (StyleGAN2-ADA filters with the wavelet sym6 around a warp at twice the
    size). Of the result's frequencies, along either axis, those up to 1/2 cycle a pixel are kept
    and those from 0.6 on removed.

    Args:
      images: [B, H, W, C].
      inverse: [B, 3, 3], from places (x, y, 1) in the result to places in the image: in pixels from
        the centre, x to the right and y down. Rounded to 13 bits an entry.

    Returns:
      [B, H, W, C].
    """
    x, y = _sources(images, inverse)
    plane = _low_passed(images, inverse.astype(jnp.float32)[:, :2, :2])
    result = _gathered(plane, _cubic(y, plane.shape[1]), _cubic(x, plane.shape[2]))
    return result.astype(images.dtype)


def move_pixels(images: Array, inverse: Array) -> Array:
    """The map of `warp` without interpolation: each pixel of the result is the nearest one.

    Args:
      images: [B, H, W, C].
      inverse: [B, 3, 3], as in `warp`.

    Returns:
      [B, H, W, C].
    """
    x, y = _sources(images, inverse)
    result = _gathered(images, _nearest(y, images.shape[1]), _nearest(x, images.shape[2]))
    return result.astype(images.dtype)


def mix_channels(images: Array, matrix: Array) -> Array:
    """Maps the channels of each pixel affinely.

    Args:
      images: [B, H, W, C].
      matrix: [B, C, C + 1], the last column being added.

    Returns:
      [B, H, W, C].
    """
    batch, channels = images.shape[0], images.shape[-1]
    chex.assert_shape(matrix, (batch, channels, channels + 1))
    mixed = jnp.einsum(
        "bhwj,bij->bhwi", images.astype(jnp.float32), matrix[..., :-1], precision="highest"
    )
    return (mixed + matrix[:, None, None, :, -1]).astype(images.dtype)


def scale_bands(images: Array, gains: Array) -> Array:
    """Amplifies four bands of spatial frequency, in both directions.

    See "Training Generative Adversarial Networks with Limited Data" by Karras et al.
    (https://arxiv.org/abs/2006.06676), appendix B: the bands are those of an undecimated wavelet
    tree, from the lowest frequencies up, and add up to the image. Its edges mirror.

    Args:
      images: [B, H, W, C].
      gains: [B, 4], 1 to leave a band as it is.

    Returns:
      [B, H, W, C].
    """
    chex.assert_shape(gains, (images.shape[0], NUM_BANDS))
    result = images.astype(jnp.float32)
    for axis, product in ((1, "bij,bjwc->biwc"), (2, "bij,bhjc->bhic")):
        bands = jnp.asarray(_band_matrices(images.shape[axis]))
        # Around the identity, so that gains of 1 are exact.
        change = jnp.einsum("bk,kij->bij", gains - 1.0, bands, precision="highest")
        matrix = jnp.eye(images.shape[axis])[None] + change
        result = jnp.einsum(product, matrix, result, precision="highest")
    return result.astype(images.dtype)


def band_filters() -> np.ndarray:
    """The filters of `scale_bands`, symmetric about their middle; their sum is the identity.

    Returns:
      [4, 43] float64: below pi / 8, to pi / 4, to pi / 2, to pi.
    """
    low = np.convolve(_SYM2, _SYM2[::-1]) / 2  # half-band: passes below pi / 2, without a shift
    high = -low
    high[len(high) // 2] += 1
    filters, passed, step = [], np.ones(1), 1
    for _ in range(NUM_BANDS - 1):
        filters.append(np.convolve(passed, _dilated(high, step)))
        passed, step = np.convolve(passed, _dilated(low, step)), 2 * step
    filters.append(passed)
    length = len(passed)
    return np.stack([np.pad(f, (length - len(f)) // 2) for f in filters[::-1]])


def _dilated(taps: np.ndarray, step: int) -> np.ndarray:
    result = np.zeros((len(taps) - 1) * step + 1)
    result[::step] = taps
    return result


def _band_matrices(side: int) -> np.ndarray:
    """[4, side, side]: each band's filter as a matrix on one axis that mirrors at its ends."""
    filters = band_filters()
    reach = filters.shape[1] // 2
    places, period = np.arange(side), max(2 * (side - 1), 1)
    matrices = np.zeros((NUM_BANDS, side, side))
    for offset in range(-reach, reach + 1):
        source = np.minimum((places + offset) % period, -(places + offset) % period)
        matrices[:, places, source] += filters[:, reach + offset, None]
    return matrices.astype(np.float32)


def _sources(images: Array, inverse: Array) -> tuple[Array, Array]:
    """[B, H, W] columns and rows, in pixels from the first, that each pixel of a result is from."""
    batch, height, width, _ = images.shape
    chex.assert_shape(inverse, (batch, 3, 3))
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = (jnp.arange(width) - middle_x)[None, None]
    y = (jnp.arange(height) - middle_y)[None, :, None]
    # XLA computes a place anew wherever it is read, in one kernel with fused multiply-adds and in
    # another without; near whole numbers, a pixel would then meet the weight of its neighbour. With
    # 13 bits an entry, products with places (up to 11 bits) are exact, and all kernels agree.
    m = lax.reduce_precision(inverse.astype(jnp.float32), exponent_bits=8, mantissa_bits=12)
    m = m[..., None, None]  # [B, 3, 3, 1, 1]
    columns = m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2] + middle_x
    rows = m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2] + middle_y
    return columns, rows


def _gathered(images: Array, rows: Taps, columns: Taps) -> Array:
    """Sums the pixels where given rows and columns meet, each by its weight."""
    batch, _, width, channels = images.shape
    index = rows[0][..., :, None] * width + columns[0][..., None, :]
    weight = rows[1][..., :, None] * columns[1][..., None, :]
    shape, num_taps = index.shape[1:3], math.prod(index.shape[3:])
    # One gather for all: XLA would compute its input anew for each of sixteen.
    flat, index = images.reshape(batch, -1, channels), index.reshape(batch, -1, 1)
    pixels = jnp.take_along_axis(flat, index, 1).reshape(batch, -1, num_taps, channels)
    result = (weight.reshape(*pixels.shape[:3], 1) * pixels).sum(2)
    return result.reshape(batch, *shape, channels)


def _low_passed(images: Array, linear: Array) -> Array:
    """One period of each image's mirrored plane [B, 2H - 2, 2W - 2, C], filtered where it shrinks.

    The mirrored image is a sum of cosines cos(a y) cos(b x), of frequencies 0 to 1/2 cycle a pixel.
    Each is two waves, cos(a y + b x) and cos(a y - b x), that a map turned against the axes takes
    to different frequencies, and so have gains of their own.
    """
    rows, columns = (_waves(side) for side in images.shape[1:3])
    pixels = images.astype(jnp.float32)
    weights = _on_axes(rows.analysis, columns.analysis, pixels)
    y, x = (np.linspace(0.0, 0.5, side) * (side > 1) for side in images.shape[1:3])
    y, x = jnp.float32(y)[None, :, None], jnp.float32(x)[None, None, :]
    up, down = _gain(linear, x, y), _gain(linear, x, -y)
    even = _on_axes(rows.cosines, columns.cosines, 0.5 * (up + down)[..., None] * weights)
    odd = _on_axes(rows.sines, columns.sines, 0.5 * (up - down)[..., None] * weights)
    shrinks = (jnp.abs(linear).sum(1).max(-1) > 1.0)[:, None, None, None]
    even, odd = jnp.where(shrinks, even, pixels), jnp.where(shrinks, odd, 0.0)
    # Past the end cosines go on as their mirror image, sines with the opposite sign.
    return _continued(even, 1.0) - _continued(odd, -1.0)


def _continued(half: Array, sign: float) -> Array:
    """A whole period, from the half of it up to the axes' ends."""
    half = jnp.concatenate([half, sign * half[:, -2:0:-1]], 1)
    return jnp.concatenate([half, sign * half[:, :, -2:0:-1]], 2)


def _gain(linear: Array, x: Array, y: Array) -> Array:
    """[B, H, W]: how much of waves with frequencies x and y passes, by those in the result."""
    m = linear[..., None, None]
    gain = jnp.ones(())
    for axis in (0, 1):
        excess = jnp.abs(m[:, 0, axis] * x + m[:, 1, axis] * y) - 0.5
        t = jnp.clip(excess / _ROLL_OFF, 0.0, 1.0)
        gain = gain * (1.0 - t * t * (3.0 - 2.0 * t))
    return gain


class _Waves(NamedTuple):
    """Matrices [side, side] of a mirrored axis: waves in its pixels, and weights of the cosines."""

    cosines: np.ndarray
    sines: np.ndarray
    analysis: np.ndarray


def _waves(side: int) -> _Waves:
    places = np.arange(side)
    angle = np.pi * np.outer(places, places) / max(side - 1, 1)
    matrices = np.cos(angle), np.sin(angle), np.linalg.inv(np.cos(angle))
    return _Waves(*(matrix.astype(np.float32) for matrix in matrices))


def _on_axes(rows: np.ndarray, columns: np.ndarray, images: Array) -> Array:
    """Multiplies the rows and the columns of images by a matrix each."""
    result = jnp.einsum("ij,bjwc->biwc", rows, images, precision="highest")
    return jnp.einsum("ij,bhjc->bhic", columns, result, precision="highest")


def _cubic(place: Array, period: int) -> Taps:
    """Four neighbours of places [B, H, W] on a periodic axis, and their weights."""
    floor = jnp.floor(place)
    t = place - floor
    weights = (
        0.5 * t * (t * (2 - t) - 1),
        0.5 * t * t * (3 * t - 5) + 1,
        0.5 * t * (t * (4 - 3 * t) + 1),
        0.5 * t * t * (t - 1),
    )
    index = floor.astype(jnp.int32)[..., None] + jnp.arange(-1, 3)[None, None, None]
    return index % period, jnp.stack(weights, -1)


def _nearest(place: Array, side: int) -> Taps:
    # Halves all go the same way: a turn whose sides are odd and even meets nothing else, and
    # rounding them to even would show one pixel twice and leave out the next.
    index = jnp.floor(place + 0.5).astype(jnp.int32)[..., None]
    return _mirrored(index, side), jnp.ones_like(place)[..., None]


def _mirrored(index: Array, side: int) -> Array:
    """Indices on an axis that mirrors at its end pixels: -1 is 1, `side` is `side - 2`."""
    period = max(2 * (side - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)
