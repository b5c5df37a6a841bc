"""StyleGAN2: a mapping network, modulated convolutions, and a residual discriminator.

See "Analyzing and Improving the Image Quality of StyleGAN" by Karras et al.
(https://arxiv.org/abs/1912.04958); labels as in "Training Generative Adversarial Networks with
Limited Data" (https://arxiv.org/abs/2006.06676). Weights are of unit variance and scaled where they
are used ("equalized learning rate", https://arxiv.org/abs/1710.10196, section 4.1).
"""

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxgan.nets import conv, layers, normalization, resample
from jaxgan.types import Array

SLOPE, GAIN = 0.2, math.sqrt(2)  # of the activation
EPSILON = 1e-8


class Dense(nn.Module):
    """A dense layer whose weights are scaled where they are used.

    Attributes:
      features: outputs.
      multiplier: of the learning rate.
      bias: the first value of the biases, as they are used.
      active: whether a leaky ReLU follows.
    """

    features: int
    multiplier: float = 1.0
    bias: float = 0.0
    active: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, N] to [B, features]."""
        inputs = x.shape[-1]
        unit = nn.initializers.normal(1 / self.multiplier)
        start = nn.initializers.constant(self.bias / self.multiplier)
        w = self.param("kernel", unit, (inputs, self.features))
        bias = self.param("bias", start, (self.features,)) * self.multiplier
        y = x @ (w * (self.multiplier / math.sqrt(inputs))) + bias[None]
        return _leaky(y) if self.active else y


class Conv(nn.Module):
    """A convolution whose weights are scaled where they are used, halving the image or not.

    Attributes:
      features: output channels.
      kernel: side of the kernels, 1 or 3.
      down: halves the image, blurred before.
      use_bias: adds a bias for each output channel.
      active: whether a leaky ReLU follows.
      dtype: of the computation.
    """

    features: int
    kernel: int = 3
    down: bool = False
    use_bias: bool = True
    active: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H, W, features], half as high and wide where `down`."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("kernel", nn.initializers.normal(1.0), shape)
        w = (w / math.sqrt(math.prod(shape[:3]))).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.kernel == 1:
            y = layers.pointwise(resample.downsample(x) if self.down else x, w[0, 0])
        elif self.down:
            y = _conv(resample.blur(x, before=2, after=2), w, stride=2, padding=0)
        else:
            y = _conv(x, w, stride=1, padding=1)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + layers.spread(bias, y)
        return _leaky(y) if self.active else y


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, and its outputs normalised.

    The scales go to the activations before and after it, which is the same as scaling each
    example's weights (section 2.2), so that all examples share one convolution.

    Attributes:
      features: output channels.
      kernel: side of the kernels, 1 or 3.
      up: doubles the image, blurred after.
      demodulate: whether outputs are scaled to the variance that the weights would give them.
      dtype: of the convolution.
    """

    features: int
    kernel: int = 3
    up: bool = False
    demodulate: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w_latent: Array) -> Array:
        """Maps [B, H, W, C] and [B, W] to [B, H, W, features], twice as high and wide if `up`."""
        channels = x.shape[-1]
        style = Dense(channels, bias=1.0, name="style")(w_latent)  # [B, C]
        shape = (self.kernel, self.kernel, channels, self.features)
        w = self.param("kernel", nn.initializers.normal(1.0), shape)
        if not self.demodulate:
            style = style / math.sqrt(math.prod(shape[:3]))
        y = (x * style[:, None, None, :]).astype(self.dtype)
        kernel = w.astype(self.dtype)
        if self.kernel == 1:
            y = layers.pointwise(y, kernel[0, 0])
        elif self.up:
            y = resample.blur(_transposed(y, kernel), before=1, after=1) * 4
        else:
            y = _conv(y, kernel, stride=1, padding=1)
        if self.demodulate:
            power = jnp.square(style) @ jnp.square(w).sum((0, 1))  # [B, features]
            y = y * layers.spread(lax.rsqrt(power + EPSILON)[:, None, None, :], y)
        return y


