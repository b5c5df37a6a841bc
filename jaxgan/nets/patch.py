"""Discriminators that judge an image piece by piece: PatchGAN, and a U-Net with a logit a pixel.

Both are fully convolutional, and judge an image beside the one it was made from where they are
given it: `adaptors.judged(disc, "image", "source")`.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, normalization, resample, restoration
from jaxgan.types import Array, UserError

_INIT = nn.initializers.normal(0.02)


class Discriminator(nn.Module):
    """Maps images to logits, one for each patch: PatchGAN.

    See "Image-to-Image Translation with Conditional Adversarial Networks" by Isola et al.
    (https://arxiv.org/abs/1611.07004), section 3.2.2 and appendix 6.1.2. Each logit sees a square
    of `receptive_field(strides)` pixels a side, by default 70; the squares lie as far apart as the
    product of the strides. The paper's others are of 1 pixel (`kernel=1`, `strides=(1, 1)`), 16
    (`strides=(2, 1)`) and 286 (`strides=(2, 2, 2, 2, 2, 1)`).

    Attributes:
      widths: feature maps of each hidden layer.
      strides: of each hidden layer; the layer that makes the logits has stride 1.
      kernel: side of the kernels.
      norm: of all hidden layers but the first: "batch", "instance" (without scales) or "none";
        not "batch" with a gradient penalty.
      spectral: divides each kernel by its spectral norm.
      slope: of the leaky ReLU.
      momentum: of the running batch statistics.
      with_features: returns the activations of the hidden layers too, for feature matching.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and logits are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    strides: Sequence[int] = (2, 2, 2, 1)
    kernel: int = 4
    norm: str = "batch"
    spectral: bool = False
    slope: float = 0.2
    momentum: float = 0.9
    with_features: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, image: Array, source: Array | None = None, *, train: bool
    ) -> Array | dict[str, Any]:
        """Judges images.

        Args:
          image: [B, H, W, C] in [-1, 1].
          source: [B, H, W, c], what the image was made from; None where D does not see it.
          train: normalises with the batch's own statistics and records them; improves the
            estimates of spectral norms.

        Returns:
          [B, h, w] float32, higher for what looks real; with the features {"logits": [B, h, w],
          "features": a list of [B, h, w, width]}.

        Raises:
          UserError: the image is too small, or the source has another size.
        """
        self._check(image.shape[1:3])
        x = _beside(source, image)
        features = []
        for i, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):

            def layer(
                net: Discriminator, x: Array, i: int = i, width: int = width, stride: int = stride
            ) -> Array:
                bias = i == 0 or net.norm != "batch"
                x = net._convolved(width, stride, x, f"conv_{i}", bias, train)
                norm = layers.Norm(
                    net.norm if i else "none",
                    momentum=net.momentum,
                    axis_name=net.axis_name,
                    dtype=net.dtype,
                    slope=net.slope,
                    affine=net.norm != "instance",
                    name=f"norm_{i}",
                )
                return norm(x, train)

            x = layers.rematerialised(layer, self.remat)(self, x)  # [B, H / 2, W / 2, 64]
            features.append(x)
        logits = self._convolved(1, 1, x, "judge", True, train)[..., 0].astype(jnp.float32)
        return {"logits": logits, "features": features} if self.with_features else logits

    def _convolved(self, features, stride, x, name, bias, train) -> Array:
        conv = layers.Conv(
            features,
            self.kernel,
            strides=stride,
            padding=(self.kernel - 1) // 2,
            use_bias=bias,
            kernel_init=_INIT,
            dtype=self.dtype,
            name=name,
        )
        return _applied(self.spectral, conv, x, train)

    def _check(self, size: Sequence[int]) -> None:
        if len(self.widths) != len(self.strides):
            raise UserError(
                f"{len(self.widths)} widths and {len(self.strides)} strides are not one a layer"
            )
        smallest = 1
        for stride in (1, *reversed(self.strides)):
            smallest = (smallest - 1) * stride + self.kernel - 2 * ((self.kernel - 1) // 2)
        if min(size) < smallest:
            raise UserError(
                f"an image of {size[0]} x {size[1]} is too small for a PatchGAN of strides "
                f"{', '.join(map(str, self.strides))}, which needs {smallest} pixels a side; use "
                "larger images or fewer strides"
            )


class UNetDiscriminator(nn.Module):
    """Maps images to a logit for the whole and one for each pixel.

    See "A U-Net Based Discriminator for Generative Adversarial Networks" by Schoenfeld et al.
    (https://arxiv.org/abs/2002.12655), in the form of "Real-ESRGAN" by Wang et al.
    (https://arxiv.org/abs/2107.10833), section 3.3, which has only the logits of pixels: spectral
    norm on all layers but the first and the last, bilinear enlargement, and sums where the other
    has concatenation. As in the first, a linear layer on the mean over the pixels in the middle
    makes the logit of the whole. Any height and width will do.

    Attributes:
      widths: feature maps of each size, from the largest on; each further one has half the side.
      spectral: divides the kernels by their spectral norm.
      slope: of the leaky ReLU.
      with_features: returns the activations too, for feature matching.
      dtype: of the computation; parameters and logits are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    spectral: bool = True
    slope: float = 0.2
    with_features: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Array, source: Array | None = None, *, train: bool) -> dict[str, Any]:
        """Judges images.

        Args:
          image: [B, H, W, C] in [-1, 1].
          source: [B, H, W, c], what the image was made from; None where D does not see it.
          train: improves the estimates of spectral norms.

        Returns:
          {"logits": (of the whole [B], of each pixel [B, H, W])} float32, higher for what looks
          real; with the features also "features", a list of feature maps from the first layer on.

        Raises:
          UserError: the source has another size.
        """
        height, width = image.shape[1:3]
        x = restoration.padded(_beside(source, image), 2 ** (len(self.widths) - 1))
        first = layers.Conv(
            self.widths[0], 3, kernel_init=restoration.BEFORE_RELU, dtype=self.dtype, name="first"
        )
        x = nn.leaky_relu(first(x), self.slope)
        maps = [x]
        for i, features in enumerate(self.widths[1:]):
            x = self._activated(x, features, f"down_{i}", train, down=True)
            maps.append(x)  # [B, H / 2, W / 2, 128]
        judge = nn.Dense(1, dtype=jnp.float32, name="judge")
        pooled = x.astype(jnp.float32).mean((1, 2))
        whole = _applied(self.spectral, judge, pooled, train)[:, 0]

        features_up = []
        for i, features in reversed(list(enumerate(self.widths[:-1]))):
            x = self._activated(resample.enlarge(x), features, f"up_{i}", train) + maps[i]
            features_up.append(x)
        for i in range(2):
            x = self._activated(x, self.widths[0], f"last_{i}", train)
        x = layers.Conv(1, 3, dtype=self.dtype, name="judge_pixels")(x)
        logits = whole, x[:, :height, :width, 0].astype(jnp.float32)
        if not self.with_features:
            return {"logits": logits}
        return {"logits": logits, "features": [*maps, *features_up]}

    def _activated(
        self, x: Array, features: int, name: str, train: bool, *, down: bool = False
    ) -> Array:
        """Convolved and activated, and halved where it goes down."""

        def layer(net: UNetDiscriminator, x: Array) -> Array:
            conv = layers.Conv(
                features,
                4 if down else 3,
                strides=2 if down else 1,
                use_bias=False,
                kernel_init=restoration.BEFORE_RELU,
                dtype=net.dtype,
                name=name,
            )
            return nn.leaky_relu(_applied(net.spectral, conv, x, train), net.slope)

        return layers.rematerialised(layer, self.remat)(self, x)


def receptive_field(strides: Sequence[int], *, kernel: int = 4) -> int:
    """How many pixels a side each logit of a PatchGAN sees.

    Args:
      strides: of each hidden layer.
      kernel: side of the kernels.

    Returns:
      Pixels a side: 70 for strides of 2, 2, 2 and 1.
    """
    side = kernel  # of the layer that makes the logits
    for stride in reversed(strides):
        side = (side - 1) * stride + kernel
    return side


def _beside(source: Array | None, image: Array) -> Array:
    """What D sees: the image alone, or after what it was made from."""
    chex.assert_rank(image, 4)
    if source is None:
        return image
    if source.shape[:3] != image.shape[:3]:
        given, needed = (f"{x.shape[1]} x {x.shape[2]}" for x in (source, image))
        raise UserError(
            f"a source of {given} is not beside an image of {needed}; enlarge it first, or judge "
            "the image alone"
        )
    return jnp.concatenate([source.astype(image.dtype), image], axis=-1)


def _applied(spectral: bool, layer: Any, x: Array, train: bool) -> Array:
    """A layer's output, its kernel divided by its spectral norm where that is asked for."""
    if spectral:
        return normalization.SpectralNorm(layer, name=f"{layer.name}_norm")(x, train=train)
    return layer(x)
