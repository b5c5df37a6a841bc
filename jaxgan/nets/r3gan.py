"""R3GAN: residual networks without any normalisation, at 8 to 1024 pixels.

See "The GAN is dead; long live the GAN! A Modern GAN Baseline" by Huang et al.
(https://arxiv.org/abs/2501.05441). Blocks are inverted bottlenecks with grouped convolutions, which
start as the identity ("Fixup Initialization" by Zhang et al., https://arxiv.org/abs/1901.09321).
The published networks are `widths=(768,) * 4` for CIFAR-10, `(768, 768, 768, 768, 384)` for FFHQ at
64 pixels and `(768, 768, 768, 768, 384, 192, 96)` at 256.
"""

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, resample
from jaxgan.types import Array, UserError

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through the leaky ReLU
GROUP_WIDTH = 16  # channels of a group, in most of the published networks


class Generator(nn.Module):
    """Maps latents to images.

    The latent weighs learned feature maps of the first size; each stage is some residual blocks,
    each but the first begins with doubling. The image is a linear map of the last stage, without
    tanh.

    Attributes:
      image_size: pixels a side, or (height, width): multiples of 2^(stages - 1).
      channels: of the image.
      widths: feature maps of each stage, from the smallest images to the largest.
      groups: of the 3x3 convolutions, for each stage; by default groups have 16 channels.
      blocks: residual blocks a stage.
      expansion: channels within a block, as a multiple of those of its stage.
      num_classes: 0, or the number of labels that the images are conditioned on.
      half_stages: so many stages next to the image compute in `dtype`, the others in float32.
      dtype: of the computation there; parameters and the image are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    image_size: int | tuple[int, int] = 32
    channels: int = 3
    widths: Sequence[int] = (768, 768, 768, 768)
    groups: Sequence[int] = ()
    blocks: int = 2
    expansion: int = 2
    num_classes: int = 0
    half_stages: int = 4
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Generates images.

        Args:
          z: [B, Z] latents.
          label: [B] int32 in [0, num_classes); None where not conditional.
          train: has no effect: nothing differs in training.

        Returns:
          [B, H, W, channels] float32, not bounded.
        """
        del train
        chex.assert_rank(z, 2)
        side = self.image_size
        size = (side, side) if isinstance(side, int) else side
        start = resample.first_size(size, len(self.widths))
        z = layers.with_label(z, label, self.num_classes, init=_normal(max(1, self.num_classes)))

        basis = self.param("basis", nn.initializers.normal(1.0), (*start, self.widths[0]))
        weight = nn.Dense(
            self.widths[0], use_bias=False, kernel_init=_normal(z.shape[-1]), name="weigh"
        )(z)
        x = basis[None] * weight[:, None, None, :]  # [B, 4, 4, 768]
        for i, (width, groups, dtype) in enumerate(_stages(self, self.widths)):
            x = x.astype(dtype)
            if i:
                x = resample.upsample(_widened(x, width, dtype))
            for _ in range(self.blocks):
                x = _residual(self, x, groups, dtype)
        x = _pointwise(self.channels, 1.0, x.shape[-1], x.dtype, name="to_image")(x)
        return x.astype(jnp.float32)


