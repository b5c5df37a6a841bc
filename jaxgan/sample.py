"""Sampling: images from a generator's variables."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgan import latents
from jaxgan.types import Array, Key, PyTree, UserError


@partial(jax.jit, static_argnums=0)
def apply(gen: nn.Module, variables: PyTree, z: Array, label: Array | None = None) -> Array:
    """Generates images as at test time, with the running statistics.

    Args:
      gen: the generator.
      variables: its variables, usually a state's `gen_ema`.
      z: [B, Z].
      label: [B] int32, or None where not conditional.

    Returns:
      [B, H, W, C] in [-1, 1].
    """
    return gen.apply(variables, z, label, train=False)  # pyright: ignore[reportReturnType]


def generate(
    gen: nn.Module,
    variables: PyTree,
    z: Array,
    label: Array | None = None,
    *,
    batch_size: int = 256,
    place: Callable[[Array], Any] = jnp.asarray,
) -> np.ndarray:
    """Generates any number of images, a batch at a time.

    Args:
      gen: the generator.
      variables: its variables, usually a state's `gen_ema`.
      z: [N, Z].
      label: [N] int32, or None where not conditional.
      batch_size: images at a time; fewer need less memory.
      place: puts latents and labels on the device; `scoring.spread()` uses several devices.

    Returns:
      [N, H, W, C] float32 in [-1, 1], on the host.
    """
    num = z.shape[0]
    size = min(batch_size, num)
    parts = []
    for start in range(0, num, size):
        # The last batch reaches back, so that all have one shape and compile once.
        first = min(start, num - size)
        labels = None if label is None else place(label[first : first + size])
        made = np.asarray(apply(gen, variables, place(z[first : first + size]), labels))
        parts.append(made[start - first : size].astype(np.float32))  # `place` may add rows
    return np.concatenate(parts)


def draw(key: Key, num: int, dim: int, *, truncation: float = 0.0) -> Array:
    """Draws latents to sample from.

    Args:
      key: consumed.
      num: how many.
      dim: size of one latent.
      truncation: components stay within this many standard deviations; 0 truncates nothing.

    Returns:
      [num, dim].

    Raises:
      UserError: the truncation is negative.
    """
    if truncation < 0:
        raise UserError(f"truncation {truncation} is negative; give 0 for none, or about 0.5 to 2")
    if truncation:
        return latents.truncated(key, num, dim, truncation)
    return latents.normal(key, num, dim)


def interpolations(key: Key, rows: int, columns: int, dim: int) -> Array:
    """Draws latents on great circles between random pairs, one pair a row.

    Args:
      key: consumed.
      rows: pairs.
      columns: latents on the way from one to the other, both included.
      dim: size of one latent.

    Returns:
      [rows * columns, dim], row by row.
    """
    ends = latents.normal(key, 2 * rows, dim)
    return latents.slerp(ends[:rows], ends[rows:], columns).reshape(rows * columns, dim)
