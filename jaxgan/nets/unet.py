"""U-Nets that map an image to an image: pix2pix's generator, and a residual one for restoration.

What is halved on the way down is doubled on the way up, and meets there what it was before. Any
height and width will do: what is missing to a multiple of the smallest maps' pixels is reflected
beyond the lower and right edge, and cut off again.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, resample, restoration
from jaxgan.types import Array, lookup

_INIT = nn.initializers.normal(0.02)  # of pix2pix, appendix 6.2
_SLOPE = 0.2
_DROPPED = 3  # decoder blocks with dropout


class Generator(nn.Module):
    """Translates images: pix2pix's U-Net.

    See "Image-to-Image Translation with Conditional Adversarial Networks" by Isola et al.
    (https://arxiv.org/abs/1611.07004), appendix 6.1.1. Convolutions of stride 2 halve the image
    once for each width, transposed ones double it again; each but the last sees beside what it
    enlarges the feature maps of its size. At 256 pixels nothing but one pixel is left in the
    middle, which is not normalised: of one image, batch norm would leave nothing.

    Its noise is dropout. The paper leaves it on when it makes images, and takes the statistics of
    the batch, of one image: that is `train=True`.

    Attributes:
      channels: of the image it makes.
      widths: feature maps of each halving: the published eight for 256 pixels and more. Smaller
        images need fewer: up to 2^n pixels, n.
      up: how maps are doubled: by "transposed" convolutions, as published, or by convolutions of
        "bilinear" enlargements, which leave no checkerboards.
      norm: "batch", "instance" (without scales, as published for it) or "none".
      dropout: share of activations dropped in training in the first three decoder blocks.
      momentum: of the running batch statistics.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and the image are float32.
      remat: computes each layer anew in the backward pass: less memory, more time.
    """

    channels: int = 3
    widths: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512)
    up: str = "transposed"
    norm: str = "batch"
    dropout: float = 0.5
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Translates images.

        Args:
          image: [B, H, W, C] in [-1, 1].
          train: normalises with the batch's own statistics and records them; drops out, by the
            key "dropout".

        Returns:
          [B, H, W, channels] float32 in [-1, 1].
        """
        chex.assert_rank(image, 4)
        lookup(dict.fromkeys(resample.UPS), self.up, "up")
        height, width = image.shape[1:3]
        bias, inmost = self.norm != "batch", len(self.widths) - 1
        x = restoration.padded(image, 2 ** len(self.widths))
        maps = []
        for i, features in enumerate(self.widths):

            def down(net: Generator, x: Array, i: int = i, features: int = features) -> Array:
                x = net._halved(features, x, f"down_{i}", bias)
                norm = "none" if i in (0, inmost) else net.norm
                return net._normalised(norm, x, f"down_{i}_norm", _SLOPE, train)

            x = layers.rematerialised(down, self.remat)(self, x)  # [B, H / 2, W / 2, 64]
            maps.append(x)

        x = nn.relu(maps.pop())
        for i, features in reversed(list(enumerate(self.widths[:-1]))):

            def up(
                net: Generator, x: Array, skipped: Array, i: int = i, features: int = features
            ) -> Array:
                x = net._doubled(features, x, f"up_{i}", bias)
                x = net._normalised(net.norm, x, f"up_{i}_norm", 0.0, train)
                if inmost - i <= _DROPPED and net.dropout:
                    x = nn.Dropout(net.dropout, deterministic=not train)(x)
                # The ReLU of what is already activated by a leaky one is that of what it was.
                return jnp.concatenate([nn.relu(skipped), x], axis=-1)

            x = layers.rematerialised(up, self.remat)(self, x, maps.pop())
        x = self._doubled(self.channels, x, "to_image", True)
        return jnp.tanh(x[:, :height, :width].astype(jnp.float32))

    def _halved(self, features: int, x: Array, name: str, bias: bool) -> Array:
        return layers.Conv(features, 4, strides=2, **self._options(name, bias))(x)

    def _doubled(self, features: int, x: Array, name: str, bias: bool) -> Array:
        if self.up == "bilinear":
            return layers.Conv(features, 3, **self._options(name, bias))(resample.enlarge(x))
        return layers.ConvTranspose(features, 4, strides=2, **self._options(name, bias))(x)

    def _options(self, name: str, bias: bool) -> dict[str, Any]:
        return {"use_bias": bias, "kernel_init": _INIT, "dtype": self.dtype, "name": name}

    def _normalised(self, kind: str, x: Array, name: str, slope: float, train: bool) -> Array:
        """Normalises and activates."""
        norm = layers.Norm(
            kind,
            momentum=self.momentum,
            axis_name=self.axis_name,
            dtype=self.dtype,
            slope=slope,
            affine=kind != "instance",
            name=name,
        )
        return norm(x, train)


class Restorer(nn.Module):
    """Restores images: the image and a correction, which is 0 at the start, by a U-shaped net.

    After "Plug-and-Play Image Restoration with Deep Denoiser Prior" by Zhang et al.
    (https://arxiv.org/abs/2008.13751), figure 1: residual blocks without norms at each size, 2x2
    convolutions of stride 2 on the way down, and sums in place of concatenation. On the way up the
    maps are enlarged bilinearly where the paper has transposed convolutions, so that whatever it
    learns, no checkerboard can come of a smooth image. There are biases.

    Attributes:
      channels: of the image it makes.
      widths: feature maps of each size, from the largest on; each further one has half the side.
        The paper has 64, 128, 256, 512.
      blocks: residual blocks at each size on either way; the paper has 4.
      scale: of what a residual block adds.
      fold: squares of this many pixels a side become one pixel before the first convolution, and
        are taken apart after the last: 2 is a quarter of the work. The pixels of a square then
        have weights of their own, and only the start is free of checkerboards.
      dtype: of the computation; parameters and the image are float32.
      remat: computes the blocks of each size anew in the backward pass: less memory, more time.
    """

    channels: int = 3
    widths: Sequence[int] = (32, 64, 128, 256)
    blocks: int = 2
    scale: float = 1.0
    fold: int = 1
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def multiple(self) -> int:
        """Pixels: what tiles of an image begin at multiples of, and its sides are padded to."""
        return self.fold * 2 ** (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """Pixels: how far from a pixel those lie at most that it depends on."""
        halvings = len(self.widths) - 1
        # In pixels of each size: blocks on either way, and one for the enlargement.
        seen = [4 * self.blocks + 1] * halvings + [2 * self.blocks + 1]
        seen[0] += 1  # the first and the last convolution, and no enlargement
        return self.fold * sum(n * 2**i for i, n in enumerate(seen)) + self.multiple - 1

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Restores images.

        Args:
          image: [B, H, W, channels] in [-1, 1]; or grey, or with further channels, see
            `restoration.shown`.
          train: changes nothing.

        Returns:
          [B, H, W, channels] float32, not cut off at -1 and 1.

        Raises:
          UserError: the image has too few channels.
        """
        del train
        chex.assert_rank(image, 4)
        height, width = image.shape[1:3]
        seen = restoration.shown(image, self.channels)
        x = restoration.padded(image, self.multiple)
        x = restoration.unshuffle(x, self.fold)
        x = layers.Conv(self.widths[0], 3, dtype=self.dtype, name="first")(x)
        maps = []
        for i, features in enumerate(self.widths):
            if i:
                x = layers.Conv(features, 2, strides=2, dtype=self.dtype, name=f"down_{i}")(x)
            x = self._refined(x, f"down_block_{i}")  # [B, H / 2^i, W / 2^i, features]
            maps.append(x)
        x = maps.pop()
        for i, features in reversed(list(enumerate(self.widths[:-1]))):
            # Convolved before it is enlarged: the same, and a quarter of the work.
            x = layers.Conv(features, 1, dtype=self.dtype, name=f"up_{i}")(x)
            x = self._refined(resample.enlarge(x) + maps.pop(), f"up_block_{i}")
        last = layers.Conv(
            self.channels * self.fold**2,
            3,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="correct",
        )
        correction = restoration.shuffle(last(x), self.fold)[:, :height, :width]
        return seen + correction.astype(jnp.float32)

    def _refined(self, x: Array, name: str) -> Array:
        """After the residual blocks of one size."""

        def blocks(net: Restorer, x: Array) -> Array:
            for i in range(net.blocks):
                x = restoration.Block(net.scale, net.dtype, name=f"{name}_{i}")(x)
            return x

        return layers.rematerialised(blocks, self.remat)(self, x)
