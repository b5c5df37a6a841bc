"""The residual networks of WGAN-GP, SNGAN, SAGAN and BigGAN, at 32 to 256 pixels.

One pair of networks, with what the papers added as options:

- "Improved Training of Wasserstein GANs" by Gulrajani et al. (https://arxiv.org/abs/1704.00028),
  appendix F: `spectral=False` and `pooling="mean"` for D.
- "Spectral Normalization for Generative Adversarial Networks" by Miyato et al.
  (https://arxiv.org/abs/1802.05957), appendix B.4: the defaults; `widths=(128,) * 4` for D.
- "cGANs with Projection Discriminator" by Miyato and Koyama (https://arxiv.org/abs/1802.05637):
  `labels="norm"` for G, which is "A Learned Representation for Artistic Style" by Dumoulin et al.
  (https://arxiv.org/abs/1610.07629), and D's default head.
- "Self-Attention Generative Adversarial Networks" by Zhang et al.
  (https://arxiv.org/abs/1805.08318): `attention=32`, and `spectral=True` for G too.
- "Large Scale GAN Training for High Fidelity Natural Image Synthesis" by Brock et al.
  (https://arxiv.org/abs/1809.11096): `shared=128` and `hierarchical=True` for G.
"""

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn

from jaxgan import types
from jaxgan.nets import layers, resample, residual
from jaxgan.types import Array, UserError

LABELS = {"latent": False, "norm": True}  # whether the norms of G see the label
POOLINGS = {"sum": jnp.sum, "mean": jnp.mean}


class Generator(nn.Module):
    """Maps latents to images.

    A dense layer makes the first feature maps (4x4 for 32 pixels); each further stage is a residual
    block that doubles them. The last stage is normalised and convolved once more, and ends in tanh.

    Attributes:
      image_size: pixels a side, or (height, width): multiples of 2^(stages - 1).
      channels: of the image.
      widths: feature maps of each stage, from the smallest images to the largest.
      norm: "batch" or "none".
      momentum: of the running batch statistics.
      spectral: divides each kernel by its spectral norm.
      attention: shorter side of the feature maps that attend to themselves; 0 for none.
      num_classes: 0, or the number of labels that the images are conditioned on.
      labels: where G sees them: beside the "latent", or in the gains and biases of each "norm".
      shared: size of the embedding that the norms map to gains and biases; 0 for a table of gains
        and biases in each.
      hierarchical: the latent is cut into as many parts as there are stages, and each further
        block's norms see its own part; the size of the latent must divide.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters, statistics and the image are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    image_size: int | tuple[int, int] = 32
    channels: int = 3
    widths: Sequence[int] = (256, 256, 256, 256)
    norm: str = "batch"
    momentum: float = 0.9
    spectral: bool = False
    attention: int = 0
    num_classes: int = 0
    labels: str = "latent"
    shared: int = 0
    hierarchical: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, train: bool) -> Array:
        """Generates images.

        Args:
          z: [B, Z] latents.
          label: [B] int32 in [0, num_classes); None where not conditional.
          train: normalises with the batch's own statistics and records them; improves the
            estimates of spectral norms.

        Returns:
          [B, H, W, channels] float32 in [-1, 1].
        """
        chex.assert_rank(z, 2)
        side = self.image_size
        size = (side, side) if isinstance(side, int) else side
        start = resample.first_size(size, len(self.widths))
        options = _options(self)
        z, styles = self._styles(z, label)

        first = nn.Dense(
            math.prod(start) * self.widths[0],
            kernel_init=residual.glorot(),
            dtype=self.dtype,
            name="project",
        )
        x = residual.applied(options, first, z, train)
        x = x.reshape(-1, *start, self.widths[0])  # [B, 4, 4, 256]
        for i, width in enumerate(self.widths[1:]):

            def block(
                net: Generator, x: Array, style: Array | None, i: int = i, width: int = width
            ):
                x = residual.UpBlock(width, options, name=f"up_{i}")(x, style, train=train)
                return _attended(net, x, options, train)

            x = layers.rematerialised(block, self.remat)(self, x, styles[i])  # [B, 8, 8, 256]
        x = residual.norm(options)(x, train)
        last = layers.Conv(
            self.channels, 3, kernel_init=residual.glorot(), dtype=self.dtype, name="to_image"
        )
        return jnp.tanh(residual.applied(options, last, x, train).astype(jnp.float32))

    def _styles(self, z: Array, label: Array | None) -> tuple[Array, Sequence[Array | None]]:
        """The latent of the first layer, and what the norms of each block see beside x."""
        stages = len(self.widths)
        parts: Sequence[Array | None] = [None] * (stages - 1)
        if self.hierarchical:
            if z.shape[-1] % stages:
                raise UserError(
                    f"hierarchical latents are cut into {stages} parts, which {z.shape[-1]} "
                    f"numbers are not; use a multiple of {stages}"
                )
            z, *parts = jnp.split(z, stages, axis=-1)
        if not self.num_classes:
            return z, parts
        label, in_norms = layers.required(label), types.lookup(LABELS, self.labels, "labels")
        size = self.shared if in_norms else z.shape[-1]
        if not size:
            if self.hierarchical:
                raise UserError("hierarchical latents need a shared embedding; use shared=128")
            return z, [label] * (stages - 1)
        init = nn.initializers.normal(1.0)
        embedded = nn.Embed(self.num_classes, size, embedding_init=init, name="embed")(label)
        if not in_norms:
            return jnp.concatenate([z, embedded], axis=-1), parts
        return z, [
            embedded if part is None else jnp.concatenate([embedded, part], axis=-1)
            for part in parts
        ]


class Discriminator(nn.Module):
    """Maps images to logits, one an image.

    One residual block for each stage, from the image on: the first ones halve the feature maps, the
    last ones, two up to 32 pixels and one above, keep them. What is left after ReLU is added up
    over the pixels, and a dense layer makes the logit.

    Attributes:
      widths: feature maps of each block, in the order of the generator: the image's come last.
      spectral: divides each kernel by its spectral norm.
      norm: "none", or "layer" or "group" with a gradient penalty, before each ReLU but the first.
      pooling: "sum" or "mean" over the pixels that are left.
      attention: shorter side of the feature maps that attend to themselves; 0 for none.
      num_classes: 0, or the number of labels.
      head: what D says of labels: "projection" adds the inner product of the features and the
        label's embedding to the logit; "class" leaves the label to D, and returns "class", a logit
        for each label, beside "logits" (AC-GAN).
      dtype: of the computation; parameters and the logit are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    widths: Sequence[int] = (128, 128, 128, 128)
    spectral: bool = True
    norm: str = "none"
    pooling: str = "sum"
    attention: int = 0
    num_classes: int = 0
    head: str = "projection"
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Array, label: Array | None = None, *, train: bool
    ) -> Array | dict[str, Array]:
        """Judges images.

        Args:
          x: [B, H, W, C] in [-1, 1], H and W multiples of 2^(stages - 1).
          label: [B] int32 in [0, num_classes); None where there is no projection.
          train: improves the estimates of spectral norms.

        Returns:
          [B] float32, higher for what looks real; with the head "class" {"logits": [B], "class":
          [B, num_classes]}.
        """
        chex.assert_rank(x, 4)
        resample.first_size(x.shape[1:3], len(self.widths))
        options = residual.Options(self.norm, 0.0, self.spectral, 0, None, self.dtype)
        halvings = len(self.widths) - (2 if min(x.shape[1:3]) <= 32 else 1)
        for i, width in enumerate(self.widths[::-1]):

            def block(net: Discriminator, x: Array, i: int = i, width: int = width) -> Array:
                halve = i < halvings
                down = residual.DownBlock(width, options, halve, first=i == 0, name=f"down_{i}")
                x = down(x, train=train)
                return _attended(net, x, options, train) if halve else x

            x = layers.rematerialised(block, self.remat)(self, x)  # [B, 8, 8, 128]
        pool = types.lookup(POOLINGS, self.pooling, "pooling")
        x = pool(residual.norm(options)(x, train).astype(jnp.float32), (1, 2))

        init = residual.glorot()
        judge = nn.Dense(1, kernel_init=init, name="judge")
        logits = residual.applied(options, judge, x, train)[:, 0]
        if not self.num_classes:
            return logits
        if layers.by_class(self.head):
            classify = nn.Dense(self.num_classes, kernel_init=init, name="classify")
            return {"logits": logits, "class": residual.applied(options, classify, x, train)}
        embed = nn.Embed(self.num_classes, x.shape[-1], embedding_init=init, name="embed")
        embedded = residual.applied(options, embed, layers.required(label), train)
        return logits + jnp.sum(embedded * x, axis=-1)


