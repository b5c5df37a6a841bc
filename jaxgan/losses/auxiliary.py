"""Losses of a discriminator's head that says what class an image is of, for terms of a `Game`.

Both players lower them: D on real images, G on what it made for a label; D on fakes too, in the
paper.

    loss = losses.CLASS["hinge"]
    disc_terms = {"class": lambda seen: loss(seen.real_out["class"], seen.batch["label"])}
    gen_terms = {"class": lambda seen: 0.1 * loss(seen.fake_out["class"], seen.batch["label"])}

See "Conditional Image Synthesis With Auxiliary Classifier GANs" by Odena et al.
(https://arxiv.org/abs/1610.09585).
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
import optax

from jaxgan.types import Array

ClassLoss = Callable[[Array, Array], Array]  # logits [B, K], label [B] -> [B]


def class_cross_entropy(logits: Array, label: Array) -> Array:
    """Cross-entropy of a label, the L_C of AC-GAN.

    See "Conditional Image Synthesis With Auxiliary Classifier GANs" by Odena et al.
    (https://arxiv.org/abs/1610.09585), equation 3:

      -log softmax(logits)_label

    Args:
      logits: [B, K].
      label: [B] int32 in [0, K).

    Returns:
      [B] float32.
    """
    chex.assert_rank([logits, label], [2, 1])
    logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def class_hinge(logits: Array, label: Array) -> Array:
    """Hinge loss of a label against the most likely other one.

    See "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines" by Crammer
    and Singer (JMLR 2, 2001), and its use in "A Multi-Class Hinge Loss for Conditional GANs" by
    Kavalerov et al. (https://arxiv.org/abs/1912.04216):

      max(0, 1 - logits_label + max_{k != label} logits_k)

    Args:
      logits: [B, K], K of 2 or more.
      label: [B] int32 in [0, K).

    Returns:
      [B] float32.
    """
    chex.assert_rank([logits, label], [2, 1])
    logits = logits.astype(jnp.float32)
    is_label = jax.nn.one_hot(label, logits.shape[1], dtype=bool)
    right = jnp.where(is_label, logits, 0.0).sum(1)
    other = jnp.where(is_label, -jnp.inf, logits).max(1)
    return jnp.maximum(0.0, 1.0 - right + other)


CLASS: Mapping[str, ClassLoss] = {"cross_entropy": class_cross_entropy, "hinge": class_hinge}
