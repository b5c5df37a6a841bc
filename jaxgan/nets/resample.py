"""Doubles, halves and blurs images, by the filter [1, 3, 3, 1] along each side.

Pixels are squares: the samples of the two sizes lie a quarter of a pixel apart. Beyond the edge
there are zeros, but for `enlarge`. See "Making Convolutional Networks Shift-Invariant Again" by
Zhang (https://arxiv.org/abs/1904.11486).
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax

from jaxgan.types import Array, UserError

UPS = ("transposed", "bilinear")  # how networks may double maps: by a convolution, or before one


def upsample(x: Array) -> Array:
    """Doubles both sides.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, 2 H, 2 W, C]; a constant stays the same, but for the edge.
    """
    return _filtered(lambda x: _doubled(_doubled(x, 1), 2), x)


def enlarge(x: Array) -> Array:
    """Doubles both sides bilinearly: `upsample` with the outermost pixels repeated beyond the edge.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, 2 H, 2 W, C]; a constant stays the same.
    """
    edged = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return upsample(edged)[:, 2:-2, 2:-2]


def downsample(x: Array) -> Array:
    """Halves both sides: a quarter of the transpose of `upsample`.

    Args:
      x: [B, H, W, C], H and W even.

    Returns:
      [B, H / 2, W / 2, C].
    """
    return _filtered(lambda x: _halved(_halved(x, 1), 2), x)


def blur(x: Array, *, before: int, after: int) -> Array:
    """Filters by [1, 3, 3, 1] / 8 along each side.

    Args:
      x: [B, H, W, C].
      before: zeros added above and to the left.
      after: zeros added below and to the right.

    Returns:
      [B, H + before + after - 3, W + before + after - 3, C].
    """
    edges = (before, after)
    return _filtered(lambda x: _blurred(_blurred(x, 1, edges), 2, edges), x)


def first_size(size: Sequence[int], stages: int) -> tuple[int, int]:
    """The size of the smallest feature maps.

    Args:
      size: (height, width) of the image.
      stages: of the network; each after the first doubles both.

    Returns:
      (height, width).

    Raises:
      UserError: the image's sides are not multiples of 2^(stages - 1), or too small.
    """
    height, width = size
    times = 2 ** (stages - 1)
    if height % times or width % times or min(height, width) < 2 * times:
        raise UserError(
            f"an image of {height} x {width} cannot be made by {stages} stages, which need sides "
            f"of {2 * times}, {3 * times}, {4 * times}, ...; change the size, or use "
            "another number of widths"
        )
    return height // times, width // times


def stages_for(size: Sequence[int]) -> int:
    """How many stages a network for images of a size has by default.

    Args:
      size: (height, width) of the image.

    Returns:
      The number whose smallest feature maps have 4 to 7 pixels on their shorter side: 4 for 32
      pixels, 5 for 64, 3 for 40 x 24.

    Raises:
      UserError: no number does, as for odd sides.
    """
    height, width = size
    stages = max(1, (min(size) // 4).bit_length())
    times = 2 ** (stages - 1)
    if min(size) < 8 or height % times or width % times:
        near = [max(8, times * round(side / times)) for side in size]
        raise UserError(
            f"images of {height} x {width} cannot be made by doubling {stages - 1} times; scale "
            f"or crop them to {near[0]} x {near[1]}"
        )
    return stages


def _filtered(apply: Callable[[Array], Array], x: Array) -> Array:
    """Filters in float32 at least: a sum of bfloat16 is rounded, and on CPU eight times slower."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return apply(wide).astype(x.dtype)


def _blurred(x: Array, axis: int, edges: tuple[int, int]) -> Array:
    x = _padded(x, axis, edges)
    size = x.shape[axis]
    a, b, c, d = (lax.slice_in_dim(x, i, size - 3 + i, axis=axis) for i in range(4))
    return (b + c) * 0.375 + (a + d) * 0.125


def _doubled(x: Array, axis: int) -> Array:
    """Each sample becomes two, which lie a quarter towards either neighbour."""
    x = _padded(x, axis)
    size = x.shape[axis]
    before, at, after = (lax.slice_in_dim(x, i, size - 2 + i, axis=axis) for i in range(3))
    pair = jnp.stack([at * 0.75 + before * 0.25, at * 0.75 + after * 0.25], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * (size - 2), *x.shape[axis + 1 :])


def _halved(x: Array, axis: int) -> Array:
    """Each pair of samples becomes one, with an eighth of either neighbour."""
    x = _padded(x, axis)
    size = x.shape[axis]
    a, b, c, d = (lax.slice_in_dim(x, i, size - 3 + i, stride=2, axis=axis) for i in range(4))
    return (b + c) * 0.375 + (a + d) * 0.125


def _padded(x: Array, axis: int, edges: tuple[int, int] = (1, 1)) -> Array:
    """With zeros at either end of an axis."""
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (*edges, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pads)
