"""Metrics of images themselves: structural similarity, and the sliced Wasserstein distance."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import images as images_lib
from jaxgan import structure
from jaxgan.types import Array, Key, UserError

WINDOW, gaussian = structure.WINDOW, structure.gaussian  # of the local moments
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # blurs between the levels of a pyramid


@jax.jit
def ssim(a: Array, b: Array) -> Array:
    """Structural similarity of pairs of images.

    See "Image Quality Assessment: From Error Visibility to Structural Similarity" by Wang et al.
    (https://doi.org/10.1109/TIP.2003.819861), eq. 13, with its Gaussian window of 11 pixels.

    Args:
      a: [B, H, W, C] in [-1, 1], H and W of 11 or more.
      b: [B, H, W, C] in [-1, 1].

    Returns:
      [B] in [-1, 1]; 1 for equal images.
    """
    luminance, contrast = structure.terms(a, b, low=-1.0, high=1.0)
    return (luminance * contrast).mean((1, 2, 3))


@jax.jit
def multi_scale_ssim(a: Array, b: Array) -> Array:
    """Structural similarity over up to five scales.

    See "Multi-scale Structural Similarity for Image Quality Assessment" by Wang et al.
    (https://doi.org/10.1109/ACSSC.2003.1292216), eq. 7. Between pairs of samples it measures
    variety: "Conditional Image Synthesis with Auxiliary Classifier GANs" by Odena et al.
    (https://arxiv.org/abs/1610.09585). Images under 176 pixels have fewer scales, down to the
    last where the window fits; the weights of those are normalised, so numbers of different image
    sizes do not compare.

    Args:
      a: [B, H, W, C] in [-1, 1], H and W of 11 or more.
      b: [B, H, W, C] in [-1, 1].

    Returns:
      [B] in [0, 1]; 1 for equal images.
    """
    chex.assert_equal_shape((a, b))
    result = jnp.ones(a.shape[:1])
    weights = structure.scale_weights(min(a.shape[1:3]))
    for term, weight in zip(structure.scale_terms(a, b, low=-1.0, high=1.0), weights, strict=True):
        result = result * jnp.maximum(term, 0.0) ** weight  # negative terms have no such power
    return result


def diversity(
    key: Key, images: Array | np.ndarray, *, pairs: int = 1000, batch_size: int = 250
) -> float:
    """Mean multi-scale similarity of random pairs of images; the lower, the more varied.

    Args:
      key: chooses the pairs.
      images: [N, H, W, C], uint8 or in [-1, 1], of one class at best; N of 2 or more.
      pairs: number of pairs, each of two different images.
      batch_size: pairs at a time.

    Returns:
      The mean, in [0, 1].

    Raises:
      UserError: fewer than two images, or images smaller than the window.
    """
    if len(images) < 2 or min(images.shape[1:3]) < WINDOW:
        raise UserError(
            f"images {list(images.shape)}: need 2 or more, {WINDOW} pixels or more a side"
        )
    first_key, second_key = jax.random.split(key)
    first = np.asarray(jax.random.randint(first_key, (pairs,), 0, len(images)))
    second = np.asarray(jax.random.randint(second_key, (pairs,), 1, len(images)))
    second = (first + second) % len(images)
    if images.dtype == np.uint8:
        images = images_lib.from_uint8(jnp.asarray(images))
    values = [
        multi_scale_ssim(images[first[i : i + batch_size]], images[second[i : i + batch_size]])
        for i in range(0, pairs, batch_size)
    ]
    return float(np.concatenate(values).mean())


def sliced_wasserstein(
    key: Key, real: Array | np.ndarray, fake: Array | np.ndarray, *, projections: int = 512
) -> float:
    """Mean distance of two sets' projections on random directions, each sorted.

    See "Sliced and Radon Wasserstein Barycenters of Measures" by Bonneel et al.
    (https://doi.org/10.1007/s10851-014-0506-3), eq. 14, with the first power of the distance.

    Args:
      key: chooses the directions.
      real: [N, D] features or pixels.
      fake: [N, D], as many.
      projections: number of directions.

    Returns:
      The distance, 0 or more, in the units of the features.

    Raises:
      UserError: the sets differ in shape.
    """
    if np.shape(real) != np.shape(fake) or np.ndim(real) != 2:
        raise UserError(
            f"real {list(np.shape(real))} and fake {list(np.shape(fake))} must have one shape,"
            " [N, D]"
        )
    directions = np.asarray(jax.random.normal(key, (projections, np.shape(real)[1])))
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    real, fake = np.asarray(real, np.float32), np.asarray(fake, np.float32)
    some = max(1, 2**22 // len(real))  # directions at a time
    parts = [directions[i : i + some] for i in range(0, projections, some)]
    return float(np.concatenate([_projected(real, fake, part) for part in parts]).mean())


def laplacian_level(images: Array, level: int, *, last: bool) -> Array:
    """One level of the images' Laplacian pyramids.

    See "The Laplacian Pyramid as a Compact Image Code" by Burt and Adelson
    (https://doi.org/10.1109/TCOM.1983.1095851).

    Args:
      images: [N, H, W, C]; odd rows and columns at the end are left out where they are halved.
      level: how often they are halved before.
      last: takes what is left there, rather than how it differs from the next level.

    Returns:
      [N, h, w, C].
    """
    for _ in range(level):
        images = _even(images)
        images = _binomial(images)[:, ::2, ::2]
    return images if last else _band(_even(images))


def cut(key: Key, images: Array, num: int, size: int) -> Array:
    """Cuts patches at random places.

    Args:
      key: chooses the places.
      images: [N, H, W, C].
      num: patches of each image.
      size: side of a patch.

    Returns:
      [N * num, size, size, C].
    """
    total, (height, width) = num * len(images), images.shape[1:3]
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (total, 1, 1), 0, height - size + 1)
    left = jax.random.randint(column_key, (total, 1, 1), 0, width - size + 1)
    offsets = jnp.arange(size)
    owner = jnp.repeat(jnp.arange(len(images)), num)[:, None, None]
    return images[owner, top + offsets[None, :, None], left + offsets[None, None, :]]


def _projected(real: np.ndarray, fake: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distance between the two sets along each direction [P]; NumPy sorts 20 times as fast."""
    real, fake = (np.sort(directions @ points.T) for points in (real, fake))
    return np.abs(real - fake).mean(1, dtype=np.float64)


def _band(images: Array) -> Array:
    """What images [N, H, W, C], H and W even, hold that half their size cannot."""
    smaller = _binomial(images)[:, ::2, ::2]
    spread = jnp.zeros_like(images).at[:, ::2, ::2].set(4.0 * smaller)
    return images - _binomial(spread)


def _even(images: Array) -> Array:
    height, width = images.shape[1:3]
    return images[:, : height - height % 2, : width - width % 2]


@jax.jit
def _binomial(x: Array) -> Array:
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    return structure.filtered(structure.filtered(x, BINOMIAL, axis=1), BINOMIAL, axis=2)
