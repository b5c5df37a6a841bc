"""DCGAN: a generator of transposed convolutions and its mirror image, at 28, 32, 64 or more pixels.

See "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
by Radford et al. (https://arxiv.org/abs/1511.06434).
"""

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers
from jaxgan.types import Array, UserError

_STARTS = (4, 7)  # sides of the first feature map
_INIT = nn.initializers.normal(0.02)  # of the paper, section 3


class Generator(nn.Module):
    """Maps latents to images.

    A dense layer makes the first feature map (7x7 for 28 pixels, 4x4 for 32); transposed
    convolutions of stride 2 double it until it has the size of the image. Every layer but the last
    is normalised and activated; the last ends in tanh.

    Attributes:
      image_size: pixels a side, 4 or 7 times a power of two.
      channels: of the image.
      width: feature maps of the last hidden layer; each doubling before it has twice as many.
      features: feature maps of each hidden layer from the dense one on, in place of `width`; at
        least as many as doublings. Where there are more, the first ones are at stride 1.
      kernel: side of the kernels.
      norm: "batch", "group", "layer" or "none".
      momentum: of the running batch statistics.
      slope: of the leaky ReLU; 0 is ReLU.
      num_classes: 0, or the number of labels that the images are conditioned on.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and the image are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    image_size: int = 28
    channels: int = 1
    width: int = 64
    features: Sequence[int] = ()
    kernel: int = 4
    norm: str = "batch"
    momentum: float = 0.9
    slope: float = 0.0
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
          [B, image_size, image_size, channels] float32 in [-1, 1].
        """
        chex.assert_rank(z, 2)
        start, doublings = geometry(self.image_size)
        features = self.features or default_features(self.image_size, width=self.width)
        check_features(features, self.image_size)
        z = layers.with_label(z, label, self.num_classes, init=nn.initializers.normal(1.0))
        bias = self.norm == "none"

        x = nn.Dense(
            start * start * features[0], use_bias=bias, kernel_init=_INIT, dtype=self.dtype
        )(z)
        x = x.reshape(-1, start, start, features[0])  # [B, 7, 7, 128]
        x = _norm(self, x, train)
        extra = len(features) - doublings
        for i, width in enumerate(features[1:]):

            def layer(net: Generator, x: Array, i: int = i, width: int = width) -> Array:
                x = layers.ConvTranspose(
                    width,
                    net.kernel,
                    strides=1 if i < extra else 2,
                    use_bias=bias,
                    kernel_init=_INIT,
                    dtype=net.dtype,
                )(x)
                return _norm(net, x, train)

            x = layers.rematerialised(layer, self.remat)(self, x)  # [B, 14, 14, 64]
        x = layers.ConvTranspose(
            self.channels, self.kernel, strides=2, kernel_init=_INIT, dtype=self.dtype
        )(x)
        return jnp.tanh(x.astype(jnp.float32))  # [B, 28, 28, 1]


