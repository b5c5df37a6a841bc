"""The augmentation of classifiers: images moved by some pixels, and mirrored."""

import jax
import jax.numpy as jnp

from jaxgan.types import Array, Key


def shift(key: Key, images: Array, *, most: int) -> Array:
    """Moves each image by up to `most` pixels each way, repeating the border.

    Args:
      key: consumed.
      images: [B, H, W, C].
      most: pixels, 0 or more.

    Returns:
      [B, H, W, C].
    """
    return moved(images, jax.random.randint(key, (images.shape[0], 2), -most, most + 1))


def moved(images: Array, offset: Array) -> Array:
    """Moves each image by its own offset, repeating the border.

    Args:
      images: [B, H, W, C].
      offset: [B, 2] integers, rows down and columns right.

    Returns:
      [B, H, W, C].
    """
    num, height, width, _ = images.shape
    rows = jnp.clip(jnp.arange(height)[None] - offset[:, :1], 0, height - 1)  # [B, H]
    columns = jnp.clip(jnp.arange(width)[None] - offset[:, 1:], 0, width - 1)  # [B, W]
    return images[jnp.arange(num)[:, None, None], rows[:, :, None], columns[:, None, :]]


def mirror(key: Key, images: Array) -> Array:
    """Mirrors each image left-right with probability 1/2.

    Args:
      key: consumed.
      images: [B, H, W, C].

    Returns:
      [B, H, W, C].
    """
    flipped = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)
