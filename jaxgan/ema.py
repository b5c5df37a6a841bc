"""Exponential moving averages of parameters."""

import jax
import jax.numpy as jnp

from jaxgan.types import Array, PyTree


def decay_from_half_life(half_life: float, batch_size: int) -> float:
    """Turns a half-life in images into the decay of one step: `0.5 ** (batch_size / half_life)`.

    See "Progressive Growing of GANs" by Karras et al. (https://arxiv.org/abs/1710.10196).

    Args:
      half_life: images (not steps) after which a parameter's weight has halved; 0 keeps no memory.
      batch_size: images a step, over all devices.

    Returns:
      The decay, in [0, 1).
    """
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


def warmed_up(decay: float, step: Array) -> Array:
    """Lowers a decay early in training, so that the average forgets the random start.

    `min(decay, (1 + step) / (10 + step))`.

    Args:
      decay: the decay reached in the end, in [0, 1).
      step: [] int32, steps taken.

    Returns:
      [] float32, the decay to use at this step.
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def update(average: PyTree, values: PyTree, decay: float | Array) -> PyTree:
    """Moves an average towards new values: `decay * average + (1 - decay) * values`.

    Args:
      average: pytree of arrays; float leaves keep their dtype.
      values: pytree of the same structure and shapes.
      decay: weight of the old average, in [0, 1].

    Returns:
      The new average; leaves that are not floating point are taken from `values`.
    """

    def blend(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        # As a difference, an average that has arrived stays exactly where it is.
        return (old + (1.0 - decay) * (new.astype(old.dtype) - old)).astype(old.dtype)

    return jax.tree.map(blend, average, values)
