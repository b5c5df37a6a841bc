"""Contrastive losses: what belongs together must be nearer than what does not."""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array


def patch_nce(query: Array, positive: Array, *, temperature: float = 0.07) -> Array:
    """Which of an image's patches a patch of its translation comes from, as a classification.

    See "Contrastive Learning for Unpaired Image-to-Image Translation" by Park et al.
    (https://arxiv.org/abs/2007.15651), equations 3 and 4; the negatives are the other patches of
    the same image:

      -log( exp(v . v+ / t) / (exp(v . v+ / t) + sum_n exp(v . v-_n / t)) )

    Args:
      query: [B, N, F], projections of patches of the translation, of length 1.
      positive: [B, N, F], those of the image at the same places; no gradient goes there.
      temperature: t, above 0.

    Returns:
      [B], the mean over patches.
    """
    chex.assert_equal_shape((query, positive))
    positive = jax.lax.stop_gradient(positive)
    likeness = jnp.einsum("bnf,bmf->bnm", query, positive) / temperature
    own = jnp.diagonal(likeness, axis1=1, axis2=2)
    return (jax.nn.logsumexp(likeness, axis=2) - own).mean(1)