def default_widths(image_size: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The published feature maps of each stage: SNGAN's up to 48 pixels, BigGAN's above.

    Args:
      image_size: (height, width) in pixels.

    Returns:
      The generator's and the discriminator's, from the smallest images to the largest.

    Raises:
      UserError: no network makes such images.
    """
    stages = resample.stages_for(image_size)
    if min(image_size) <= 48:
        return (256,) * stages, (128,) * stages
    narrowest = 128 if stages == 5 else 64
    gen = [min(1024, narrowest * 2**i) for i in range(stages - 1)][::-1]
    return (1024, *gen), tuple(min(1024, 64 * 2**i) for i in range(stages))[::-1]


def check(image_size: Sequence[int], widths: Sequence[int], *, attention: int = 0) -> None:
    """Refuses networks that cannot be made, before one is.

    Args:
      image_size: (height, width) in pixels.
      widths: feature maps of each stage.
      attention: shorter side of the feature maps that attend to themselves; 0 for none.

    Raises:
      UserError: another number of stages is needed, or no stage has maps of that side.
    """
    start = resample.first_size(image_size, len(widths))
    sides = [min(start) * 2**i for i in range(1, len(widths) - 1)]
    if attention and attention not in sides:
        raise UserError(
            f"attention at {attention} pixels needs feature maps of that size; the networks have "
            f"{', '.join(map(str, sides)) or 'none'}"
        )


def _options(net: Generator) -> residual.Options:
    return residual.Options(
        net.norm, net.momentum, net.spectral, net.num_classes, net.axis_name, net.dtype
    )


def _attended(net: Any, x: Array, options: residual.Options, train: bool) -> Array:
    """With attention, where feature maps have the size for it."""
    if net.attention != min(x.shape[1:3]):
        return x
    return residual.Attention(options, name="attention")(x, train=train)
