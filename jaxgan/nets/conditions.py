"""Labels for a discriminator that knows of none: as further channels of the image."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers
from jaxgan.types import Array

PLANES = 8  # channels that a label becomes, at most


class LabelPlanes(nn.Module):
    """Shows any discriminator each image with its label's embedding in further channels.

    See "Conditional Generative Adversarial Nets" by Mirza and Osindero
    (https://arxiv.org/abs/1411.1784); in channels of the input, each number the same at all pixels,
    as in "Invertible Conditional GANs for image editing" by Perarnau et al.
    (https://arxiv.org/abs/1611.06355), section 3.2.

    Attributes:
      disc: the discriminator, of images alone.
      num_classes: the number of labels.
    """

    disc: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Any:
        """Judges images.

        Args:
          x: [B, H, W, C].
          label: [B] int32 in [0, num_classes).
          train: handed on.

        Returns:
          What the discriminator says of [B, H, W, C + min(num_classes, 8)].
        """
        width = min(self.num_classes, PLANES)
        embed = nn.Embed(self.num_classes, width, embedding_init=nn.initializers.normal(1.0))
        planes = embed(layers.required(label))[:, None, None, :].astype(x.dtype)
        planes = jnp.broadcast_to(planes, (*x.shape[:3], width))
        return self.disc(jnp.concatenate([x, planes], axis=-1), train=train)  # pyright: ignore
