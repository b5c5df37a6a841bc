"""Crops and flips of several images alike, such as the two of a pair."""

import jax
import jax.numpy as jnp

from jaxgan.types import Array, Batch, Key, UserError


def crop_and_mirror(key: Key, batch: Batch, *, crop: int = 0) -> Batch:
    """Cuts the same part out of all images of an example, and flips all or none left-right.

    See "Image-to-Image Translation with Conditional Adversarial Networks" by Isola et al.
    (https://arxiv.org/abs/1611.07004), appendix 6.2: crops of 256 out of 286 pixels, and mirroring.

    Args:
      key: consumed.
      batch: images [B, H, W, ...], of one height and width.
      crop: side of the part in pixels; 0 for the whole.

    Returns:
      The same entries, [B, crop, crop, ...].

    Raises:
      UserError: the images are smaller than the part.
    """
    num, height, width = next(iter(batch.values())).shape[:3]
    tall, wide = (crop, crop) if crop else (height, width)
    if min(height - tall, width - wide) < 0:
        raise UserError(
            f"--crop={crop} is larger than the images of {height} x {width}; use "
            f"{min(height, width)} or less"
        )
    top_key, left_key, flip_key = jax.random.split(key, 3)
    top = jax.random.randint(top_key, (num,), 0, height - tall + 1)
    left = jax.random.randint(left_key, (num,), 0, width - wide + 1)
    flipped = jax.random.bernoulli(flip_key, shape=(num, 1, 1, 1))

    def part(image: Array, top: Array, left: Array) -> Array:
        start = (top, left) + (0,) * (image.ndim - 2)
        return jax.lax.dynamic_slice(image, start, (tall, wide, *image.shape[2:]))

    cut = {name: jax.vmap(part)(x, top, left) for name, x in batch.items()}
    return {name: jnp.where(flipped, x[:, :, ::-1], x) for name, x in cut.items()}
