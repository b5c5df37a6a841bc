"""Adversarial losses: functions of `(real_logits, fake_logits)` that return an unreduced array.

One signature serves all: a loss that ignores `real_logits` costs nothing for it, since XLA drops
the forward pass that nobody reads. Logits are never turned into probabilities: `log(sigmoid(x))`
overflows, `softplus(-x)`, which is minus that, does not.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array

LossFn = Callable[[Array, Array], Array]


class AdversarialLoss(NamedTuple):
    """What the two players minimise.

    Attributes:
      disc: the discriminator's loss, `(real_logits, fake_logits) -> [B]` (or [B, h, w]).
      gen: the generator's, likewise.
    """

    disc: LossFn
    gen: LossFn


def weighted(loss: AdversarialLoss, weight: float) -> AdversarialLoss:
    """Weighs the generator's side, against further terms of its loss.

    Args:
      loss: the pair.
      weight: of the generator's, 0 or more; the discriminator's has nothing to be weighed against.

    Returns:
      The pair.
    """
    return AdversarialLoss(loss.disc, lambda real, fake: weight * loss.gen(real, fake))


def minimax_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Cross-entropy of the discriminator, real against fake.

    See "Generative Adversarial Nets" by Goodfellow et al.
    (https://arxiv.org/abs/1406.2661), equation 1:

      softplus(-D(x)) + softplus(D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


def minimax_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Saturating loss of the generator: what the discriminator maximises, minimised.

    See "Generative Adversarial Nets" by Goodfellow et al.
    (https://arxiv.org/abs/1406.2661), equation 1:

      log(1 - sigmoid(D(G(z)))) = -softplus(D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return -jax.nn.softplus(fake_logits)


def nonsaturating_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Cross-entropy of the discriminator, the same as the minimax one.

    See "Generative Adversarial Nets" by Goodfellow et al.
    (https://arxiv.org/abs/1406.2661), section 3:

      softplus(-D(x)) + softplus(D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return minimax_disc(real_logits, fake_logits)


def nonsaturating_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Non-saturating loss of the generator: strong gradients where the fake is seen through.

    See "Generative Adversarial Nets" by Goodfellow et al.
    (https://arxiv.org/abs/1406.2661), section 3:

      -log(sigmoid(D(G(z)))) = softplus(-D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(-fake_logits)


def least_squares_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Squared distance of the discriminator's logits from their labels.

    See "Least Squares Generative Adversarial Networks" by Mao et al.
    (https://arxiv.org/abs/1611.04076), equation 9, with labels 0 and 1:

      (D(x) - 1)^2 / 2 + D(G(z))^2 / 2

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return 0.5 * jnp.square(real_logits - 1.0) + 0.5 * jnp.square(fake_logits)


def least_squares_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Squared distance of the fakes' logits from the real label, for the generator.

    See "Least Squares Generative Adversarial Networks" by Mao et al.
    (https://arxiv.org/abs/1611.04076), equation 9, with labels 0 and 1:

      (D(G(z)) - 1)^2 / 2

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return 0.5 * jnp.square(fake_logits - 1.0)


def hinge_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Hinge loss of the discriminator, with margins at 1 and -1.

    See "Geometric GAN" by Lim and Ye (https://arxiv.org/abs/1705.02894):

      max(0, 1 - D(x)) + max(0, 1 + D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.relu(1.0 - real_logits) + jax.nn.relu(1.0 + fake_logits)


def hinge_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Linear loss of the generator that goes with the hinge.

    See "Geometric GAN" by Lim and Ye (https://arxiv.org/abs/1705.02894):

      -D(G(z))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return -fake_logits


def wasserstein_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Minus the critic's estimate of the Wasserstein distance, for the discriminator.

    See "Wasserstein GAN" by Arjovsky et al. (https://arxiv.org/abs/1701.07875),
    equation 2:

      D(G(z)) - D(x)

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return fake_logits - real_logits


def wasserstein_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Linear loss of the generator against a Wasserstein critic.

    See "Wasserstein GAN" by Arjovsky et al. (https://arxiv.org/abs/1701.07875),
    equation 2:

      -D(G(z))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return -fake_logits


def relativistic_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Paired relativistic loss of the discriminator: each real against its fake.

    See "The relativistic discriminator: a key element missing from standard GAN" by
    Jolicoeur-Martineau (https://arxiv.org/abs/1807.00734), section 4.1:

      softplus(-(D(x) - D(G(z))))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(fake_logits - real_logits)


def relativistic_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Paired relativistic loss of the generator: each fake against its real.

    See "The relativistic discriminator: a key element missing from standard GAN" by
    Jolicoeur-Martineau (https://arxiv.org/abs/1807.00734), section 4.1:

      softplus(-(D(G(z)) - D(x)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(real_logits - fake_logits)


def relativistic_average_disc(real_logits: Array, fake_logits: Array) -> Array:
    """Relativistic loss of the discriminator, each example against the mean of the others' side.

    See "The relativistic discriminator: a key element missing from standard GAN" by
    Jolicoeur-Martineau (https://arxiv.org/abs/1807.00734), section 4.2:

      softplus(-(D(x) - mean D(G(z)))) + softplus(D(G(z)) - mean D(x))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(fake_logits.mean() - real_logits) + jax.nn.softplus(
        fake_logits - real_logits.mean()
    )


def relativistic_average_gen(real_logits: Array, fake_logits: Array) -> Array:
    """Relativistic loss of the generator, each example against the mean of the others' side.

    See "The relativistic discriminator: a key element missing from standard GAN" by
    Jolicoeur-Martineau (https://arxiv.org/abs/1807.00734), section 4.2:

      softplus(-(D(G(z)) - mean D(x))) + softplus(D(x) - mean D(G(z)))

    Args:
      real_logits: [B] or [B, h, w], the discriminator's logits of real examples.
      fake_logits: the same shape, its logits of generated ones.

    Returns:
      The shape of the logits.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(real_logits.mean() - fake_logits) + jax.nn.softplus(
        real_logits - fake_logits.mean()
    )


ADVERSARIAL: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(minimax_disc, minimax_gen),
    "nonsaturating": AdversarialLoss(nonsaturating_disc, nonsaturating_gen),
    "least_squares": AdversarialLoss(least_squares_disc, least_squares_gen),
    "hinge": AdversarialLoss(hinge_disc, hinge_gen),
    "wasserstein": AdversarialLoss(wasserstein_disc, wasserstein_gen),
    "relativistic": AdversarialLoss(relativistic_disc, relativistic_gen),
    "relativistic_average": AdversarialLoss(relativistic_average_disc, relativistic_average_gen),
}
