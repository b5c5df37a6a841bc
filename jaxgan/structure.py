"""The maths of structural similarity, which metrics and losses share.

The formulas use only what arrays of NumPy and of JAX both have (operators, slices, `clip`, `mean`),
so that a metric in float64 on the host and a loss inside a compiled step are the same lines.
"""

import functools
import operator
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array

WINDOW, SIGMA = 11, 1.5  # of the Gaussian that local moments are taken over
K1, K2 = 0.01, 0.03  # keep quotients stable, as shares of the range
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest first; Wang et al., section 3.2

Some = TypeVar("Some", Array, np.ndarray)


def terms(a: Some, b: Some, *, low: float, high: float) -> tuple[Some, Some]:
    """The luminance term of SSIM, and that of contrast and structure, where the window fits.

    See "Image Quality Assessment: From Error Visibility to Structural Similarity" by Wang et al.
    (https://doi.org/10.1109/TIP.2003.819861), eq. 13, with its Gaussian window of 11 pixels:

      (2 m_a m_b + c1) / (m_a^2 + m_b^2 + c1)  =  1 - (m_a - m_b)^2 / (m_a^2 + m_b^2 + c1)
      (2 v_ab + c2) / (v_a + v_b + c2)         =  1 - v_(a-b) / (v_a + v_b + c2)

    of local means m, counted from `low`, and variances v.

    Args:
      a: [..., H, W, C] with values from `low` to `high`, H and W of 11 or more.
      b: the same shape.
      low: the darkest value.
      high: the brightest.

    Returns:
      Two of [..., H - 10, W - 10, C]: luminance in [0, 1], contrast and structure in [-1, 1]; both
      1 to the last bit where the images are equal.
    """
    c1, c2 = (K1 * (high - low)) ** 2, (K2 * (high - low)) ** 2
    mean_a, mean_b = blurred(a), blurred(b)
    # Rounding makes small variances negative, and the quotient could have a pole.
    var_a, var_b = (blurred(x * x) - m**2 for x, m in ((a, mean_a), (b, mean_b)))
    var_a, var_b = var_a.clip(min=0), var_b.clip(min=0)
    apart, difference = mean_a - mean_b, a - b
    var_apart = (blurred(difference * difference) - apart**2).clip(min=0)
    luminance = 1 - apart**2 / ((mean_a - low) ** 2 + (mean_b - low) ** 2 + c1)
    return luminance, 1 - var_apart / (var_a + var_b + c2)


def scale_terms(a: Some, b: Some, *, low: float, high: float) -> list[Some]:
    """The factors of multi-scale SSIM, before their powers.

    See "Multi-scale Structural Similarity for Image Quality Assessment" by Wang et al.
    (https://doi.org/10.1109/ACSSC.2003.1292216), eq. 7.

    Args:
      a: [..., H, W, C] with values from `low` to `high`, H and W of 11 or more.
      b: the same shape.
      low: the darkest value.
      high: the brightest.

    Returns:
      One [...] in [-1, 1] for each of `scale_weights`: means over pixels and channels of contrast
      and structure, at the last scale times luminance.
    """
    last = len(scale_weights(min(a.shape[-3:-1]))) - 1
    found = []
    for scale in range(last + 1):
        luminance, contrast = terms(a, b, low=low, high=high)
        found.append((luminance * contrast if scale == last else contrast).mean((-3, -2, -1)))
        a, b = (halved(a), halved(b)) if scale < last else (a, b)
    return found


def scale_weights(side: int) -> tuple[float, ...]:
    """The powers of the scales of multi-scale SSIM.

    Args:
      side: pixels of the images' shorter side.

    Returns:
      Five, finest first; under 176 pixels fewer, down to the last scale where the window fits. They
      are scaled to add up to 1; the published five add up to 1.0001.
    """
    scales = [n for n in range(len(SCALE_WEIGHTS)) if not n or side >> n >= WINDOW]
    total = sum(SCALE_WEIGHTS[: len(scales)])
    return tuple(weight / total for weight in SCALE_WEIGHTS[: len(scales)])


def gaussian() -> np.ndarray:
    """The window that local moments are taken over, along one side.

    Returns:
      [11], of sum 1.
    """
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    return window / window.sum()


def blurred(x: Some) -> Some:
    """Gaussian means over the places where the window fits.

    Args:
      x: [..., H, W, C], H and W of 11 or more.

    Returns:
      [..., H - 10, W - 10, C].
    """
    if isinstance(x, np.ndarray):
        return filtered(filtered(x, gaussian(), axis=-3), gaussian(), axis=-2)
    # Sums of shifted slices have derivatives that XLA fuses into one loop, a hundred times slower.
    down, across = (jnp.asarray(_band(side), x.dtype) for side in x.shape[-3:-1])
    return jnp.einsum("hH,...HWc,wW->...hwc", down, x, across, precision="highest")


def filtered(x: Some, window: np.ndarray, *, axis: int) -> Some:
    """Weighted sums along an axis where the window fits; on a CPU quicker than a convolution.

    Args:
      x: an array, of the window's length or more along the axis.
      window: [k] weights.
      axis: the axis.

    Returns:
      The array, shorter by k - 1 along the axis.
    """
    before, length = (slice(None),) * (axis % x.ndim), x.shape[axis] - len(window) + 1
    parts = (
        weight * x[(*before, slice(start, start + length))]
        for start, weight in enumerate(window.tolist())
    )
    return functools.reduce(operator.add, parts)


def halved(x: Some) -> Some:
    """Means over 2 x 2 pixels; an odd last row or column is left out.

    Args:
      x: [..., H, W, C].

    Returns:
      [..., H // 2, W // 2, C].
    """
    height, width = x.shape[-3] // 2, x.shape[-2] // 2
    rows = x[..., : 2 * height : 2, :, :] + x[..., 1 : 2 * height : 2, :, :]
    return (rows[..., : 2 * width : 2, :] + rows[..., 1 : 2 * width : 2, :]) / 4


def _band(side: int) -> np.ndarray:
    """[side - 10, side]: the window, one place further in every row."""
    return filtered(np.eye(side), gaussian(), axis=0)
