"""PacGAN: a discriminator that judges several examples at once, all real or all generated."""

from flax import linen as nn

from jaxgan.types import Array, UserError


def pack(x: Array, num: int) -> Array:
    """Puts neighbours in the batch side by side in the last axis.

    See "PacGAN: The power of two samples in generative adversarial networks" by Lin et al.
    (https://arxiv.org/abs/1712.04086), section 2.

    Args:
      x: [B, ..., C].
      num: examples in a pack; divides B.

    Returns:
      [B / num, ..., num * C], the channels of the first example first.

    Raises:
      UserError: the packs do not come out even.
    """
    if x.shape[0] % num:
        raise UserError(f"{x.shape[0]} examples do not make packs of {num}; change the batch size")
    x = x.reshape(x.shape[0] // num, num, *x.shape[1:])  # [B/m, m, ..., C]
    axes = (0, *range(2, x.ndim - 1), 1, x.ndim - 1)
    x = x.transpose(axes)  # [B/m, ..., m, C]
    return x.reshape(*x.shape[:-2], -1)


class Packed(nn.Module):
    """Wraps a discriminator so that it judges packs; it stands in every step for the plain one.

    R1 and R2 are then those of the pack, shared out among its members: the mean over the batch is
    1 / num of that over packs. Penalties that aim at a slope (`wgan_gp`, `wgan_lp`, `dragan`) aim
    at it for each member by itself, and so at sqrt(num) times it for the pack.

    Attributes:
      disc: the discriminator, of any number of channels; conditional ones cannot be packed.
      num: examples in a pack.
    """

    disc: nn.Module
    num: int = 2

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Array:
        """Judges packs.

        Args:
          x: [B, ..., C], num divides B.
          label: must be None.
          train: passed on.

        Returns:
          [B / num] float32 (or [B / num, h, w]).
        """
        if label is not None:
            raise UserError("a pack holds several labels; use an unconditional discriminator")
        return self.disc(pack(x, self.num), None, train=train)  # pyright: ignore
