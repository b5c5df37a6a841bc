"""Distances between all pairs of two sets of features, some rows at a time."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array, UserError

MAX_PAIRS = 2**25  # distances on the device at a time: 128 MiB of float32


@jax.jit
def squared(x: Array, y: Array) -> Array:
    """Squared Euclidean distances of all pairs.

    Args:
      x: [N, D], near the origin: centre both sets, for the result is a difference of squares.
      y: [M, D].

    Returns:
      [N, M], 0 or more.
    """
    product = jnp.matmul(x, y.T, precision="highest")
    squares = jnp.square(x).sum(1)[:, None] + jnp.square(y).sum(1)[None, :]
    return jnp.maximum(squares - 2.0 * product, 0.0)


def centred(*sets: Array | np.ndarray) -> list[Array]:
    """Shifts sets of vectors by the mean of the first, which leaves distances as they are.

    Args:
      *sets: each [N, D].

    Returns:
      The sets, float32, on the device.

    Raises:
      UserError: the sets are empty, or differ in D.
    """
    shapes = [list(np.shape(points)) for points in sets]
    if any(len(shape) != 2 or 0 in shape or shape[1] != shapes[0][1] for shape in shapes):
        raise UserError(f"features are {' and '.join(map(str, shapes))}; need [N, D] with one D")
    mean = np.asarray(sets[0]).mean(0, dtype=np.float64).astype(np.float32)[None]
    return [jnp.asarray(points, jnp.float32) - mean for points in sets]


def chunks(x: Array, num_columns: int) -> Iterator[tuple[int, Array]]:
    """Cuts rows so that distances to `num_columns` points stay within `MAX_PAIRS`.

    Args:
      x: [N, D].
      num_columns: points at the other end.

    Yields:
      The number of the first row, and rows [n, D].
    """
    rows = max(1, MAX_PAIRS // num_columns)
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]


def nearest(x: Array, y: Array) -> np.ndarray:
    """Distance of each point to the nearest of a set.

    Args:
      x: [N, D].
      y: [M, D].

    Returns:
      [N].
    """
    least = jax.jit(lambda rows, y: jnp.sqrt(squared(rows, y).min(1)))
    return np.concatenate([least(rows, y) for _, rows in chunks(x, len(y))])
