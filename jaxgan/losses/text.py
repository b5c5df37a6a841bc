"""Losses of sentences: the likelihood of tokens, rewards of whole sentences, relaxed tokens.

A sentence is [T] int32 tokens and its length; what comes after never counts.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp

from jaxgan.types import Array

Advantage = Callable[[Array, Array], Array]  # rewards [B, T], mask [B, T] -> weights [B, T]
Schedule = Callable[[Array], Array]  # step [] -> inverse temperature []


def token_mask(length: Array, num: int) -> Array:
    """Tells a sentence's tokens from the padding behind it.

    Args:
      length: [B] int32, tokens with the end.
      num: T, the tokens of a row.

    Returns:
      [B, T] float32, 1 of the first `length` tokens and 0 of the others.
    """
    return (jnp.arange(num)[None] < length[:, None]).astype(jnp.float32)


def token_cross_entropy(logits: Array, text: Array, length: Array) -> Array:
    """Cross-entropy of each token: its negative log-likelihood.

      -log softmax(logits_t)_{x_t}

    Args:
      logits: [B, T, V], those at t of token t.
      text: [B, T] int32.
      length: [B] int32, tokens with the end.

    Returns:
      [B, T] float32, in nats; 0 of padding. The mean of a text is the sum by the sum of
      `token_mask`, its perplexity the exponential of that.
    """
    chex.assert_rank([logits, text, length], [3, 2, 1])
    mask = token_mask(length, text.shape[1])
    return -token_log_probs(logits, text) * mask


def sentence_cross_entropy(logits: Array, text: Array, length: Array) -> Array:
    """Cross-entropy of each sentence: the sum over its tokens.

    Args:
      logits: [B, T, V], those at t of token t.
      text: [B, T] int32.
      length: [B] int32, tokens with the end.

    Returns:
      [B] float32, in nats.
    """
    return token_cross_entropy(logits, text, length).sum(1)


def token_log_probs(logits: Array, text: Array) -> Array:
    """Log-probability of each token.

    Args:
      logits: [B, T, V], those at t of token t.
      text: [B, T] int32.

    Returns:
      [B, T] float32.
    """
    logits = logits.astype(jnp.float32)
    # Compared, not gathered: the gradient of a gather is a scatter, slow on CPU.
    is_token = jnp.arange(logits.shape[-1])[None, None] == text[:, :, None]
    return jnp.where(is_token, logits, 0.0).sum(-1) - jax.nn.logsumexp(logits, axis=-1)


def reinforce(log_probs: Array, advantages: Array) -> Array:
    """Moves probability towards tokens of high reward, by the score-function estimator.

    See "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning"
    by Williams (Machine Learning 8, 1992), and "SeqGAN" by Yu et al.
    (https://arxiv.org/abs/1609.05473), equation 8; its gradient is that of the expected reward:

      -sum_t log p(x_t | x_<t) A_t

    Args:
      log_probs: [B, T], of tokens that the generator drew itself.
      advantages: [B, T], rewards without their baselines, 0 of padding; without a gradient.

    Returns:
      [B] float32.
    """
    chex.assert_equal_shape([log_probs, advantages])
    return -(log_probs * jax.lax.stop_gradient(advantages)).sum(1)


def returns(rewards: Array, *, discount: float = 1.0) -> Array:
    """Adds up the rewards from each token on.

    See "Training language GANs from Scratch" by de Masson d'Autume et al.
    (https://arxiv.org/abs/1905.09922), equation 4:

      R_t = sum_{s >= t} discount^{s - t} r_s

    Args:
      rewards: [B, T], of each token, 0 of padding.
      discount: of a token later.

    Returns:
      [B, T].
    """

    def body(later: Array, now: Array) -> tuple[Array, Array]:
        total = now + discount * later
        return total, total

    start = jnp.zeros_like(rewards[:, 0])
    return jax.lax.scan(body, start, rewards.T, reverse=True)[1].T


def plain_advantage(rewards: Array, mask: Array) -> Array:
    """Rewards as they are, as in SeqGAN's published code.

    Args:
      rewards: [B, T].
      mask: [B, T], 1 of tokens and 0 of padding.

    Returns:
      [B, T].
    """
    return rewards * mask


def leave_one_out_advantage(rewards: Array, mask: Array) -> Array:
    """Rewards less the mean reward of the batch's other sentences at the same place.

    The baseline does not depend on the sentence that it is of, and so leaves the expected gradient
    as it is. See "Buy 4 REINFORCE Samples, Get a Baseline for Free!" by Kool et al. (ICLR 2019
    workshop); ScratchGAN ("Training language GANs from Scratch", https://arxiv.org/abs/1905.09922)
    has a moving average in its place.

    Args:
      rewards: [B, T].
      mask: [B, T], 1 of tokens and 0 of padding.

    Returns:
      [B, T]; where no other sentence has a token, the reward as it is.
    """
    rewards = rewards * mask
    others = mask.sum(0, keepdims=True) - mask
    baseline = (rewards.sum(0, keepdims=True) - rewards) / jnp.maximum(others, 1.0)
    return (rewards - baseline) * mask


def normalized_advantage(rewards: Array, mask: Array) -> Array:
    """Rewards as shares of those of the batch at the same place, less the mean share: MaliGAN.

    See "Maximum-Likelihood Augmented Discrete Generative Adversarial Networks" by Che et al.
    (https://arxiv.org/abs/1702.07983), section 3.2, with its baseline b = 1:

      r(x_i) / (sum_j r(x_j) / m) - b;    r = D / (1 - D), `likelihood_ratio`

    Args:
      rewards: [B, T], positive.
      mask: [B, T], 1 of tokens and 0 of padding.

    Returns:
      [B, T], m times the paper's: `reinforce(...).mean()` divides by m.
    """
    rewards = rewards * mask
    mean = rewards.sum(0, keepdims=True) / jnp.maximum(mask.sum(0, keepdims=True), 1.0)
    return (rewards / jnp.maximum(mean, 1e-20) - 1.0) * mask


ADVANTAGES: Mapping[str, Advantage] = {
    "plain": plain_advantage,
    "leave_one_out": leave_one_out_advantage,
    "normalized": normalized_advantage,
}


def likelihood_ratio(logits: Array) -> Array:
    """How much likelier than the generator's the discriminator finds sentences to be real.

    MaliGAN's reward, D / (1 - D); with the discriminator at its optimum p_data / p_gen.

    Args:
      logits: of any shape.

    Returns:
      exp(logits), of logits cut off at +-20.
    """
    return jnp.exp(jnp.clip(logits, -20.0, 20.0))


def gumbel_softmax(noise: Array, logits: Array, *, inverse_temperature: float | Array) -> Array:
    """Relaxes a drawn token to a distribution with gradients.

    See "Categorical Reparameterization with Gumbel-Softmax" by Jang et al.
    (https://arxiv.org/abs/1611.01144), equation 1:

      softmax((logits + g) / tau)

    Args:
      noise: [..., V] Gumbel variables.
      logits: [..., V].
      inverse_temperature: 1 / tau; the higher, the nearer to a one-hot.

    Returns:
      [..., V], its largest where `logits + noise` is: at the token drawn.
    """
    return jax.nn.softmax(inverse_temperature * (logits + noise), axis=-1)


def straight_through(soft: Array) -> Array:
    """The one-hot of the largest, with the gradient of what it is of.

    See "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation"
    by Bengio et al. (https://arxiv.org/abs/1308.3432).

    Args:
      soft: [..., V].

    Returns:
      [..., V], exactly one-hot.
    """
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    # In this order: the difference of equal numbers is 0, and 1 + 0 is 1.
    return jax.lax.stop_gradient(hard) + (soft - jax.lax.stop_gradient(soft))


def constant_schedule(final: float, *, steps: int) -> Schedule:
    """The same inverse temperature throughout.

    Args:
      final: the inverse temperature.
      steps: unused.

    Returns:
      The schedule.
    """
    del steps
    return lambda step: jnp.full_like(step, final, dtype=jnp.float32)


def linear_schedule(final: float, *, steps: int) -> Schedule:
    """An inverse temperature that grows evenly from 1.

    Args:
      final: the inverse temperature at the end.
      steps: until then; it stays there.

    Returns:
      The schedule.
    """
    return lambda step: 1.0 + (final - 1.0) * _share(step, steps)


def exponential_schedule(final: float, *, steps: int) -> Schedule:
    """RelGAN's inverse temperature, which grows from 1 by the same factor each step.

    See "RelGAN: Relational Generative Adversarial Networks for Text Generation" by Nie et al. (ICLR
    2019), section 2.2:

      beta_n = beta_max^{n / N}

    Args:
      final: beta_max.
      steps: N; the inverse temperature stays at beta_max from there on.

    Returns:
      The schedule.
    """
    return lambda step: jnp.power(final, _share(step, steps))


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "constant": constant_schedule,
    "linear": linear_schedule,
    "exponential": exponential_schedule,
}


def _share(step: Array, steps: int) -> Array:
    return jnp.clip(jnp.asarray(step, jnp.float32) / max(steps, 1), 0.0, 1.0)
