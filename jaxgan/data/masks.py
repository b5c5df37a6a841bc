"""Holes in images: where they are, and the image without what was there."""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array, Key, UserError


def punch(images: Array, mask: Array) -> Array:
    """Cuts holes into each image.

    Args:
      images: [B, H, W, C] in [-1, 1].
      mask: [B, H, W, 1], 1 where there is a hole and 0 elsewhere.

    Returns:
      [B, H, W, C + 1]: the image, 0 (mid grey) in the holes, and the mask.
    """
    chex.assert_equal_shape_prefix([images, mask], 3)
    mask = mask.astype(images.dtype)
    return jnp.concatenate([images * (1.0 - mask), mask], -1)


def squares(key: Key, shape: tuple[int, ...], share: Array, *, side: int) -> Array:
    """Draws which squares of a lattice are holes; the lattice lies differently in each image.

    Squares are taken in a random order until their pixels, those at the edge counted as far as they
    are inside, come nearest to the share.

    Args:
      key: consumed.
      shape: of the images, [B, H, W, C].
      share: [B] in [0, 1], of the pixels; met to half a square.
      side: of a square in pixels.

    Returns:
      [B, H, W, 1] float32, 1 in holes and 0 elsewhere.

    Raises:
      UserError: an impossible side.
    """
    if side < 1:
        raise UserError(f"side {side} is not possible; use 1 pixel or more")
    batch, height, width = shape[:3]
    start_key, order_key = jax.random.split(key)
    start = jax.random.randint(start_key, (batch, 2), 0, side)
    row = (jnp.arange(height)[None] + start[:, :1]) // side  # [B, H], of which row of squares
    column = (jnp.arange(width)[None] + start[:, 1:]) // side
    tall = jax.nn.one_hot(row, (height - 1) // side + 2).sum(1)  # [B, rows]
    wide = jax.nn.one_hot(column, (width - 1) // side + 2).sum(1)

    area = (tall[:, :, None] * wide[:, None, :]).reshape(batch, -1)
    order = jnp.argsort(jax.random.uniform(order_key, area.shape))
    area = jnp.take_along_axis(area, order, 1)
    taken = area.cumsum(1) - area / 2 <= share[:, None] * (height * width)
    taken = jnp.take_along_axis(taken, jnp.argsort(order), 1).reshape(batch, tall.shape[1], -1)
    taken = jnp.take_along_axis(taken, row[:, :, None], 1)  # [B, H, columns]
    taken = jnp.take_along_axis(taken, column[:, None, :], 2)  # [B, H, W]
    return taken[..., None].astype(jnp.float32)