class Discriminator(nn.Module):
    """Maps images to logits, one an image: the generator's mirror image.

    Attributes:
      widths: feature maps of each stage, in the order of the generator: the image's come last.
      groups: see `Generator`, in the same order.
      blocks: residual blocks a stage.
      expansion: channels within a block, as a multiple of those of its stage.
      num_classes: 0, or the number of labels.
      head: what D says of labels: "projection" makes the logit the inner product of the features
        and the label's embedding; "class" leaves the label to D, and returns "class", a logit for
        each label, beside "logits" (AC-GAN).
      half_stages: so many stages next to the image compute in `dtype`, the others in float32.
      dtype: of the computation there; parameters and the logit are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (768, 768, 768, 768)
    groups: Sequence[int] = ()
    blocks: int = 2
    expansion: int = 2
    num_classes: int = 0
    head: str = "projection"
    half_stages: int = 4
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Array, label: Array | None = None, *, train: bool
    ) -> Array | dict[str, Array]:
        """Judges images.

        Args:
          x: [B, H, W, C], H and W multiples of 2^(stages - 1).
          label: [B] int32 in [0, num_classes); None where there is no projection.
          train: has no effect: nothing differs in training.

        Returns:
          [B] float32, higher for what looks real; with the head "class" {"logits": [B], "class":
          [B, num_classes]}.
        """
        del train
        chex.assert_rank(x, 4)
        start = resample.first_size(x.shape[1:3], len(self.widths))
        widths = self.widths[::-1]
        stages = _stages(self, self.widths)[::-1]
        x = _pointwise(widths[0], 1.0, x.shape[-1], stages[0][2], name="from_image")(x)
        for i, (width, groups, dtype) in enumerate(stages):
            x = x.astype(dtype)
            if i:
                x = _widened(resample.downsample(x), width, dtype)
            for _ in range(self.blocks):
                x = _residual(self, x, groups, dtype)
        x = x.astype(jnp.float32)  # [B, 4, 4, 768]
        basis = self.param("basis", _normal(math.prod(start)), (*start, widths[-1]))
        features = jnp.einsum("bhwc,hwc->bc", x, basis)
        by_class = self.num_classes > 0 and layers.by_class(self.head)
        if by_class:
            classes = nn.Dense(self.num_classes, kernel_init=_normal(widths[-1]), name="classify")(
                features
            )
        projected = self.num_classes > 0 and not by_class
        outputs = widths[-1] if projected else 1
        features = nn.Dense(outputs, use_bias=False, kernel_init=_normal(widths[-1]), name="judge")(
            features
        )
        if by_class:
            return {"logits": features[:, 0], "class": classes}
        if not projected:
            return features[:, 0]
        init = _normal(self.num_classes * outputs)
        embed = nn.Embed(self.num_classes, outputs, embedding_init=init)
        return jnp.sum(features * embed(layers.required(label)), axis=-1)


def default_widths(image_size: Sequence[int]) -> tuple[int, ...]:
    """The published feature maps of each stage.

    Args:
      image_size: (height, width) in pixels.

    Returns:
      From the smallest images to the largest: 768 up to 32 pixels, then half as many each time.

    Raises:
      UserError: no network makes such images.
    """
    stages = resample.stages_for(image_size)
    sides = [min(image_size) // 2**i for i in reversed(range(stages))]
    return tuple(768 if side <= 32 else 768 * 32 // 2 ** (side.bit_length() - 1) for side in sides)


def check(
    image_size: Sequence[int],
    widths: Sequence[int],
    *,
    groups: Sequence[int] = (),
    expansion: int = 2,
) -> None:
    """Refuses networks that cannot be made, before one is.

    Args:
      image_size: (height, width) in pixels.
      widths: feature maps of each stage.
      groups: of the 3x3 convolutions, for each stage; empty for the default.
      expansion: channels within a block, as a multiple of those of its stage.

    Raises:
      UserError: another number of stages is needed, or groups do not divide channels.
    """
    resample.first_size(image_size, len(widths))
    for width, number in zip(widths, _groups(widths, groups, expansion), strict=True):
        _check_groups(number, width, expansion)


class Block(nn.Module):
    """Adds to its input what two 1x1 convolutions make around a grouped 3x3 one; 0 at the start.

    Attributes:
      groups: of the 3x3 convolution.
      expansion: channels within, as a multiple of the input's.
      total_blocks: of the network; the more, the smaller the first weights.
      dtype: of the computation.
    """

    groups: int
    expansion: int
    total_blocks: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H, W, C]."""
        channels = x.shape[-1]
        inside = channels * self.expansion
        _check_groups(self.groups, channels, self.expansion)
        gain = GAIN * self.total_blocks**-0.25
        y = _pointwise(inside, gain, channels, self.dtype)(x)
        y = _activated(self, y, "bias_0")
        y = layers.Conv(
            inside,
            3,
            feature_group_count=self.groups,
            use_bias=False,
            kernel_init=_normal(9 * inside // self.groups, gain),
            dtype=self.dtype,
        )(y)
        y = _activated(self, y, "bias_1")
        return x + _pointwise(channels, 0.0, inside, self.dtype)(y)


def _stages(net: Generator | Discriminator, widths: Sequence[int]) -> list[tuple[int, int, Any]]:
    """(width, groups, dtype) of each stage, from the smallest images to the largest."""
    groups = _groups(widths, net.groups, net.expansion)
    full = len(widths) - net.half_stages
    dtypes = [jnp.float32 if i < full else net.dtype for i in range(len(widths))]
    return list(zip(widths, groups, dtypes, strict=True))


def _groups(widths: Sequence[int], groups: Sequence[int], expansion: int) -> Sequence[int]:
    """The groups of each stage."""
    if groups and len(groups) != len(widths):
        raise UserError(f"groups {tuple(groups)} are not as many as widths {tuple(widths)}")
    return groups or [max(1, expansion * width // GROUP_WIDTH) for width in widths]


def _check_groups(groups: int, channels: int, expansion: int) -> None:
    if expansion * channels % groups:
        raise UserError(
            f"groups {groups} do not divide {expansion * channels} channels ({expansion} times "
            f"{channels}); use a divisor"
        )


def _residual(net: Generator | Discriminator, x: Array, groups: int, dtype: Any) -> Array:
    """One more block of a network."""

    def block(net: Generator | Discriminator, x: Array) -> Array:
        return Block(groups, net.expansion, net.blocks * len(net.widths), dtype)(x)

    return layers.rematerialised(block, net.remat)(net, x)


def _widened(x: Array, width: int, dtype: Any) -> Array:
    """With another number of channels, where a stage has another."""
    if x.shape[-1] == width:
        return x
    return _pointwise(width, 1.0, x.shape[-1], dtype)(x)


def _pointwise(width: int, gain: float, inputs: int, dtype: Any, name: str | None = None):
    """A 1x1 convolution: a product of matrices."""
    return nn.Dense(
        width,
        use_bias=False,
        kernel_init=_normal(inputs, gain),
        dtype=dtype,
        dot_general=layers.pointwise,
        name=name,
    )


def _activated(module: nn.Module, x: Array, name: str) -> Array:
    bias = module.param(name, nn.initializers.zeros, x.shape[-1:])
    return nn.leaky_relu(x + layers.spread(bias, x), SLOPE)


def _normal(inputs: int, gain: float = 1.0):
    """Weights that keep the variance of so many inputs, times the gain squared."""
    return nn.initializers.normal(gain / math.sqrt(inputs))
