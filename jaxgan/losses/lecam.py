"""LeCam-GAN's regulariser of the discriminator's logits, and the moving averages it needs.

It reads the logits that the loss has already (`Game.disc_terms`), so that D is not run for it;
`steps.with_lecam` keeps the averages in `state.extra`.
"""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array

Anchors = dict[str, Array]  # {"real": [], "fake": [], "weight": []}, see `init_anchors`


def penalty(real_logits: Array, fake_logits: Array, anchors: Anchors) -> Array:
    """Holds logits near the moving average of the other kind's (LeCam-GAN), without its weight.

    See "Regularizing Generative Adversarial Networks under Limited Data" by Tseng et al.
    (https://arxiv.org/abs/2104.03310), section 3.2. The paper's R_LC is

      (D(x) - a_fake)^2 + (D(G(z)) - a_real)^2

    and the authors' code (https://github.com/google/lecam-gan: `lecam_reg`, `lecamreg`) is
    one-sided, as here, so that logits that have passed the other kind's average are left alone:

      max(0, D(x) - a_fake)^2 + max(0, a_real - D(G(z)))^2

    Args:
      real_logits: [B] or [B, h, w], of real examples.
      fake_logits: the same shape, of generated ones.
      anchors: a_real and a_fake; the authors update them with this step's logits first.

    Returns:
      [B] float32, patch logits averaged within their example; 0 while the anchors are empty.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    above = jax.nn.relu(real_logits.astype(jnp.float32) - anchors["fake"])
    below = jax.nn.relu(anchors["real"] - fake_logits.astype(jnp.float32))
    value = _example_mean(jnp.square(above)) + _example_mean(jnp.square(below))
    return jnp.where(anchors["weight"] > 0, value, 0.0)


def init_anchors() -> Anchors:
    """The moving averages of `penalty` before the first step, to put into `state.extra`.

    Returns:
      {"real": [], "fake": [], "weight": []} float32: two averages, and the share of their weight
      that has been given to logits, 1 - decay^t after t updates.
    """
    return {"real": jnp.zeros(()), "fake": jnp.zeros(()), "weight": jnp.zeros(())}


def update_anchors(
    anchors: Anchors, real_mean: Array, fake_mean: Array, *, decay: float = 0.99
) -> Anchors:
    """Moves the anchors towards the mean logits of a step.

    The averages are debiased as Adam's are, and as in the authors' StyleGAN2 code: after t steps
    an anchor is the weighted mean of t mean logits, without the zero it started from.

      a <- sum_i decay^(t - i) mean_i (1 - decay) / (1 - decay^t)

    Args:
      anchors: of `init_anchors`, or of the step before.
      real_mean: [] mean logit of real examples, over all devices: the metric "disc/real".
      fake_mean: [] mean logit of generated ones: the metric "disc/fake".
      decay: weight of the old average, in [0, 1).

    Returns:
      The new anchors, without a gradient; "real" and "fake" are read as they are.
    """
    weight = anchors["weight"] + (1.0 - decay) * (1.0 - anchors["weight"])
    # As a difference from the debiased average itself: the first step gives the mean exactly, and
    # an average that equals the mean stays as it is.
    share = (1.0 - decay) / weight
    new = {
        "real": anchors["real"] + share * (real_mean - anchors["real"]),
        "fake": anchors["fake"] + share * (fake_mean - anchors["fake"]),
        "weight": weight,
    }
    return jax.lax.stop_gradient(new)


def _example_mean(values: Array) -> Array:
    """[B], averaged over patches."""
    return values.reshape(values.shape[0], -1).mean(1)
