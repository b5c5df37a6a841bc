"""Blocks of residual networks that make images or judge them, and self-attention.

See `resnet`, which says what paper each option is of.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, normalization
from jaxgan.types import Array


class Options(NamedTuple):
    """What all blocks of a network share."""

    norm: str
    momentum: float
    spectral: bool
    num_classes: int
    axis_name: str | None
    dtype: Any


class UpBlock(nn.Module):
    """Doubles feature maps: BN, ReLU, double, convolve; BN, ReLU, convolve; and a shortcut.

    Attributes:
      width: feature maps it makes.
      options: of the network.
    """

    width: int
    options: Options

    @nn.compact
    def __call__(self, x: Array, style: Array | None, *, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, 2 H, 2 W, width]; `style` is of `ConditionalNorm`."""

        def normalised(x: Array) -> Array:
            if style is None:
                return norm(self.options)(x, train)
            return ConditionalNorm(self.options)(x, style, train=train)

        y = _convolved(self.options, self.width, _doubled(normalised(x)), train)
        y = _convolved(self.options, self.width, normalised(y), train)
        # Convolved before it is doubled: the same, and a quarter of the work.
        return y + _doubled(_shortcut(self.options, self.width, x, train))


class DownBlock(nn.Module):
    """Judges feature maps: ReLU, convolve, ReLU, convolve, halve; and a shortcut.

    Attributes:
      width: feature maps it makes.
      options: of the network.
      halve: whether it averages each four pixels.
      first: whether x is an image, which no ReLU comes before.
    """

    width: int
    options: Options
    halve: bool
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H / 2, W / 2, width], or to [B, H, W, width]."""
        y = x if self.first else norm(self.options)(x, train)
        y = norm(self.options)(_convolved(self.options, self.width, y, train), train)
        y = _convolved(self.options, self.width, y, train)
        if self.halve:
            x, y = _halved(x), _halved(y)
        if self.halve or x.shape[-1] != self.width:
            x = _shortcut(self.options, self.width, x, train)
        return x + y


class ConditionalNorm(nn.Module):
    """Batch norm whose gains and biases are a class's, or made of a vector; ReLU follows.

    Attributes:
      options: of the network.
    """

    options: Options

    @nn.compact
    def __call__(self, x: Array, style: Array, *, train: bool) -> Array:
        """Normalises x [B, H, W, C] by `style`: labels [B] int32, or vectors [B, D]."""
        channels, options = x.shape[-1], self.options
        x = norm(options, affine=False, slope=None)(x, train)

        def made(name: str) -> Array:
            if jnp.issubdtype(style.dtype, jnp.integer):
                table = nn.Embed(
                    options.num_classes,
                    channels,
                    embedding_init=nn.initializers.zeros,
                    dtype=options.dtype,
                    name=name,
                )
                return table(style)[:, None, None, :]
            dense = nn.Dense(
                channels, use_bias=False, kernel_init=glorot(), dtype=options.dtype, name=name
            )
            return applied(options, dense, style, train)[:, None, None, :]

        gain, bias = made("gain"), made("bias")
        return nn.relu(x * layers.spread(1 + gain, x) + layers.spread(bias, x))


class Attention(nn.Module):
    """Adds to each pixel what it finds at others; nothing at the start.

    See "Self-Attention Generative Adversarial Networks" by Zhang et al., section 3, in the form
    that was published as code: keys and values are pooled to a quarter of the pixels.

      x + scale W_o sum_j softmax_j(<W_q x_i, W_k x_j>) W_v x_j

    Attributes:
      options: of the network.
    """

    options: Options

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [B, H, W, C] to itself, H and W even."""
        batch, height, width, channels = x.shape

        def dense(features: int, name: str, x: Array) -> Array:
            layer = nn.Dense(
                max(1, features),
                use_bias=False,
                kernel_init=glorot(),
                dtype=self.options.dtype,
                name=name,
            )
            return applied(self.options, layer, x, train)

        def pooled(x: Array) -> Array:
            x = x.reshape(batch, height // 2, 2, width // 2, 2, -1).max((2, 4))
            return x.reshape(batch, -1, x.shape[-1])

        query = dense(channels // 8, "query", x).reshape(batch, height * width, -1)
        key = pooled(dense(channels // 8, "key", x))
        value = pooled(dense(channels // 2, "value", x))
        weights = jax.nn.softmax(jnp.einsum("bic,bjc->bij", query, key).astype(jnp.float32), -1)
        found = jnp.einsum("bij,bjc->bic", weights.astype(value.dtype), value)
        scale = self.param("scale", nn.initializers.zeros, ())
        found = dense(channels, "out", found).reshape(x.shape)
        return x + scale.astype(x.dtype) * found


def applied(options: Options, layer: nn.Module, x: Array, train: bool) -> Array:
    """Applies a layer, its kernel divided by its spectral norm where that is asked for.

    Args:
      options: of the network.
      layer: made in place, see `normalization.SpectralNorm`.
      x: its input.
      train: improves the estimate of the norm.

    Returns:
      The layer's output.
    """
    if options.spectral:
        return normalization.SpectralNorm(layer, name=f"{layer.name}_norm")(x, train=train)
    return layer(x)  # pyright: ignore[reportCallIssue]


def _convolved(options: Options, width: int, x: Array, train: bool) -> Array:
    gain = math.sqrt(2)  # for the ReLU before or after it
    conv = layers.Conv(width, 3, kernel_init=glorot(gain=gain), dtype=options.dtype)
    return applied(options, conv, x, train)


def _shortcut(options: Options, width: int, x: Array, train: bool) -> Array:
    dense = nn.Dense(width, kernel_init=glorot(), dtype=options.dtype, name="shortcut")
    return applied(options, dense, x, train)


def norm(options: Options, **changes: Any) -> layers.Norm:
    """Makes a norm with ReLU after it.

    Args:
      options: of the network.
      **changes: fields of `layers.Norm` that are to be others.

    Returns:
      The norm, to be called with x and `train`.
    """
    own = {"momentum": options.momentum, "axis_name": options.axis_name, "dtype": options.dtype}
    return layers.Norm(options.norm, **{**own, "slope": 0.0, **changes})


def _doubled(x: Array) -> Array:
    """Repeats each pixel in both directions."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def _halved(x: Array) -> Array:
    """Averages each four pixels."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def glorot(*, gain: float = 1.0) -> Any:
    """Makes an initialiser whose variance lies between those that inputs and outputs ask for.

    See "Understanding the difficulty of training deep feedforward neural networks" by Glorot and
    Bengio (2010), equation 16.

    Args:
      gain: times the standard deviation.

    Returns:
      The initialiser.
    """
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")
