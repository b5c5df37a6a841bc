"""Data made from a formula: mixtures of Gaussians in the plane, and small images for tests."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data import arrays
from jaxgan.types import Array, Key


class Mixture(NamedTuple):
    """Gaussians of equal weight: where they lie, and how wide they are."""

    modes: np.ndarray  # [K, 2] float32
    std: float


def ring(*, num_modes: int = 8, radius: float = 1.0, std: float = 0.01) -> Mixture:
    """Gaussians on a circle.

    See "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning" by Srivastava
    et al. (https://arxiv.org/abs/1705.07761). The angles are 2 pi i / K: no mode counts twice.

    Args:
      num_modes: how many.
      radius: of the circle.
      std: standard deviation of each Gaussian, in both directions.

    Returns:
      The mixture.
    """
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    modes = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return Mixture(modes.astype(np.float32), std)


def grid(*, side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """Gaussians on a square grid around the origin.

    See "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning" by Srivastava
    et al. (https://arxiv.org/abs/1705.07761).

    Args:
      side: modes in each direction.
      spacing: distance of neighbours.
      std: standard deviation of each Gaussian, in both directions.

    Returns:
      The mixture.
    """
    line = spacing * (np.arange(side) - (side - 1) / 2)
    modes = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    return Mixture(modes.astype(np.float32), std)


MIXTURES = {"ring": ring, "grid": grid}


def sample(key: Key, mixture: Mixture, num: int) -> Array:
    """Draws points of a mixture.

    Args:
      key: PRNG key.
      mixture: what to draw from.
      num: how many points.

    Returns:
      [num, 2] float32.
    """
    mode_key, noise_key = jax.random.split(key)
    mode = jax.random.randint(mode_key, (num,), 0, len(mixture.modes))
    return place(mixture, mode, jax.random.normal(noise_key, (num, 2)))


def place(mixture: Mixture, mode: Array, noise: Array) -> Array:
    """Puts standard normal noise around chosen modes: `sample` without the key.

    Args:
      mixture: modes and width.
      mode: [B] integers in [0, K).
      noise: [B, 2], standard normal.

    Returns:
      [B, 2] float32.
    """
    chex.assert_shape(noise, (*mode.shape, 2))
    return jnp.asarray(mixture.modes)[mode] + mixture.std * noise


def squares(
    *,
    num_examples: int = 64,
    image_shape: tuple[int, int, int] = (8, 8, 1),
    num_classes: int = 2,
    seed: int = 0,
) -> arrays.ArraySource:
    """Makes images of one bright square, whose shade tells the class, on a dark ground.

    Args:
      num_examples: how many.
      image_shape: height, width and channels, both sides 4 or more.
      num_classes: how many shades; 0 for no labels.
      seed: of the positions.

    Returns:
      A source of uint8 images, small and learnable, for trying things out.
    """
    rng = np.random.default_rng(seed)
    height, width, _ = image_shape
    label = np.arange(num_examples, dtype=np.int32) % max(1, num_classes)
    top = rng.integers(0, height // 2 + 1, num_examples)[:, None, None]
    left = rng.integers(0, width // 2 + 1, num_examples)[:, None, None]
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    inside = (rows >= top) & (rows < top + height // 2)
    inside = inside & (columns >= left) & (columns < left + width // 2)  # [N, H, W]
    shade = 255 - 128 * label // max(1, num_classes)
    image = np.where(inside, shade[:, None, None], 0).astype(np.uint8)
    image = np.broadcast_to(image[..., None], (num_examples, *image_shape)).copy()
    found = {"image": image, "label": label} if num_classes else {"image": image}
    return arrays.ArraySource(found, name="squares", num_classes=num_classes)
