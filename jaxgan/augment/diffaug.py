"""DiffAugment: colour, translation and cutout, applied to every image the discriminator sees.

See "Differentiable Augmentation for Data-Efficient GAN Training" by Zhao et al.
(https://arxiv.org/abs/2006.10738). `policy("color,translation,cutout")` is the `augment` argument
of the steps; each transform has a deterministic twin whose amounts are given.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan import types
from jaxgan.types import Array, Augment, Key


def policy(names: str) -> Augment:
    """Makes an augmentation from the names of its transforms.

    Args:
      names: from POLICIES, separated by commas, in the order they are applied.

    Returns:
      `(key, images [B, H, W, C]) -> images [B, H, W, C]`, for any number of channels; an empty
      string gives the identity.

    Raises:
      UserError: a name is not in POLICIES.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    transforms = [types.lookup(POLICIES, name, "augmentation") for name in chosen]

    def augment(key: Key, images: Array) -> Array:
        for number, transform in enumerate(transforms):
            images = transform(jax.random.fold_in(key, number), images)
        return images

    return augment


def color(key: Key, images: Array) -> Array:
    """Shifts brightness, then scales saturation and contrast, each by its own amount an image.

    Brightness shifts by U(-0.5, 0.5), saturation scales by U(0, 2), contrast by U(0.5, 1.5).

    Args:
      key: consumed.
      images: [B, H, W, C]; grey ones (C = 1) have no saturation.

    Returns:
      [B, H, W, C], not clipped.
    """
    keys = jax.random.split(key, 3)
    shift, saturated, contrasted = (jax.random.uniform(k, images.shape[:1]) for k in keys)
    images = brightness(images, shift - 0.5)
    if images.shape[-1] > 1:
        images = saturation(images, 2.0 * saturated)
    return contrast(images, contrasted + 0.5)


def translation(key: Key, images: Array, *, ratio: float = 0.125) -> Array:
    """Moves each image by whole pixels, zeros coming in from outside.

    Args:
      key: consumed.
      images: [B, H, W, C].
      ratio: the largest shift, as a share of the side.

    Returns:
      [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    limit = jnp.array([[int(height * ratio + 0.5), int(width * ratio + 0.5)]])
    return translate(images, jax.random.randint(key, (batch, 2), -limit, limit + 1))


def cutout(key: Key, images: Array, *, ratio: float = 0.5) -> Array:
    """Sets a rectangle of each image to zero; it may stick out over the edge.

    Args:
      key: consumed.
      images: [B, H, W, C].
      ratio: sides of the rectangle, as a share of the image's.

    Returns:
      [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    size = int(height * ratio + 0.5), int(width * ratio + 0.5)
    # Centres are uniform: on pixels where a side is odd, on the lines between where it is even.
    ends = jnp.array([[height + 1 - size[0] % 2, width + 1 - size[1] % 2]])
    centre = jax.random.randint(key, (batch, 2), 0, ends)
    return cut(images, centre - jnp.array([[size[0] // 2, size[1] // 2]]), size)


def brightness(images: Array, amount: Array) -> Array:
    """Adds an amount to each image.

    Args:
      images: [B, H, W, C].
      amount: [B].

    Returns:
      [B, H, W, C].
    """
    return images + _each(amount, images)


def saturation(images: Array, factor: Array) -> Array:
    """Scales the distance of each pixel from its grey, the mean of its channels.

    Args:
      images: [B, H, W, C].
      factor: [B], 0 for grey.

    Returns:
      [B, H, W, C].
    """
    grey = images.mean(-1, keepdims=True)
    return grey + (images - grey) * _each(factor, images)


def contrast(images: Array, factor: Array) -> Array:
    """Scales the distance of each pixel from the mean of its image.

    Args:
      images: [B, H, W, C].
      factor: [B], 0 for a plain image.

    Returns:
      [B, H, W, C].
    """
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * _each(factor, images)


def translate(images: Array, shift: Array) -> Array:
    """Moves each image by whole pixels, zeros coming in from outside.

    Args:
      images: [B, H, W, C].
      shift: [B, 2] int, pixels down and to the right.

    Returns:
      [B, H, W, C].
    """
    for axis in (1, 2):
        side, others = images.shape[axis], [a for a in (1, 2, 3) if a != axis]
        source = jnp.arange(side)[None] - shift[:, axis - 1 : axis]
        inside = ((source >= 0) & (source < side)).astype(images.dtype)
        index = jnp.expand_dims(source.clip(0, side - 1), others)
        images = jnp.take_along_axis(images, index, axis) * jnp.expand_dims(inside, others)
    return images


def cut(images: Array, corner: Array, size: tuple[int, int]) -> Array:
    """Sets a rectangle of each image to zero.

    Args:
      images: [B, H, W, C].
      corner: [B, 2] int, its row and column at the upper left; may lie outside.
      size: its height and width.

    Returns:
      [B, H, W, C].
    """
    inside = []
    for axis in (0, 1):
        place = jnp.arange(images.shape[axis + 1])[None] - corner[:, axis : axis + 1]
        inside.append((place >= 0) & (place < size[axis]))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, jnp.zeros((), images.dtype), images)


def _each(amount: Array, images: Array) -> Array:
    return amount.reshape(-1, 1, 1, 1).astype(images.dtype)


POLICIES: dict[str, Callable[[Key, Array], Array]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
