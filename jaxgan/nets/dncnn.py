"""DnCNN: a plain row of 3x3 convolutions that says what noise an image has.

See "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising" by Zhang et al.
(https://arxiv.org/abs/1608.03981), and "FFDNet: Toward a Fast and Flexible Solution for CNN-based
Image Denoising" by Zhang et al. (https://arxiv.org/abs/1710.04026) for `fold=2`.
"""

from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, restoration
from jaxgan.types import Array


class Restorer(nn.Module):
    """Maps an image to the restored one: the image and a correction, which is 0 at the start.

    The form without batch norm, which is the published one of later code by the same authors. The
    correction is the negative of the paper's residual. Any height and width will do.

    Attributes:
      channels: of the image it makes.
      width: feature maps of each hidden layer.
      depth: convolutions: 17 for one level of noise, 20 for any; FFDNet has 15 for grey images.
      fold: squares of this many pixels a side become one pixel before the first convolution, and
        are taken apart after the last: 2 is a quarter of the work, and sees twice as far.
      dtype: of the computation; parameters and the image are float32.
    """

    channels: int = 3
    width: int = 64
    depth: int = 17
    fold: int = 1
    dtype: Any = jnp.float32

    @property
    def multiple(self) -> int:
        """Pixels: what tiles of an image begin at multiples of."""
        return self.fold

    @property
    def reach(self) -> int:
        """Pixels: how far from a pixel those lie at most that it depends on."""
        return self.fold * (self.depth + 1) - 1

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
        x = restoration.unshuffle(restoration.padded(image, self.multiple), self.fold)
        for _ in range(self.depth - 1):
            init = restoration.BEFORE_RELU
            x = nn.relu(layers.Conv(self.width, 3, kernel_init=init, dtype=self.dtype)(x))
        last = layers.Conv(
            self.channels * self.fold**2,
            3,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="correct",
        )
        correction = restoration.shuffle(last(x), self.fold)[:, :height, :width]
        return seen + correction.astype(jnp.float32)