class Mapping(nn.Module):
    """Maps latents and labels to the latents that styles are made of, w.

    Attributes:
      features: of w, and of each layer.
      layers: how many.
      num_classes: 0, or the number of labels.
      multiplier: of the layers' learning rate.
    """

    features: int = 512
    layers: int = 8
    num_classes: int = 0
    multiplier: float = 0.01

    @nn.compact
    def __call__(self, z: Array | None, label: Array | None = None) -> Array:
        """Maps [B, Z] and [B] to [B, features]; z is None where only the label is mapped."""
        parts = [] if z is None else [_normalised(z.astype(jnp.float32))]
        if self.num_classes:
            one_hot = jax.nn.one_hot(layers.required(label), self.num_classes)
            parts.append(_normalised(Dense(self.features, name="embed")(one_hot)))
        w = jnp.concatenate(parts, axis=-1)
        for _ in range(self.layers):
            w = Dense(self.features, multiplier=self.multiplier, active=True)(w)
        return w


class Synthesis(nn.Module):
    """Makes images of the latents of each layer.

    Attributes:
      image_size: (height, width).
      channels: of the image.
      widths: feature maps of each stage, from the smallest images to the largest.
      half_stages: so many stages next to the image compute in `dtype`.
      dtype: of the computation there.
      remat: see `Generator`.
    """

    image_size: tuple[int, int]
    channels: int
    widths: Sequence[int]
    half_stages: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, ws: Array, *, fixed_noise: bool) -> Array:
        """Maps [B, layers, W] to [B, H, W, channels] float32.

        `fixed_noise` adds to every image the same noise, which was drawn at the start.
        """
        height, width = resample.first_size(self.image_size, len(self.widths))
        first = self.param("first", nn.initializers.normal(1.0), (height, width, self.widths[0]))
        x, image = jnp.broadcast_to(first[None], (ws.shape[0], *first.shape)), None
        for number in range(len(self.widths)):

            def stage(net: Synthesis, x: Array, ws: Array, number: int = number):
                return net._stage(x, ws, number, fixed_noise=fixed_noise)

            x, y = layers.rematerialised(stage, self.remat)(self, x, ws)
            image = y if image is None else resample.upsample(image) + y
        assert image is not None
        return image

    def _stage(self, x: Array, ws: Array, stage: int, *, fixed_noise: bool) -> tuple[Array, Array]:
        """The feature maps of a stage, and what they add to the image."""
        dtype = self.dtype if stage >= len(self.widths) - self.half_stages else jnp.float32
        x, layer = x.astype(dtype), max(0, 2 * stage - 1)
        for up in (True, False) if stage else (False,):
            mix = ModulatedConv(self.widths[stage], up=up, dtype=dtype, name=f"conv_{layer}")
            x = self._with_noise(mix(x, ws[:, layer]), layer, fixed_noise)
            layer += 1
        name = f"to_image_{stage}"
        to_image = ModulatedConv(self.channels, 1, demodulate=False, dtype=dtype, name=name)
        return x, self._with_bias(to_image(x, ws[:, layer]), f"image_bias_{stage}")

    def _with_noise(self, x: Array, layer: int, fixed: bool) -> Array:
        """Adds noise, the same to all channels, and a bias, and activates."""
        shape = (*x.shape[1:3], 1)
        strength = self.param(f"noise_{layer}", nn.initializers.zeros, ())
        kept = self.variable(
            "noise", f"noise_{layer}", lambda: jax.random.normal(self.make_rng("params"), shape)
        )
        if fixed:
            noise = kept.value[None]
        else:
            noise = jax.random.normal(self.make_rng("noise"), (x.shape[0], *shape))
        x = x + layers.spread(noise * strength, x)
        bias = self.param(f"bias_{layer}", nn.initializers.zeros, x.shape[-1:])
        return _leaky(x + layers.spread(bias, x))

    def _with_bias(self, x: Array, name: str) -> Array:
        bias = self.param(name, nn.initializers.zeros, x.shape[-1:])
        return x.astype(jnp.float32) + bias.reshape(1, 1, 1, -1)


