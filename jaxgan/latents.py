"""Latent vectors: where generated examples come from."""

import jax
import jax.numpy as jnp

from jaxgan.types import Array, Key


def normal(key: Key, num: int, dim: int) -> Array:
    """Draws standard normal latents.

    Args:
      key: consumed.
      num: how many.
      dim: size of one latent.

    Returns:
      [num, dim] float32.
    """
    return jax.random.normal(key, (num, dim))


def uniform(key: Key, num: int, dim: int) -> Array:
    """Draws latents uniform in [-1, 1), as DCGAN does.

    See "Unsupervised Representation Learning with Deep Convolutional GANs" by Radford et al.
    (https://arxiv.org/abs/1511.06434).

    Args:
      key: consumed.
      num: how many.
      dim: size of one latent.

    Returns:
      [num, dim] float32.
    """
    return jax.random.uniform(key, (num, dim), minval=-1.0, maxval=1.0)


def truncated(key: Key, num: int, dim: int, threshold: float) -> Array:
    """Draws normal latents with every component within a threshold: more typical, less varied.

    See "Large Scale GAN Training for High Fidelity Natural Image Synthesis" by Brock et al.
    (https://arxiv.org/abs/1809.11096), section 3.1.

    Args:
      key: consumed.
      num: how many.
      dim: size of one latent.
      threshold: above 0, in standard deviations; large ones give `normal`.

    Returns:
      [num, dim] float32 in [-threshold, threshold].
    """
    return jax.random.truncated_normal(key, -threshold, threshold, (num, dim))


def lerp(start: Array, end: Array, num: int) -> Array:
    """Interpolates on a straight line.

    Args:
      start: [..., Z].
      end: [..., Z].
      num: steps, both ends included.

    Returns:
      [..., num, Z].
    """
    t = _fractions(start, num)
    return (1.0 - t) * start[..., None, :] + t * end[..., None, :]


def slerp(start: Array, end: Array, num: int) -> Array:
    """Interpolates on a great circle, so that normal latents keep a typical length on the way.

    See "Sampling Generative Networks" by White (https://arxiv.org/abs/1609.04468), section 2.1.

    Args:
      start: [..., Z].
      end: [..., Z].
      num: steps, both ends included.

    Returns:
      [..., num, Z].
    """
    t = _fractions(start, num)
    a, b = start[..., None, :], end[..., None, :]
    length = jnp.linalg.norm(a, axis=-1, keepdims=True) * jnp.linalg.norm(b, axis=-1, keepdims=True)
    cosine = jnp.sum(a * b, axis=-1, keepdims=True) / jnp.maximum(length, 1e-12)
    omega = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    sine = jnp.sin(omega)
    near = sine < 1e-4  # nearly parallel: the straight line is the limit, and 0 / 0 is not
    safe = jnp.where(near, 1.0, sine)
    arc = (jnp.sin((1.0 - t) * omega) * a + jnp.sin(t * omega) * b) / safe
    return jnp.where(near, (1.0 - t) * a + t * b, arc)


def circle(start: Array, side: Array, num: int) -> Array:
    """Walks round a circle, back to where it began: of two normal latents, all are normal.

      z(t) = start cos(2 pi t) + side sin(2 pi t)

    Args:
      start: [..., Z].
      side: [..., Z], where the walk has got to after a quarter of it.
      num: steps; the one after the last would be the first again.

    Returns:
      [..., num, Z].
    """
    angle = 2 * jnp.pi * jnp.arange(num).reshape((1,) * (start.ndim - 1) + (num, 1)) / num
    return start[..., None, :] * jnp.cos(angle) + side[..., None, :] * jnp.sin(angle)


def polygon(corners: Array, num: int) -> Array:
    """Walks along straight lines from corner to corner and back to the first, resting at each.

    Args:
      corners: [..., K, Z].
      num: steps; the one after the last would be the first again.

    Returns:
      [..., num, Z].
    """
    sides = corners.shape[-2]
    at = jnp.arange(num) * sides / num
    side = at.astype(jnp.int32)
    t = ((1.0 - jnp.cos(jnp.pi * (at - side))) / 2).reshape((1,) * (corners.ndim - 2) + (num, 1))
    ends = jnp.take(corners, (side + 1) % sides, axis=-2)
    return (1.0 - t) * jnp.take(corners, side, axis=-2) + t * ends


def _fractions(start: Array, num: int) -> Array:
    """0 to 1 in `num` steps, with as many axes as the result of an interpolation has."""
    return jnp.linspace(0.0, 1.0, num).reshape((1,) * (start.ndim - 1) + (num, 1))
