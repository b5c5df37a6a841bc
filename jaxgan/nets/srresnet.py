"""SRResNet, the generator of SRGAN: enlarges images two, three or four times.

See "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network" by Ledig
et al. (https://arxiv.org/abs/1609.04802), figure 4, in the manner of "Enhanced Deep Residual
Networks for Single Image Super-Resolution" by Lim et al. (https://arxiv.org/abs/1707.02921): no
batch norm, ReLU, nothing after the sums.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, restoration
from jaxgan.types import Array, UserError

STEPS = {2: (2,), 3: (3,), 4: (2, 2)}  # enlargements that follow each other


class Generator(nn.Module):
    """Maps images to enlarged ones.

    All residual blocks work at the small size; then each step of the enlargement is a convolution
    and a pixel shuffle, which begins as nearest neighbour (ICNR), and a last convolution makes the
    image. It is added to the bicubic enlargement, and is 0 at the start. Any height and width will
    do.

    Attributes:
      scale: how many times the sides grow: 2, 3 or 4.
      channels: of the image it makes.
      width: feature maps: 64 in SRResNet and the smaller EDSR, 256 in EDSR.
      blocks: residual blocks: 16 in SRResNet and the smaller EDSR, 32 in EDSR.
      residual_scale: of what a residual block adds: 1, and .1 in EDSR.
      bicubic: adds the output to the bicubic enlargement of the input, that of `jax.image.resize`:
        Keys's kernel with a = -.5, as in Pillow, and in MATLAB but for the edge. Else the network
        makes the whole image.
      direct: makes all pixels of the image by one convolution and shuffle, at the small size, as
        ESPCN (https://arxiv.org/abs/1609.05158): for x4, half of the work.
      dtype: of the computation; parameters and the image are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    scale: int = 4
    channels: int = 3
    width: int = 64
    blocks: int = 16
    residual_scale: float = 1.0
    bicubic: bool = True
    direct: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def multiple(self) -> int:
        """Pixels of the input: what its tiles begin at multiples of."""
        return 1

    @property
    def reach(self) -> int:
        """Pixels of the input: how far from a pixel those lie at most that it depends on."""
        return 2 * self.blocks + 4  # and four convolutions, of which some see a part of a pixel

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Enlarges images.

        Args:
          image: [B, H, W, channels] in [-1, 1]; or grey, or with further channels, see
            `restoration.shown`.
          train: changes nothing.

        Returns:
          [B, scale H, scale W, channels] float32, not cut off at -1 and 1.

        Raises:
          UserError: there is no such scale, or the image has too few channels.
        """
        del train
        chex.assert_rank(image, 4)
        if self.scale not in STEPS:
            known = ", ".join(map(str, STEPS))
            raise UserError(f"scale {self.scale} is not one of {known}")
        first = layers.Conv(self.width, 3, dtype=self.dtype, name="first")(image)
        x = first
        for i in range(self.blocks):

            def block(net: Generator, x: Array, i: int = i) -> Array:
                scale = net.residual_scale
                return restoration.Block(scale, net.dtype, name=f"block_{i}")(x)

            x = layers.rematerialised(block, self.remat)(self, x)
        added = layers.Conv(
            self.width, 3, kernel_init=restoration.ADDED, dtype=self.dtype, name="join"
        )
        x = self._enlarged(first + added(x)).astype(jnp.float32)
        if not self.bicubic:
            return x
        return x + jax.image.resize(restoration.shown(image, self.channels), x.shape, "cubic")

    def _enlarged(self, x: Array) -> Array:
        """The image [B, scale H, scale W, channels] that feature maps become."""
        last = nn.initializers.zeros if self.bicubic else nn.initializers.lecun_normal()
        if self.direct:
            return self._shuffled(x, self.channels, self.scale, "to_image", last)
        for i, times in enumerate(STEPS[self.scale]):
            x = self._shuffled(x, self.width, times, f"up_{i}", nn.initializers.lecun_normal())
        conv = layers.Conv(self.channels, 3, kernel_init=last, dtype=self.dtype, name="to_image")
        return conv(x)

    def _shuffled(self, x: Array, features: int, times: int, name: str, init: Any) -> Array:
        conv = layers.Conv(
            features * times**2,
            3,
            kernel_init=restoration.icnr(init, times),
            dtype=self.dtype,
            name=name,
        )
        return restoration.shuffle(conv(x), times)