class Generator(nn.Module):
    """Maps latents to images by way of w, whose mean is tracked.

    In training, a share of the images mix two latents: from a random layer on, w is that of
    another latent. Noise is drawn anew in training and fixed otherwise.

    Attributes:
      image_size: pixels a side, or (height, width): multiples of 2^(stages - 1).
      channels: of the image.
      widths: feature maps of each stage, from the smallest images to the largest.
      features: of w and of the mapping network.
      mapping_layers: of the mapping network.
      num_classes: 0, or the number of labels that the images are conditioned on.
      mixing: share of the images in training that mix two latents.
      truncation: how far from the mean of w images are made when not training: 1 leaves w as it is,
        0 makes the mean's image.
      decay: of the mean of w.
      axis_name: the mapped axis that the mean is taken over, under `pmap`.
      half_stages: so many stages next to the image compute in `dtype`, the others in float32.
      dtype: of the computation there; parameters and the image are float32.
      remat: computes each stage anew in the backward pass: less memory, more time.
    """

    image_size: int | tuple[int, int] = 64
    channels: int = 3
    widths: Sequence[int] = (512, 512, 512, 512, 512)
    features: int = 512
    mapping_layers: int = 8
    num_classes: int = 0
    mixing: float = 0.9
    truncation: float = 1.0
    decay: float = 0.995
    axis_name: str | None = None
    half_stages: int = 4
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self):
        """Names the two networks."""
        side = self.image_size
        size = (side, side) if isinstance(side, int) else side
        self.mapping = Mapping(self.features, self.mapping_layers, self.num_classes)
        self.synthesis = Synthesis(
            size,
            self.channels,
            self.widths,
            half_stages=self.half_stages,
            dtype=self.dtype,
            remat=self.remat,
        )
        self.mean = self.variable("stats", "w_mean", jnp.zeros, (self.features,))

    @property
    def num_layers(self) -> int:
        """How many latents w an image is made of."""
        return 2 * len(self.widths)

    def __call__(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Generates images.

        Args:
          z: [B, Z] latents.
          label: [B] int32 in [0, num_classes); None where not conditional.
          train: mixes latents, draws noise (of the streams "mixing" and "noise") and records the
            mean of w.

        Returns:
          [B, H, W, channels] float32, not bounded.
        """
        return self.synthesis(self.latents(z, label, train=train), fixed_noise=not train)

    def latents(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Maps latents to w, one for each layer.

        Args:
          z: see `__call__`.
          label: see `__call__`.
          train: see `__call__`.

        Returns:
          [B, num_layers, features].
        """
        chex.assert_rank(z, 2)
        w = self.mapping(z, label)
        if not train:
            w = self.mean.value[None] + (w - self.mean.value[None]) * self.truncation
            return jnp.repeat(w[:, None], self.num_layers, axis=1)
        if not self.is_initializing() and self.is_mutable_collection("stats"):
            mean = w.mean(0)
            mean = mean if self.axis_name is None else lax.pmean(mean, self.axis_name)
            self.mean.value += (1 - self.decay) * (lax.stop_gradient(mean) - self.mean.value)
        if not self.mixing:
            return jnp.repeat(w[:, None], self.num_layers, axis=1)
        other_key, share_key, layer_key = jax.random.split(self.make_rng("mixing"), 3)
        other = self.mapping(jax.random.normal(other_key, z.shape, z.dtype), label)
        num = z.shape[0]
        first = jax.random.randint(layer_key, (num,), 1, self.num_layers)
        mixed = jax.random.uniform(share_key, (num,)) < self.mixing
        first = jnp.where(mixed, first, self.num_layers)
        later = jnp.arange(self.num_layers)[None] >= first[:, None]  # [B, layers]
        return jnp.where(later[:, :, None], other[:, None], w[:, None])


class Discriminator(nn.Module):
    """Maps images to logits, one an image; sees how much the images of a group differ.

    Attributes:
      widths: feature maps of each stage, in the order of the generator: the image's come last.
      num_classes: 0, or the number of labels.
      head: what D says of labels: "projection" makes the logit the inner product of the features
        and what a mapping network makes of the label; "class" leaves the label to D, and returns
        "class", a logit for each label, beside "logits" (AC-GAN).
      mapping_layers: of that network.
      group_size: images that are compared; 0 for none.
      half_stages: so many stages next to the image compute in `dtype`, the others in float32.
      dtype: of the computation there; parameters and the logit are float32.
      remat: computes each stage anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (512, 512, 512, 512, 512)
    num_classes: int = 0
    head: str = "projection"
    mapping_layers: int = 8
    group_size: int = 4
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
        resample.first_size(x.shape[1:3], len(self.widths))
        widths, halvings = self.widths[::-1], len(self.widths) - 1
        for i in range(halvings):
            dtype = self.dtype if i < self.half_stages else jnp.float32
            if not i:
                x = Conv(widths[0], 1, dtype=dtype, name="from_image")(x)

            def stage(net: Discriminator, x: Array, i: int = i, dtype: Any = dtype) -> Array:
                return _residual(x, widths[i], widths[i + 1], dtype)

            x = layers.rematerialised(stage, self.remat)(self, x)
        x = x.astype(jnp.float32)  # [B, 4, 4, 512]
        if self.group_size:
            x = normalization.minibatch_std(x, group_size=self.group_size)
        x = Conv(widths[-1], name="last")(x)
        x = Dense(widths[-1], active=True, name="dense")(x.reshape(x.shape[0], -1))
        if self.num_classes and layers.by_class(self.head):
            classes = Dense(self.num_classes, name="classify")(x)
            return {"logits": Dense(1, name="judge")(x)[:, 0], "class": classes}
        outputs = widths[-1] if self.num_classes else 1
        x = Dense(outputs, name="judge")(x)
        if not self.num_classes:
            return x[:, 0]
        mapped = Mapping(outputs, self.mapping_layers, self.num_classes)(None, label)
        return (x * mapped).sum(-1) / math.sqrt(outputs)


def default_widths(
    image_size: Sequence[int], *, base: int = 32768, largest: int = 512
) -> tuple[int, ...]:
    """The published feature maps of each stage.

    Args:
      image_size: (height, width) in pixels.
      base: feature maps at one pixel a side, if there were no largest number: half as many at twice
        the side. The published one is 16384 for "paper256", 32768 otherwise.
      largest: number of feature maps of a stage.

    Returns:
      From 4 pixels a side to the image's.

    Raises:
      UserError: no network makes such images.
    """
    stages = resample.stages_for(image_size)
    return tuple(min(base // 2**n, largest) for n in range(2, 2 + stages))


def _residual(x: Array, width: int, out: int, dtype: Any) -> Array:
    """Halves the image by two convolutions, with a linear way past them."""
    skip = Conv(out, 1, down=True, use_bias=False, active=False, dtype=dtype)(x)
    y = Conv(width, dtype=dtype)(x)
    y = Conv(out, down=True, dtype=dtype)(y)
    return (skip + y) * math.sqrt(0.5)


def _conv(x: Array, w: Array, *, stride: int, padding: int) -> Array:
    size, kernel = (x.shape[1], x.shape[2]), (w.shape[0], w.shape[1])
    pads = ((padding, padding), (padding, padding))
    return conv.conv(conv.Window(size, kernel, (stride, stride), pads), x, w)


def _transposed(x: Array, w: Array) -> Array:
    """Convolves transposed at stride 2, without padding: [B, H, W, C] to [B, 2 H + 1, ...]."""
    size = (2 * x.shape[1] + 1, 2 * x.shape[2] + 1)
    window = conv.Window(size, (w.shape[0], w.shape[1]), (2, 2))
    return conv.input_grad(window, x, w.swapaxes(2, 3))


def _normalised(x: Array) -> Array:
    """Scales each example to a mean square of 1."""
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)


def _leaky(x: Array) -> Array:
    return nn.leaky_relu(x, SLOPE) * GAIN
