"""Regularisers of the discriminator: one value per example, [B], from a critic `inputs -> logits`.

`zero_centered` and `interpolated` are the maths; `PENALTIES` names ready ones that take
`(key, critic, real, fake)`, the signature of the `penalty` argument of the steps. A critic that
mixes its examples (batch norm) has no per-example gradient: use another normalisation with these.
"""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array, Critic, Key, Penalty


def zero_centered(critic: Critic, x: Array) -> Array:
    """Zero-centred gradient penalty, without its factor gamma / 2: R1 on real, R2 on fake examples.

    See "Which Training Methods for GANs do actually Converge?" by Mescheder et al.
    (https://arxiv.org/abs/1801.04406), equation 9:

      |grad_x D(x)|^2

    Args:
      critic: inputs [B, ...] -> logits [B] or [B, h, w], each from its own example alone.
      x: [B, ...], real examples (R1) or generated ones (R2).

    Returns:
      [B] float32.
    """
    grads = jax.grad(lambda inputs: critic(inputs).astype(jnp.float32).sum())(x)
    return jnp.square(grads.astype(jnp.float32)).sum(axis=tuple(range(1, x.ndim)))


def interpolated(
    key: Key, critic: Critic, real: Array, fake: Array, *, target: float = 1.0
) -> Array:
    """Gradient penalty of WGAN-GP on random lines between real and fake, without its factor lambda.

    See "Improved Training of Wasserstein GANs" by Gulrajani et al.
    (https://arxiv.org/abs/1704.00028), equation 3:

      (|grad_x D(x)| - target)^2    at x = real + e (fake - real), e ~ U(0, 1)

    Args:
      key: consumed.
      critic: inputs [B, ...] -> logits [B] or [B, h, w].
      real: [B, ...].
      fake: [B, ...], the same shape.
      target: the norm aimed at.

    Returns:
      [B] float32.
    """
    mix = jax.random.uniform(key, (real.shape[0],))
    return at_mixture(critic, real, fake, mix, target=target)


def at_mixture(
    critic: Critic, real: Array, fake: Array, mix: Array, *, target: float = 1.0
) -> Array:
    """The penalty of `interpolated` at given points of the lines: its deterministic twin.

    Args:
      critic: inputs [B, ...] -> logits [B] or [B, h, w].
      real: [B, ...].
      fake: [B, ...], the same shape.
      mix: [B] in [0, 1], 0 for the real end.
      target: the norm aimed at.

    Returns:
      [B] float32.
    """
    chex.assert_equal_shape([real, fake])
    chex.assert_shape(mix, (real.shape[0],))
    mix = mix.reshape((-1,) + (1,) * (real.ndim - 1)).astype(real.dtype)
    # Under the root, an epsilon: the gradient of a norm at zero is NaN otherwise.
    norm = jnp.sqrt(zero_centered(critic, real + mix * (fake - real)) + 1e-12)
    return jnp.square(norm - target)


def r1(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
    """R1 of Mescheder et al.: `|grad D(x)|^2 / 2` at real examples; its weight is gamma.

    Args:
      key: unused.
      critic: inputs [B, ...] -> logits.
      real: [B, ...].
      fake: unused.

    Returns:
      [B] float32.
    """
    del key, fake
    return 0.5 * zero_centered(critic, real)


def r2(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
    """R2 of Mescheder et al.: `|grad D(x)|^2 / 2` at generated examples; its weight is gamma.

    Args:
      key: unused.
      critic: inputs [B, ...] -> logits.
      real: unused.
      fake: [B, ...].

    Returns:
      [B] float32.
    """
    del key, real
    return 0.5 * zero_centered(critic, fake)


def r1_r2(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
    """R1 plus R2, which lets relativistic losses converge; its weight is gamma.

    See "The GAN is dead; long live the GAN! A Modern Baseline GAN" by Huang et al.
    (https://arxiv.org/abs/2501.05441), section 2.

    Args:
      key: unused.
      critic: inputs [B, ...] -> logits.
      real: [B, ...].
      fake: [B, ...].

    Returns:
      [B] float32.
    """
    return r1(key, critic, real, fake) + r2(key, critic, real, fake)


def weighted(penalty: Penalty, weight: float) -> Penalty:
    """Multiplies a penalty by its coefficient (gamma of R1 and R2, lambda of WGAN-GP).

    Args:
      penalty: `(key, critic, real, fake) -> [B]`.
      weight: the coefficient, at least 0.

    Returns:
      The weighted penalty, of the same signature.
    """

    def scaled(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
        return weight * penalty(key, critic, real, fake)

    return scaled


PENALTIES: dict[str, Penalty] = {"r1": r1, "r2": r2, "r1_r2": r1_r2, "wgan_gp": interpolated}
