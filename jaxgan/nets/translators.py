"""Networks that translate images from one look to another: CycleGAN's generator, CUT's projections.

The generator halves the image twice, changes it by residual blocks, and doubles it twice. Sides
need not divide: what is missing to a multiple of 4 is reflected, and cut off again.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import layers, resample, restoration
from jaxgan.types import Array, Key, lookup

_INIT = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Translates images: the residual network of CycleGAN.

    See "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks" by Zhu et
    al. (https://arxiv.org/abs/1703.10593), appendix 7.2, after "Perceptual Losses for Real-Time
    Style Transfer" by Johnson et al. Instance norm without scales, reflection at the edges.

    Since norms look at the whole image, it cannot be applied to tiles.

    Attributes:
      channels: of the image it makes.
      width: feature maps of the first convolution; twice and four times as many follow.
      blocks: residual blocks: 9 for 256 pixels and more, 6 for 128.
      up: how the image is doubled: by "transposed" convolutions, as published, or by convolutions
        of "bilinear" enlargements, which leave no checkerboards.
      norm: "instance", "batch" or "none".
      residual: adds what it makes to the image, which must have as many channels, and begins with
        nothing to add, in place of the published tanh: for looks that are near each other.
      axis_name: the mapped axis that batch statistics are averaged over, under `pmap`.
      dtype: of the computation; parameters and the image are float32.
      remat: computes each block anew in the backward pass: less memory, more time.
    """

    channels: int = 3
    width: int = 64
    blocks: int = 9
    up: str = "transposed"
    norm: str = "instance"
    residual: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Array, *, train: bool, encoded: bool = False) -> Any:
        """Translates images.

        Args:
          image: [B, H, W, C] in [-1, 1].
          train: records batch statistics, if there are any.
          encoded: returns what the first half sees of the image, and makes none.

        Returns:
          [B, H, W, channels] float32 in [-1, 1], of a residual network perhaps a little outside; or
          the activations that CUT compares, five of [B, h, w, features]: the image, both halvings
          before their norms, the first block and the middle one (see `PatchProjection`).
        """
        chex.assert_rank(image, 4)
        lookup(dict.fromkeys(resample.UPS), self.up, "up")
        height, width = image.shape[1:3]
        x = restoration.padded(image, 4)
        seen = [x]
        x = self._activated(self._conv(reflected(x, 3), self.width, 7, "first"), "first", train)
        for i in (1, 2):
            x = self._conv(x, self.width * 2**i, 3, f"down_{i}", strides=2, padding=1)
            seen.append(x)
            x = self._activated(x, f"down_{i}", train)  # [B, H / 2^i, W / 2^i, 2^i width]
        middle = min(self.blocks, self.blocks // 2 + 1)
        for i in range(1, self.blocks + 1):

            def block(net: Generator, x: Array, i: int = i) -> Array:
                return net._block(x, f"block_{i}", train)

            x = layers.rematerialised(block, self.remat)(self, x)
            if i in (1, middle):
                seen.append(x)
            if encoded and i == middle:
                return seen
        for i in (1, 0):
            x = self._activated(self._doubled(x, self.width * 2**i, f"up_{i}"), f"up_{i}", train)
        init = nn.initializers.zeros_init() if self.residual else _INIT
        x = self._conv(reflected(x, 3), self.channels, 7, "to_image", kernel_init=init)
        x = x.astype(jnp.float32)[:, :height, :width]
        return image + x if self.residual else jnp.tanh(x)

    def _block(self, x: Array, name: str, train: bool) -> Array:
        features = x.shape[-1]
        y = self._conv(reflected(x, 1), features, 3, f"{name}_1")
        y = self._activated(y, f"{name}_1", train)
        y = self._conv(reflected(y, 1), features, 3, f"{name}_2")
        return x + self._normalised(y, f"{name}_2", None, train)

    def _doubled(self, x: Array, features: int, name: str) -> Array:
        if self.up == "bilinear":
            x = reflected(resample.enlarge(x), 1)
            return self._conv(x, features, 3, name)
        up = layers.ConvTranspose(
            features,
            3,
            strides=2,
            padding=((1, 2), (1, 2)),  # of the dilated input: one more after it, the published size
            use_bias=self.norm != "batch",
            kernel_init=_INIT,
            dtype=self.dtype,
            name=name,
        )
        return up(x)

    def _conv(self, x: Array, features: int, kernel: int, name: str, **options: Any) -> Array:
        conv = layers.Conv(
            features,
            kernel,
            use_bias=self.norm != "batch" or name == "to_image",
            dtype=self.dtype,
            name=name,
            **{"padding": 0, "kernel_init": _INIT, **options},
        )
        return conv(x)

    def _activated(self, x: Array, name: str, train: bool) -> Array:
        return self._normalised(x, name, 0.0, train)

    def _normalised(self, x: Array, name: str, slope: float | None, train: bool) -> Array:
        norm = layers.Norm(
            self.norm,
            axis_name=self.axis_name,
            dtype=self.dtype,
            slope=slope,
            affine=self.norm != "instance",
            name=f"{name}_norm",
        )
        return norm(x, train)


class PatchProjection(nn.Module):
    """Chooses places in feature maps, and projects what is there: CUT's sampler and its head.

    See "Contrastive Learning for Unpaired Image-to-Image Translation" by Park et al.
    (https://arxiv.org/abs/2007.15651), section 3.2: a network of two layers for each map.

    Attributes:
      num: places of each map; all of them where there are fewer.
      features: of a projection.
      dtype: of the computation; parameters and projections are float32.
    """

    num: int = 256
    features: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Array], key: Key) -> list[Array]:
        """Projects patches of each map.

        Args:
          maps: [B, h, w, C] each.
          key: of the places, which are the same in all images of a batch; not consumed: the places
            of two images that are compared are those of one key.

        Returns:
          [B, n, features] float32 of each map, of length 1.
        """
        found = []
        for i, each in enumerate(maps):
            rows = each.reshape(each.shape[0], -1, each.shape[-1])
            places = jax.random.permutation(jax.random.fold_in(key, i), rows.shape[1])[: self.num]
            x = rows[:, places]
            x = nn.Dense(self.features, kernel_init=_INIT, dtype=self.dtype, name=f"in_{i}")(x)
            x = nn.relu(x)
            x = nn.Dense(self.features, kernel_init=_INIT, dtype=self.dtype, name=f"out_{i}")(x)
            x = x.astype(jnp.float32)
            length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-16)
            found.append(x / length)
        return found


