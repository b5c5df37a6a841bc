"""A light pair of networks, for CPUs and short runs: DCGAN's arrangement without its checkerboards.

As in "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" by Radford et al. (https://arxiv.org/abs/1511.06434) there is one convolution a stage,
batch norm in the generator, and no more. But the generator doubles its maps by a filter (see
`resample`), after convolutions on the smaller side of it, where they are cheap, and ends in a
convolution at the size of the image.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, resample
from jaxgan.types import Array

_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_NEAR_ZERO = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Maps latents to images.

    Attributes:
      image_size: (height, width) in pixels, multiples of 2^(stages - 1).
      channels: of the image.
      widths: feature maps of each stage, from the smallest images to the largest.
      norm: "batch", "group", "layer" or "none", before each ReLU.
      momentum: of the running batch statistics.
      num_classes: 0, or the number of labels that the images are conditioned on.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and the image are float32.
      remat: computes each stage anew in the backward pass: less memory, more time.
    """

    image_size: Sequence[int] = (32, 32)
    channels: int = 3
    widths: Sequence[int] = (128, 128, 64, 32)
    norm: str = "batch"
    momentum: float = 0.9
    num_classes: int = 0
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Generates images.

        Args:
          z: [B, Z] latents.
          label: [B] int32 in [0, num_classes); None where not conditional.
          train: normalises with the batch's own statistics and records them.

        Returns:
          [B, height, width, channels] float32 in [-1, 1].
        """
        chex.assert_rank(z, 2)
        height, width = resample.first_size(self.image_size, len(self.widths))
        z = layers.with_label(z, label, self.num_classes, init=nn.initializers.normal(1.0))
        bias, maps = self.norm == "none", height * width * self.widths[0]
        x = nn.Dense(maps, use_bias=bias, kernel_init=_INIT, dtype=self.dtype)(z)
        x = _norm(self, x.reshape(-1, height, width, self.widths[0]), train)  # [B, 4, 4, 128]
        for number in self.widths[1:]:

            def stage(net: Generator, x: Array, number: int = number) -> Array:
                conv = layers.Conv(number, 3, use_bias=bias, kernel_init=_INIT, dtype=net.dtype)
                return _norm(net, resample.upsample(conv(x)), train)

            x = layers.rematerialised(stage, self.remat)(self, x)  # [B, 8, 8, 128], ...
        x = layers.Conv(self.channels, 3, kernel_init=_NEAR_ZERO, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))  # [B, 32, 32, 3]


class Discriminator(nn.Module):
    """Maps images to logits, one an image: convolutions of stride 2, and a dense layer.

    Attributes:
      widths: feature maps after each halving, in the order of the generator: the image's come last.
      slope: of the leaky ReLU.
      num_classes: 0, or the number of labels.
      head: what D says of labels, "projection" or "class"; see `layers.verdict`.
      dtype: of the computation; parameters and the logit are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (128, 64, 32)
    slope: float = 0.2
    num_classes: int = 0
    head: str = "projection"
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Array, label: Array | None = None, *, train: bool
    ) -> Array | dict[str, Array]:
        """Judges images.

        Args:
          x: [B, H, W, C] in [-1, 1].
          label: [B] int32 in [0, num_classes); None where there is no projection.
          train: changes nothing; as other networks have it.

        Returns:
          [B] float32, higher for what looks real; with the head "class" {"logits": [B], "class":
          [B, num_classes]}.
        """
        del train
        chex.assert_rank(x, 4)
        for number in self.widths[::-1]:

            def layer(net: Discriminator, x: Array, number: int = number) -> Array:
                conv = layers.Conv(number, 4, strides=2, kernel_init=_INIT, dtype=net.dtype)
                return nn.leaky_relu(conv(x), net.slope)

            x = layers.rematerialised(layer, self.remat)(self, x)  # [B, 16, 16, 32], ...
        x = x.reshape(x.shape[0], -1)  # [B, 4 * 4 * 128]
        return layers.verdict(
            x,
            label,
            num_classes=self.num_classes,
            head=self.head,
            init=_NEAR_ZERO,
            dtype=self.dtype,
        )


def default_widths(image_size: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chooses the feature maps of each stage.

    Args:
      image_size: (height, width) in pixels.

    Returns:
      The generator's and the discriminator's, from the smallest images to the largest, fewer where
      maps are larger, so that no stage takes most of the time: 128, 128, 64, 32 and 128, 64, 32
      for 32 pixels. The discriminator's are at least 32: its first layer makes them from 4 x 4
      pixels, 48 numbers, and with 16 of them overlooks the finest details.

    Raises:
      UserError: no network makes such images.
    """
    stages = resample.stages_for(image_size)
    sides = [min(image_size) / 2**i for i in reversed(range(stages))]
    gen = tuple(max(16, min(128, 8 * round(128 / side))) for side in sides)
    disc = tuple(max(32, min(128, 8 * round(64 / side))) for side in sides[:-1])
    return gen, disc


def _norm(net: Generator, x: Array, train: bool) -> Array:
    """Normalises and activates a stage of the generator."""
    return layers.Norm(
        net.norm, momentum=net.momentum, axis_name=net.axis_name, dtype=net.dtype, slope=0.0
    )(x, train)
