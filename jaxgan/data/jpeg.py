"""JPEG as a function of an image: what is left after compression, without a file.

See "The JPEG still picture compression standard" by Wallace
(https://doi.org/10.1109/30.125072) and ITU-T T.81. Only quantisation loses anything; the coding of
the numbers after it is exact and left out. Colour is kept at full resolution (4:4:4). Every
rounding of an encoder and a decoder is done, so that the result is what a library would give but
for a few ties. Its gradient is zero.
"""

import chex
import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array

SIDE = 8  # of the blocks that are transformed

# T.81, tables K.1 and K.2: steps at quality 50, by vertical and horizontal frequency.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.array(
    [
        [17, 18, 24, 47, 99, 99, 99, 99],
        [18, 21, 26, 66, 99, 99, 99, 99],
        [24, 26, 56, 99, 99, 99, 99, 99],
        [47, 66, 99, 99, 99, 99, 99, 99],
        [99, 99, 99, 99, 99, 99, 99, 99],
        [99, 99, 99, 99, 99, 99, 99, 99],
        [99, 99, 99, 99, 99, 99, 99, 99],
        [99, 99, 99, 99, 99, 99, 99, 99],
    ]
)
# JFIF 1.02: red, green and blue in 0..255 to luma and the two differences of colour.
_TO_YCC = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)
_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136286, -0.714136286], [1.0, 1.772, 0.0]])
_BIT = 1e-3  # more than float32 gets wrong of a number in 0..255


def compress(images: Array, quality: Array) -> Array:
    """Compresses and decompresses each image at its own quality.

    Args:
      images: [B, H, W, C] in [-1, 1], C of 1 or 3; sides that are no multiples of 8 are filled up
        with their last pixel, as libjpeg does.
      quality: [B] in 1..100, a whole number.

    Returns:
      [B, H, W, C] in [-1, 1], each value one of 256.
    """
    chex.assert_rank(quality, 1)
    chex.assert_shape(images, (None, None, None, {1, 3}))
    _, height, width, channels = images.shape
    values = _rounded((images.astype(jnp.float32) + 1.0) * 127.5)
    if channels == 3:
        lower = jnp.array([[[[0.0, 2 * _BIT, 2 * _BIT]]]])  # libjpeg has halves of colour go down
        values = _rounded(_mixed(values, _TO_YCC) + _middle() - lower)
    fill = ((0, 0), (0, -height % SIDE), (0, -width % SIDE), (0, 0))
    blocks = _blocks(jnp.pad(values, fill, mode="edge") - 128.0)
    tables = jnp.stack([scaled(LUMINANCE, quality)] + [scaled(CHROMINANCE, quality)] * 2, -1)
    tables = tables[:, None, :, None, :, :channels]  # [B, 1, 8, 1, 8, C]
    blocks = _transformed(_quantised(_transformed(blocks, _DCT), tables) * tables, _DCT.T)
    values = _rounded(_whole(blocks)[:, :height, :width] + 128.0)
    if channels == 3:
        values = _rounded(_mixed(values - _middle(), _TO_RGB))
    return (values / 127.5 - 1.0).astype(images.dtype)


def scaled(table: np.ndarray, quality: Array) -> Array:
    """Scales a table of quantisation steps as the Independent JPEG Group's library does.

    Args:
      table: [8, 8], `LUMINANCE` or `CHROMINANCE`.
      quality: [B] in 1..100, a whole number; 50 gives the table itself, 100 ones.

    Returns:
      [B, 8, 8] float32, whole numbers in 1..255.
    """
    quality = quality.astype(jnp.int32)[:, None, None]
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return jnp.clip((jnp.asarray(table)[None] * percent + 50) // 100, 1, 255).astype(jnp.float32)


def _dct() -> np.ndarray:
    """T.81, A.3.3: the orthonormal cosine transform of 8 samples, frequencies down."""
    frequency, sample = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    waves = np.cos((2 * sample + 1) * frequency * np.pi / (2 * SIDE)) * np.sqrt(2 / SIDE)
    return waves * np.where(frequency == 0, np.sqrt(0.5), 1.0)


_DCT = _dct()


def _transformed(blocks: Array, matrix: np.ndarray) -> Array:
    """Multiplies both axes of every block [B, h, 8, w, 8, C] by a matrix."""
    waves = jnp.asarray(matrix, jnp.float32)
    blocks = jnp.einsum("uy,bhywxc->bhuwxc", waves, blocks, precision="highest")
    return jnp.einsum("vx,bhuwxc->bhuwvc", waves, blocks, precision="highest")


def _quantised(frequencies: Array, tables: Array) -> Array:
    """Rounds to whole steps, halves away from zero.

    Halves are common, as a mean is a multiple of 1/8: libjpeg's transform gives all frequencies in
    such units, so that halves are exact and not at the mercy of the last bit.
    """
    eighths = jnp.abs(jnp.round(8.0 * frequencies))
    return jnp.sign(frequencies) * jnp.floor((eighths + 4.0 * tables) / (8.0 * tables))


def _blocks(values: Array) -> Array:
    batch, height, width, channels = values.shape
    return values.reshape(batch, height // SIDE, SIDE, width // SIDE, SIDE, channels)


def _whole(blocks: Array) -> Array:
    batch, rows, _, columns, _, channels = blocks.shape
    return blocks.reshape(batch, rows * SIDE, columns * SIDE, channels)


def _mixed(values: Array, matrix: np.ndarray) -> Array:
    return jnp.einsum(
        "ij,bhwj->bhwi", jnp.asarray(matrix, jnp.float32), values, precision="highest"
    )


def _middle() -> Array:
    """Of the range of luma and colours: 0 for no colour is kept as 128."""
    return jnp.array([[[[0.0, 128.0, 128.0]]]])


def _rounded(values: Array) -> Array:
    """What eight bits hold; halves, which plain blocks have, go up whatever their last bit."""
    return jnp.clip(jnp.floor(values + (0.5 + _BIT)), 0.0, 255.0)