class Discriminator(nn.Module):
    """Maps images to logits, one an image.

    Convolutions of stride 2 halve the image down to the first feature map of `Generator`; a dense
    layer makes the logit. The first convolution is never normalised.

    Attributes:
      width: feature maps of the first layer; each halving doubles them.
      features: feature maps of each layer, in place of `width`. Where there are more than halvings,
        the last ones are at stride 1; fewer leave a larger feature map to the dense layer.
      kernel: side of the kernels.
      norm: "batch", "group", "layer" or "none"; not "batch" with a gradient penalty.
      momentum: of the running batch statistics.
      slope: of the leaky ReLU.
      dropout: share of activations dropped after each layer in training.
      num_classes: 0, or the number of labels.
      head: what D says of labels, "projection" or "class"; see `layers.verdict`.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and the logit are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    width: int = 64
    features: Sequence[int] = ()
    kernel: int = 4
    norm: str = "batch"
    momentum: float = 0.9
    slope: float = 0.2
    dropout: float = 0.0
    num_classes: int = 0
    head: str = "projection"
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Array, label: Array | None = None, *, train: bool
    ) -> Array | dict[str, Array]:
        """Judges images.

        Args:
          x: [B, H, W, C] in [-1, 1], square, of a size that `Generator` makes.
          label: [B] int32 in [0, num_classes); None where there is no projection.
          train: normalises with the batch's own statistics and records them; drops out.

        Returns:
          [B] float32, higher for what looks real; with the head "class" {"logits": [B], "class":
          [B, num_classes]}.
        """
        chex.assert_rank(x, 4)
        _, halvings = geometry(x.shape[1])
        features = self.features or default_features(x.shape[1], width=self.width)[::-1]
        for i, width in enumerate(features):

            def layer(net: Discriminator, x: Array, i: int = i, width: int = width) -> Array:
                first = i == 0
                x = layers.Conv(
                    width,
                    net.kernel,
                    strides=2 if i < halvings else 1,
                    use_bias=first or net.norm == "none",
                    kernel_init=_INIT,
                    dtype=net.dtype,
                )(x)
                x = nn.leaky_relu(x, net.slope) if first else _norm(net, x, train)
                if net.dropout:
                    x = nn.Dropout(net.dropout, deterministic=not train)(x)
                return x

            x = layers.rematerialised(layer, self.remat)(self, x)
        x = x.reshape(x.shape[0], -1)  # [B, 7 * 7 * 128]
        return layers.verdict(
            x,
            label,
            num_classes=self.num_classes,
            head=self.head,
            init=_INIT,
            dtype=self.dtype,
        )


def geometry(image_size: int) -> tuple[int, int]:
    """Side of the first feature map, and how often it doubles to reach the image's.

    Args:
      image_size: pixels a side.

    Returns:
      (side, doublings).

    Raises:
      UserError: the size is not 4 or 7 times a power of two, 8 or more.
    """
    for start in _STARTS:
        times = image_size // start
        if image_size == start * times and times > 1 and times & (times - 1) == 0:
            return start, times.bit_length() - 1
    sizes = [start * 2**n for start in _STARTS for n in range(1, 12)]
    below = max((size for size in sizes if size < image_size), default=min(sizes))
    above = min((size for size in sizes if size > image_size), default=max(sizes))
    raise UserError(
        f"image_size {image_size} is not 4 or 7 times a power of two; "
        f"use {' or '.join(map(str, sorted({below, above})))}"
    )


def default_features(image_size: int, *, width: int = 64) -> tuple[int, ...]:
    """Feature maps of the generator's hidden layers; those of the discriminator are the reverse.

    One layer for each doubling: 28 pixels have (128, 64), 64 pixels (512, 256, 128, 64).

    Args:
      image_size: pixels a side.
      width: of the layer nearest the image; each one further from it has twice as many.

    Returns:
      (..., 4 width, 2 width, width), from the latent to the image.

    Raises:
      UserError: no DCGAN of that size is defined, see `geometry`.
    """
    _, doublings = geometry(image_size)
    return tuple(width * 2**i for i in reversed(range(doublings)))


def check_features(features: Sequence[int], image_size: int) -> None:
    """Refuses a generator with fewer hidden layers than doublings: its images would be too small.

    Args:
      features: feature maps of its hidden layers.
      image_size: pixels a side.

    Raises:
      UserError: there are too few, or no DCGAN of that size is defined.
    """
    start, doublings = geometry(image_size)
    if len(features) < doublings:
        example, given = (
            ",".join(map(str, some)) for some in (default_features(image_size), features)
        )
        raise UserError(
            f"image_size {image_size} doubles {doublings} times from {start}, so the generator "
            f"needs {doublings} feature maps or more, such as {example}; it has {given or 'none'}"
        )


def _norm(net: Generator | Discriminator, x: Array, train: bool) -> Array:
    """Normalises and activates a hidden layer of either player."""
    return layers.Norm(
        net.norm,
        momentum=net.momentum,
        num_groups=math.gcd(32, x.shape[-1]),
        axis_name=net.axis_name,
        dtype=net.dtype,
        slope=net.slope,
    )(x, train)
