"""Tokens drawn from logits by one uniform number each.

The inverse of the cumulative distribution takes one number where `jax.random.categorical` draws a
Gumbel variable for each of V tokens: for a large vocabulary that costs more than the network does.
"""

import jax
import jax.numpy as jnp

from jaxgan.types import Array

_BLOCK = 72  # tokens whose probabilities are added up first: about the root of a vocabulary


def draw(uniforms: Array, logits: Array) -> tuple[Array, Array]:
    """Draws a token from each row of logits.

    By the inverse of the cumulative distribution, in two levels: the block of tokens in which the
    number lies, then the token within it. A token of probability 0 is never drawn.

    Args:
      uniforms: [N] in [0, 1).
      logits: [N, V].

    Returns:
      [N] int32 tokens and [N] float32 their log-probabilities.
    """
    num, vocabulary = logits.shape
    blocks = -(-vocabulary // _BLOCK)
    logits = jnp.pad(logits, ((0, 0), (0, blocks * _BLOCK - vocabulary)), constant_values=-jnp.inf)
    logits = logits.reshape(num, blocks, _BLOCK)
    top = jax.lax.stop_gradient(logits.max(2).max(1, keepdims=True))
    sums = jnp.exp(logits - top[:, :, None]).sum(2)  # [N, blocks]
    block, before, total = _first_above(sums, uniforms)
    # Rows of a matrix: gathered one by one they would take longer than all sums.
    row = logits.reshape(num * blocks, _BLOCK)[jnp.arange(num) * blocks + block]
    masses = jnp.exp(row - top)  # [N, _BLOCK]
    token, _, _ = _first_above(masses, (uniforms * total - before) / masses.sum(1))
    log_prob = jnp.take_along_axis(row - top, token[:, None], axis=1)[:, 0] - jnp.log(total)
    return (block * _BLOCK + token).astype(jnp.int32), log_prob


def sharpened(logits: Array, temperature: float | Array, *, top_k: int | None = None) -> Array:
    """Makes likely tokens likelier.

    Args:
      logits: [N, V].
      temperature: that they are divided by, 0 or more; at 0 the largest alone has mass.
      top_k: the largest that keep theirs, with all equal to the k-th; None for all.

    Returns:
      [N, V]; minus infinity of those that are left out.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if isinstance(temperature, float | int) and temperature == 1:
        return logits
    # Differences of logits first: at temperature 0 all but the largest are far away, none infinite.
    logits = logits - logits.max(-1, keepdims=True)
    return logits / jnp.maximum(temperature, 1e-9)


def log_prob(logits: Array, token: Array) -> Array:
    """Log-probability of a token in each row.

    Args:
      logits: [N, V].
      token: [N] int32.

    Returns:
      [N] float32.
    """
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]


def _first_above(masses: Array, shares: Array) -> tuple[Array, Array, Array]:
    """[N] the first place up to which masses [N, K] add to more than a share of all; and both."""
    width = masses.shape[1]
    upper = jnp.triu(jnp.ones((width, width), masses.dtype))
    sums = jnp.matmul(masses, upper, precision=jax.lax.Precision.HIGHEST)
    total = sums[:, -1]
    # Below the total, or rounding could choose what has no mass.
    aim = jnp.clip(shares * total, 0.0, total * (1.0 - 1e-6))
    index = (sums <= aim[:, None]).sum(1)
    before = jnp.where(jnp.arange(width)[None] < index[:, None], masses, 0.0).sum(1)
    return index, before, total
