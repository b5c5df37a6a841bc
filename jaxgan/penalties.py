"""Regularisers of the discriminator: one value per example, [B], from a critic `inputs -> logits`.

`zero_centered` and `gradient_norm` are the maths; `PENALTIES` names ready ones that take
`(key, critic, real, fake)`, the signature of the `penalty` argument of the steps. A critic that
mixes its examples (batch norm) has no per-example gradient: use another normalisation with these.

`consistency` and `balanced_consistency` make such a penalty from an augmentation. LeCam needs no
critic, only logits that the loss has already: see `losses.lecam`.
"""

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array, Augment, Critic, Key, Penalty


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


def gradient_norm(critic: Critic, x: Array) -> Array:
    """Length of the critic's gradient at each example.

      |grad_x D(x)|

    Args:
      critic: inputs [B, ...] -> logits [B] or [B, h, w], each from its own example alone.
      x: [B, ...].

    Returns:
      [B] float32; 1e-6 where there is no gradient.
    """
    # Under the root, an epsilon: the gradient of a norm at zero is NaN otherwise.
    return jnp.sqrt(zero_centered(critic, x) + 1e-12)


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
    return jnp.square(gradient_norm(critic, between(real, fake, mix)) - target)


def between(real: Array, fake: Array, mix: Array) -> Array:
    """Points on the lines from real to fake examples: `real + mix (fake - real)`.

    Args:
      real: [B, ...].
      fake: [B, ...], the same shape.
      mix: [B] in [0, 1], 0 for the real end.

    Returns:
      [B, ...], of the dtype of `real`.
    """
    chex.assert_equal_shape([real, fake])
    chex.assert_shape(mix, (real.shape[0],))
    mix = mix.reshape((-1,) + (1,) * (real.ndim - 1)).astype(real.dtype)
    return real + mix * (fake - real)


def one_sided(key: Key, critic: Critic, real: Array, fake: Array, *, target: float = 1.0) -> Array:
    """Lipschitz penalty of WGAN-LP: only slopes above the target cost, without its factor lambda.

    See "On the regularization of Wasserstein GANs" by Petzka et al.
    (https://arxiv.org/abs/1709.08894):

      max(0, |grad_x D(x)| - target)^2    at x = real + e (fake - real), e ~ U(0, 1)

    Args:
      key: consumed.
      critic: inputs [B, ...] -> logits [B] or [B, h, w].
      real: [B, ...].
      fake: [B, ...], the same shape.
      target: the norm allowed.

    Returns:
      [B] float32.
    """
    mix = jax.random.uniform(key, (real.shape[0],))
    return jnp.square(jax.nn.relu(gradient_norm(critic, between(real, fake, mix)) - target))


def zero_between(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
    """Zero-centred gradient penalty on random lines between real and fake (0-GP), without lambda.

    See "Improving Generalization and Stability of Generative Adversarial Networks" by
    Thanh-Tung et al. (https://arxiv.org/abs/1902.03984):

      |grad_x D(x)|^2    at x = real + e (fake - real), e ~ U(0, 1)

    Args:
      key: consumed.
      critic: inputs [B, ...] -> logits [B] or [B, h, w].
      real: [B, ...].
      fake: [B, ...], the same shape.

    Returns:
      [B] float32.
    """
    mix = jax.random.uniform(key, (real.shape[0],))
    return zero_centered(critic, between(real, fake, mix))


def dragan(
    key: Key,
    critic: Critic,
    real: Array,
    fake: Array,
    *,
    target: float = 1.0,
    noise: float = 0.5,
) -> Array:
    """Gradient penalty of DRAGAN, around real examples alone, without its factor lambda.

    See "On Convergence and Stability of GANs" by Kodali et al.
    (https://arxiv.org/abs/1705.07215):

      (|grad_x D(x + d)| - target)^2    with d ~ N(0, c^2), c = noise * std(x)

    Args:
      key: consumed.
      critic: inputs [B, ...] -> logits [B] or [B, h, w].
      real: [B, ...].
      fake: unused.
      target: the norm aimed at.
      noise: standard deviation of d, in standard deviations of the batch (under `pmap`, of this
        device's share of it).

    Returns:
      [B] float32.
    """
    del fake
    offset = noise * real.astype(jnp.float32).std() * jax.random.normal(key, real.shape)
    return jnp.square(gradient_norm(critic, real + offset.astype(real.dtype)) - target)


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


def weighted(penalty: Penalty, weight: float | Array) -> Penalty:
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


def consistency(augment: Augment) -> Penalty:
    """Makes the penalty of CR-GAN: an augmented real example should keep its logit.

    See "Consistency Regularization for Generative Adversarial Networks" by Zhang et al.
    (https://arxiv.org/abs/1910.12027); its factor lambda is 10 there:

      |D(x) - D(T(x))|^2

    Args:
      augment: `(key, images) -> images`, the T.

    Returns:
      A penalty; patch logits are averaged within their example.
    """

    def penalty(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
        del fake
        change = critic(real).astype(jnp.float32) - critic(augment(key, real))
        return _example_mean(jnp.square(change))

    return penalty


def balanced_consistency(
    augment: Augment, *, real_weight: float = 1.0, fake_weight: float = 1.0
) -> Penalty:
    """Makes the penalty of bCR-GAN: consistency of real and of generated examples.

    See "Improved Consistency Regularization for GANs" by Zhao et al.
    (https://arxiv.org/abs/2002.04724); both weights are 10 there for CIFAR-10:

      real_weight |D(x) - D(T(x))|^2 + fake_weight |D(G(z)) - D(T(G(z)))|^2

    Args:
      augment: `(key, images) -> images`, the T.
      real_weight: factor of the term of real examples.
      fake_weight: factor of the term of generated ones.

    Returns:
      A penalty; patch logits are averaged within their example.
    """
    one_kind = consistency(augment)

    def penalty(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
        real_key, fake_key = jax.random.split(key)
        at_real = one_kind(real_key, critic, real, fake)
        at_fake = one_kind(fake_key, critic, fake, real)
        return real_weight * at_real + fake_weight * at_fake

    return penalty


def _example_mean(values: Array) -> Array:
    """[B], averaged over patches."""
    return values.reshape(values.shape[0], -1).mean(1)


PENALTIES: dict[str, Penalty] = {
    "r1": r1,
    "r2": r2,
    "r1_r2": r1_r2,
    "wgan_gp": interpolated,
    "wgan_lp": one_sided,
    "dragan": dragan,
    "zero_gp": zero_between,
}
