"""Multi-layer perceptrons: for two-dimensional mixtures, small images, and quick experiments."""

import math
from collections.abc import Sequence

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.types import Array


class Generator(nn.Module):
    """Maps latents to examples of any shape.

    Attributes:
      shape: of one example: (2,) for points, (H, W, C) for images.
      features: units of each hidden layer.
      batch_norm: normalises each hidden layer over the batch.
      squash: ends in tanh, for images in [-1, 1]; points have no bounds.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
    """

    shape: Sequence[int] = (2,)
    features: Sequence[int] = (128, 128, 128)
    batch_norm: bool = False
    squash: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Generates examples.

        Args:
          z: [B, Z] latents.
          label: unused.
          train: normalises with the batch's own statistics and records them.

        Returns:
          [B, *shape] float32, in [-1, 1] with `squash`.
        """
        del label
        chex.assert_rank(z, 2)
        for width in self.features:
            z = nn.Dense(width)(z)
            if self.batch_norm:
                z = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(z)
            z = nn.relu(z)
        x = nn.Dense(math.prod(self.shape))(z).reshape(-1, *self.shape)
        return jnp.tanh(x) if self.squash else x


class Discriminator(nn.Module):
    """Maps examples of any shape to logits.

    Attributes:
      features: units of each hidden layer.
      slope: of the leaky ReLU.
    """

    features: Sequence[int] = (128, 128, 128)
    slope: float = 0.2

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Array:
        """Judges examples.

        Args:
          x: [B, ...].
          label: unused.
          train: unused.

        Returns:
          [B] float32.
        """
        del label, train
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            x = nn.leaky_relu(nn.Dense(width)(x), self.slope)
        return nn.Dense(1)(x)[:, 0]