class BothWays(nn.Module):
    """CycleGAN's two generators as one player, with the images that its losses compare.

    See "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks" by Zhu et
    al. (https://arxiv.org/abs/1703.10593), section 3, and 5.2 for the identity.

    Attributes:
      ab: translates from the first look to the second.
      ba: the other way.
      identity: also shows each generator what is of its target look already.
    """

    ab: nn.Module
    ba: nn.Module
    identity: bool = True

    def __call__(self, a: Array, b: Array, *, train: bool) -> dict[str, Array]:
        """Translates both ways, and back.

        Args:
          a: [B, H, W, C] in [-1, 1], of the first look.
          b: [B, H, W, C], of the second.
          train: as of the generators.

        Returns:
          {"b": of a, "a": of b, "cycle_a": of that b, "cycle_b": of that a}, and "identity_a" made
          of a, "identity_b" of b.
        """
        made_b, made_a = self.ab(a, train=train), self.ba(b, train=train)
        back = {
            "cycle_a": self.ba(made_b, train=train),
            "cycle_b": self.ab(made_a, train=train),
        }
        if self.identity:
            back |= {"identity_a": self.ba(a, train=train), "identity_b": self.ab(b, train=train)}
        return {"a": made_a, "b": made_b, **back}


class Contrasted(nn.Module):
    """CUT's generator and projections as one player, with the patches that its loss contrasts.

    See "Contrastive Learning for Unpaired Image-to-Image Translation" by Park et al.
    (https://arxiv.org/abs/2007.15651), section 3, and `losses.patch_nce`.

    Attributes:
      ab: translates; a `Generator`.
      project: chooses and projects patches; a `PatchProjection`.
      identity: also contrasts an image of the target look with what is made of it.
    """

    ab: nn.Module
    project: nn.Module
    identity: bool = True

    def __call__(self, a: Array, b: Array, *, train: bool) -> dict[str, Any]:
        """Translates one way.

        Args:
          a: [B, H, W, C] in [-1, 1], of the first look.
          b: [B, H, W, C], of the second.
          train: as of the generator.

        Returns:
          {"b": made of a [B, H, W, C], "patches": (of that, of a)}, projections of both as lists of
          [B, n, features], and "identity": the same of what is made of b and of b.
        """
        made = self.ab(a, train=train)
        found = {"b": made, "patches": self._patches(made, a, train)}
        if self.identity:
            found["identity"] = self._patches(self.ab(b, train=train), b, train)
        return found

    def _patches(self, made: Array, image: Array, train: bool) -> tuple[list[Array], list[Array]]:
        key = self.make_rng("patches")
        maps = [self.ab(x, train=train, encoded=True) for x in (made, image)]
        query, positive = (self.project(each, jax.random.clone(key)) for each in maps)
        return query, positive


class Directed(nn.Module):
    """One generator of a player of several, by the player's variables.

    Attributes:
      ab: the player's generator from the first look to the second.
      ba: the one back, if there is one.
      direction: "ab" or "ba".
    """

    ab: nn.Module
    ba: nn.Module | None = None
    direction: str = "ab"

    def __call__(self, image: Array, *, train: bool) -> Array:
        """Translates [B, H, W, C] to the other look."""
        return {"ab": self.ab, "ba": self.ba}[self.direction](image, train=train)


class BothJudges(nn.Module):
    """A discriminator for each look, as one player.

    Attributes:
      a: judges images of the first look.
      b: of the second.
    """

    a: nn.Module
    b: nn.Module

    def __call__(self, a: Array, b: Array, *, train: bool) -> dict[str, Any]:
        """Judges both: {"logits": {"a": ..., "b": ...}}."""
        return {"logits": {"a": self.a(a, train=train), "b": self.b(b, train=train)}}


def reflected(x: Array, pixels: int) -> Array:
    """Adds a border in which the image goes on as in a mirror.

    Args:
      x: [B, H, W, C], with more pixels a side than the border.
      pixels: width of the border.

    Returns:
      [B, H + 2 pixels, W + 2 pixels, C].
    """
    edge = (pixels, pixels)
    return jnp.pad(x, ((0, 0), edge, edge, (0, 0)), mode="reflect")
