"""Metrics of restored images: decibels and structural similarity to the truth, edges, texture.

Each is as published for restoration: on values from 0 to 255 in float64, averaged over the images
of a set, which may differ in size. Accuracy and texture pull apart, so that neither tells enough
alone: "The Perception-Distortion Tradeoff" by Blau and Michaeli (https://arxiv.org/abs/1711.06077).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxgan import structure
from jaxgan.metrics import similarity
from jaxgan.types import Key, UserError

PEAK = 255.0
LUMA = np.array([65.481, 128.553, 24.966]) / 255  # of red, green and blue
COARSEST = 16  # pixels: shorter side of the last level that textures are compared at
PATCHES = 2**16  # of a set and level at least, so that the distance is not that of chosen places


def psnr(output: np.ndarray, target: np.ndarray, *, border: int = 0) -> float:
    """Peak signal-to-noise ratio.

    Args:
      output: [H, W, C], or [H, W]; uint8, or float in [-1, 1], which is cut off there.
      target: the same of the true image.
      border: pixels left out along each edge; for super-resolution the scale.

    Returns:
      20 log10(255 / root of the mean squared error), in decibels; infinite for equal images.

    Raises:
      UserError: the images differ in shape, or lie within the border.
    """
    a, b = _pair(output, target, border)
    error = np.square(a - b).mean()
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def ssim(output: np.ndarray, target: np.ndarray, *, border: int = 0) -> float:
    """Structural similarity.

    See "Image Quality Assessment: From Error Visibility to Structural Similarity" by Wang et al.
    (https://doi.org/10.1109/TIP.2003.819861), eq. 13, with its Gaussian window of 11 pixels, where
    that fits into the image.

    Args:
      output: [H, W, C], or [H, W]; uint8, or float in [-1, 1], which is cut off there.
      target: the same of the true image.
      border: pixels left out along each edge.

    Returns:
      The mean over pixels and channels, at most 1.

    Raises:
      UserError: the images differ in shape, or are smaller than the window.
    """
    a, b = _pair(output, target, border)
    if min(a.shape[:2]) < structure.WINDOW:
        raise UserError(
            f"images {list(a.shape)} are too small to compare; need {structure.WINDOW} pixels a "
            "side without the border"
        )
    luminance, contrast = structure.terms(a, b, low=0.0, high=PEAK)
    return float((luminance * contrast).mean())


def luminance(image: np.ndarray) -> np.ndarray:
    """Y of YCbCr by BT.601, from 16 to 235, which super-resolution is measured on.

    Grey images stay as they are, as in the published scripts of SRCNN and VDSR.

    Args:
      image: [H, W, 3], or grey [H, W, 1]; uint8, or float in [-1, 1].

    Returns:
      [H, W, 1] float in [-1, 1], not rounded.
    """
    values = _bytes(image)
    y = values if values.shape[-1] == 1 else (values @ LUMA + 16)[..., None]
    return y / (PEAK / 2) - 1


def edge_correlation(output: np.ndarray, target: np.ndarray) -> float:
    """How well edges are where they were, whatever the colours.

    Args:
      output: [H, W, C], or [H, W]; uint8, or float in [-1, 1], which is cut off there.
      target: the same of the other image.

    Returns:
      Pearson's correlation over pixels of how steep both images are: the magnitude of Sobel's
      gradient, of the mean over channels; 0 where one of them has no edges.

    Raises:
      UserError: the images differ in shape.
    """
    grey = (image.mean(-1) for image in _pair(output, target, 0))
    x, y = (np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1)).ravel() for one in grey)
    return float(np.corrcoef(x, y)[0, 1]) if x.std() and y.std() else 0.0


def texture_distance(
    key: Key,
    real: Sequence[np.ndarray],
    fake: Sequence[np.ndarray],
    *,
    num: int = 0,
    projections: int = 512,
) -> dict[str, float]:
    """Sliced Wasserstein distance of 7x7 patches, at each level of a Laplacian pyramid.

    See "Progressive Growing of GANs" by Karras et al. (https://arxiv.org/abs/1710.10196), section
    5: patches of each set are normalised to mean 0 and deviation 1 a channel. The same places are
    looked at in both sets, so that equal sets have distance 0. The floor is the distance between
    two halves of the true images.

    The paper has 128 patches of each of 16,384 images. Of a few images that is too little: Set5's
    shifted by one pixel, whose textures are the same, then have a distance of 39 from themselves,
    where it is 6 with as many patches as are taken here.

    Args:
      key: chooses places and directions.
      real: true images [H, W, C], which may differ in size; uint8 or float in [-1, 1].
      fake: the others, such as restored ones; where there are more of one kind, its last ones are
        left out.
      num: patches of each image and level; 0 for 128, or more where images are few: 65,536 in all.
      projections: number of directions.

    Returns:
      A distance for each level by its scale, "1" for the images as they are, "2" for half their
      size, ..., down to 16 pixels a side, and their "mean"; times 1000, as published.

    Raises:
      UserError: no images, or some below 16 pixels.
    """
    count = min(len(real), len(fake))
    sides = [min(image.shape[:2]) for image in (*real[:count], *fake[:count])]
    if not sides or min(sides) < COARSEST:
        raise UserError(
            f"textures need images of {COARSEST} pixels a side or more, not "
            f"{min(sides) if sides else 'none'}"
        )
    num = num or max(128, -(-PATCHES // count))
    levels = (min(sides) // COARSEST).bit_length()
    slice_key, *place_keys = jax.random.split(key, levels + 1)
    found = {}
    for level, place_key in enumerate(place_keys):
        sets = [
            _patches(place_key, images[:count], level, num, last=level == levels - 1)
            for images in (real, fake)
        ]
        distance = similarity.sliced_wasserstein(slice_key, *sets, projections=projections)
        found[str(2**level)] = 1000 * distance
    return {**found, "mean": float(np.mean(list(found.values())))}


def _patches(
    key: Key, images: Sequence[np.ndarray], level: int, num: int, *, last: bool
) -> np.ndarray:
    """Patches [N * num, 49 * C] of one level of each image's pyramid, normalised over all."""
    cut = []
    for number, image in enumerate(images):
        x = jnp.asarray(_bytes(image) / (PEAK / 2) - 1, jnp.float32)[None]
        band = similarity.laplacian_level(x, level, last=last)
        cut.append(np.asarray(similarity.cut(jax.random.fold_in(key, number), band, num, 7)))
    every = np.concatenate(cut)  # [N * num, 7, 7, C]
    every = every - every.mean((0, 1, 2))
    return (every / np.maximum(every.std((0, 1, 2)), 1e-8)).reshape(len(every), -1)


def _pair(output: np.ndarray, target: np.ndarray, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Both images from 0 to 255, [H, W, C], without their borders."""
    if np.shape(output) != np.shape(target):
        raise UserError(
            f"an image of {list(np.shape(output))} cannot be compared with one of "
            f"{list(np.shape(target))}; make them alike"
        )
    a, b = _bytes(output), _bytes(target)
    if border < 0 or min(a.shape[:2]) <= 2 * border:
        raise UserError(
            f"a border of {border} leaves nothing of an image of {list(np.shape(output))}; use a "
            "smaller one"
        )
    edge = slice(border, -border or None)
    return a[edge, edge], b[edge, edge]


def _bytes(image: np.ndarray) -> np.ndarray:
    """[H, W, C] float64 from 0 to 255."""
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.dtype == np.uint8:
        return image.astype(np.float64)
    return (np.clip(image.astype(np.float64), -1, 1) + 1) * (PEAK / 2)
