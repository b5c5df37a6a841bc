"""What networks that restore images share: blocks without norms, pixel shuffles, and any size.

A network of these adds a correction to the image it saw. Its sides need not divide: `padded`
reflects what is missing, and the network cuts it off again. So that large images can be cut into
tiles, a network says where these may begin (at multiples of `multiple`, in pixels of the input) and
how far around it each pixel sees (at most `reach`): with so much overlap, the tiles are the whole.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers
from jaxgan.types import Array, UserError

BEFORE_RELU = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# A tenth of that for what is added to feature maps, so that a deep network starts near the
# identity: "ESRGAN" by Wang et al. (https://arxiv.org/abs/1809.00219), section 3.1.
ADDED = nn.initializers.variance_scaling(0.02, "fan_in", "normal")


class Block(nn.Module):
    """Adds to feature maps what two convolutions make of them, without a norm.

    See "Enhanced Deep Residual Networks for Single Image Super-Resolution" by Lim et al.
    (https://arxiv.org/abs/1707.02921), figure 2 and section 3.3:

      x + scale W_2 relu(W_1 x)

    Attributes:
      scale: of what is added; below 1, wide networks of many blocks train stably.
      dtype: of the computation; parameters are float32.
    """

    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to itself."""
        features = x.shape[-1]
        y = layers.Conv(features, 3, kernel_init=BEFORE_RELU, dtype=self.dtype)(x)
        y = layers.Conv(features, 3, kernel_init=ADDED, dtype=self.dtype)(nn.relu(y))
        return x + y * self.scale


def shown(x: Array, channels: int) -> Array:
    """The image in what a network sees, which its correction is added to.

    Args:
      x: [B, H, W, channels]; [B, H, W, 1], grey, repeated for each channel; or more channels, of
        which the first ones are the image and the others a mask, say.
      channels: of the image that the network makes.

    Returns:
      [B, H, W, channels] float32.

    Raises:
      UserError: it has fewer channels, and is not grey.
    """
    seen = x.shape[-1]
    if seen < channels and seen != 1:
        raise UserError(
            f"a network that makes {channels} channels corrects images of {channels} or of 1, not "
            f"of {seen}; use channels={seen}, or bring the images to {channels}"
        )
    image = x[..., :channels].astype(jnp.float32)
    return jnp.broadcast_to(image, (*x.shape[:-1], channels))


def padded(x: Array, multiple: int) -> Array:
    """Makes both sides divide: the image goes on, reflected, below and to the right.

    Nothing moves against the grid of the halvings, so that of a large image a tile whose corner is
    on the grid is seen as in the whole, but near its edges.

    Args:
      x: [B, H, W, C].
      multiple: that the sides are to have.

    Returns:
      [B, h, w, C], h and w the next multiples of H and W.
    """
    below, right = (-side % multiple for side in x.shape[1:3])
    if not below and not right:
        return x
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")


def shuffle(x: Array, times: int) -> Array:
    """Takes channels apart into pixels: sub-pixel convolution, less the convolution.

    See "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network" by Shi et al. (https://arxiv.org/abs/1609.05158), equation 4.

    Args:
      x: [B, H, W, times^2 C]; the channels of an output pixel lie side by side, and the pixels of a
        row before the next row.
      times: pixels a side that each becomes.

    Returns:
      [B, times H, times W, C].
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, times, times, channels // times**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * times, width * times, -1)


def unshuffle(x: Array, times: int) -> Array:
    """Lays the pixels of each square side by side as channels: the inverse of `shuffle`.

    Args:
      x: [B, times H, times W, C].
      times: pixels a side of the squares.

    Returns:
      [B, H, W, times^2 C].
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // times, times, width // times, times, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // times, width // times, -1)


def icnr(init: Any, times: int) -> Any:
    """Makes an initialiser whose convolution, shuffled, begins as nearest neighbour enlargement.

    See "Checkerboard artifact free sub-pixel convolution" by Aitken et al.
    (https://arxiv.org/abs/1707.02937), section 3.3. All pixels that come of one start equal.

    Args:
      init: of the convolution before the enlargement.
      times: pixels a side, as in `shuffle`.

    Returns:
      The initialiser, for a kernel [kh, kw, C, times^2 O].
    """

    def make(key, shape, dtype=jnp.float32) -> Array:
        small = init(key, (*shape[:-1], shape[-1] // times**2), dtype)
        return jnp.tile(small, (1,) * (len(shape) - 1) + (times**2,))

    return make
