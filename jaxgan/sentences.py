"""Sentences of a recurrent generator: sampled, completed from each prefix, or by given noise.

The generator is a Flax module with the methods of `nets.rnn.Generator` (`begin`, `advance`, `head`,
`follow`) and the field `end`, of any cell. One uniform number decides on a token (see
`categorical`); each random function has a deterministic twin that takes those numbers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgan import categorical
from jaxgan.types import Array, Key, PyTree, UserError

_START = 0  # the symbol before the first token


class Sentences(NamedTuple):
    """What a generator wrote.

    Attributes:
      text: [N, T] int32, padding (0) after an end.
      length: [N] int32, tokens with the end.
      log_prob: [N, T] float32 log-probability of each token in the distribution that it was drawn
        from (temperature and top k included); of a prompt's tokens too; 0 of padding.
    """

    text: Array
    length: Array
    log_prob: Array


def generate(
    key: Key,
    module: nn.Module,
    variables: PyTree,
    num: int,
    length: int,
    *,
    label: Array | None = None,
    source: Array | None = None,
    source_length: Array | None = None,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    without: Sequence[int] = (),
    prompt: Array | None = None,
) -> Sentences:
    """Writes sentences.

    Args:
      key: consumed.
      module: the generator.
      variables: its variables.
      num: sentences, N.
      length: tokens of each at most, T.
      label: [N] int32, of a generator with classes.
      source: [N, S] int32, of one with an encoder.
      source_length: [N] int32, of one with an encoder.
      temperature: that logits are divided by; 0 takes the most likely token.
      top_k: tokens that may be drawn, the most likely ones; None for all.
      without: tokens that are never drawn, such as the one that stands for unknown words.
      prompt: [N, P] or [P] int32, the tokens that sentences begin with.

    Returns:
      The sentences.

    Raises:
      UserError: the prompt is longer than the sentences.
    """
    return decode(
        jax.random.uniform(key, (num, length)),
        module,
        variables,
        label=label,
        source=source,
        source_length=source_length,
        temperature=temperature,
        top_k=top_k,
        without=without,
        prompt=prompt,
    )


def decode(
    uniforms: Array,
    module: nn.Module,
    variables: PyTree,
    *,
    label: Array | None = None,
    source: Array | None = None,
    source_length: Array | None = None,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    without: Sequence[int] = (),
    prompt: Array | None = None,
) -> Sentences:
    """Writes the sentences that given numbers choose; `generate` without its key.

    Args:
      uniforms: [N, T] in [0, 1), one for each token.
      module: the generator.
      variables: its variables.
      label: as in `generate`.
      source: as in `generate`.
      source_length: as in `generate`.
      temperature: as in `generate`.
      top_k: as in `generate`.
      without: as in `generate`.
      prompt: as in `generate`.

    Returns:
      The sentences.

    Raises:
      UserError: the prompt is longer than the sentences.
    """
    num, length = uniforms.shape

    def sharpened(logits: Array) -> Array:
        if without:
            left_out = np.isin(np.arange(logits.shape[-1]), without)
            logits = jnp.where(left_out, -jnp.inf, logits)
        return categorical.sharpened(logits, temperature, top_k=top_k)

    given = _prompt(prompt, num, length)
    carry = module.apply(variables, num, label, source, source_length, method="begin")

    def body(state: PyTree, at: PyTree) -> tuple[PyTree, tuple[Array, Array]]:
        carry, token, over = state
        uniform, forced, is_forced = at
        carry, logits = _logits(module, variables, carry, token)
        logits = sharpened(logits)
        token, log_prob = categorical.draw(uniform, logits)
        if prompt is not None:
            token = jnp.where(is_forced, forced, token)
            log_prob = categorical.log_prob(logits, token)
        token, log_prob = jnp.where(over, 0, token), jnp.where(over, 0.0, log_prob)
        return (carry, token, over | _is_end(module, token)), (token, log_prob)

    start = carry, jnp.full((num,), _START, jnp.int32), jnp.zeros((num,), bool)
    _, (text, log_prob) = jax.lax.scan(body, start, (uniforms.T, *given))
    return Sentences(text.T, lengths(text.T, end=module_end(module)), log_prob.T)


def complete(
    key: Key,
    module: nn.Module,
    variables: PyTree,
    text: Array,
    *,
    label: Array | None = None,
    source: Array | None = None,
    source_length: Array | None = None,
    stages: int = 4,
) -> Array:
    """Goes on once from every beginning of given sentences: a Monte-Carlo roll-out of SeqGAN.

    Args:
      key: consumed.
      module: the generator, or its slowly moving copy.
      variables: its variables.
      text: [B, T] int32.
      label: [B] int32, of a generator with classes.
      source: [B, S] int32, of one with an encoder.
      source_length: [B] int32, of one with an encoder.
      stages: see `completed`.

    Returns:
      [T - 1, B, T] int32: at t - 1 the first t tokens as they are, and new ones.
    """
    num, length = text.shape
    return completed(
        jax.random.uniform(key, (num, length - 1, length)),
        module,
        variables,
        text,
        label=label,
        source=source,
        source_length=source_length,
        stages=stages,
    )


def completed(
    uniforms: Array,
    module: nn.Module,
    variables: PyTree,
    text: Array,
    *,
    label: Array | None = None,
    source: Array | None = None,
    source_length: Array | None = None,
    stages: int = 4,
) -> Array:
    """Goes on once from every beginning, as given numbers choose; `complete` without its key.

    All beginnings go on side by side, T steps in all. A beginning of t tokens joins at the stage
    that t is in, from what the generator carries where the stage begins, and has its tokens forced
    until it has its t: with one stage each step computes all of them, with T - 1 those alone that
    are written, in a program that takes longer to compile.

    Args:
      uniforms: [B, T - 1, T] in [0, 1), for the token at s after the first t at [:, t - 1, s].
      module: the generator.
      variables: its variables.
      text: [B, T] int32.
      label: as in `complete`.
      source: as in `complete`.
      source_length: as in `complete`.
      stages: in which beginnings join.

    Returns:
      [T - 1, B, T] int32.
    """
    num, length = text.shape
    chex.assert_shape(uniforms, (num, length - 1, length))
    uniforms = jnp.transpose(uniforms, (2, 1, 0))  # [s, t - 1, B]
    carries = module.apply(variables, text, label, source, source_length, method="follow")
    stages = min(stages, length - 1)
    starts = [1 + (length - 1) * stage // stages for stage in range(stages)] + [length]

    def body(state: PyTree, at: PyTree) -> tuple[PyTree, Array]:
        carry, token, over, prefix = state
        time, uniform, now = at
        carry, features = _advanced(module, variables, carry, token)
        token = _next(module, variables, features.reshape(*uniform.shape, -1), uniform).ravel()
        token = jnp.where(over, 0, token)
        is_given = time < prefix
        token = jnp.where(is_given, jnp.tile(now, uniform.shape[0]), token)
        return (carry, token, over | _is_end(module, token), prefix), token

    state, columns = None, [_tiled(text.T[:1, None], length - 1, axis=1)]  # [s, t - 1, B] each
    for first, last in zip(starts, starts[1:], strict=False):  # writes tokens first to last - 1
        fresh = last - first  # beginnings of first to last - 1 tokens join
        seen = text.T[first - 1]
        joined = (
            jax.tree.map(lambda x, at=first - 1, n=fresh: _tiled(x[at], n), carries),
            _tiled(seen, fresh),
            _tiled(_is_over(module, seen), fresh),
            jnp.repeat(jnp.arange(first, last), num),
        )
        state = joined if state is None else jax.tree.map(_beside, state, joined)
        at = jnp.arange(first, last), uniforms[first:last, : last - 1], text.T[first:last]
        state, written = jax.lax.scan(body, state, at)
        later = _tiled(text.T[first:last, None], length - last, axis=1)
        columns.append(_beside(written.reshape(fresh, last - 1, num), later, axis=1))
    return jnp.transpose(jnp.concatenate(columns), (1, 2, 0))


class Perturbed(NamedTuple):
    """Sentences whose tokens are the largest of their logits and of noise.

    Attributes:
      logits: [N, T, V] float32, with gradients; those at t of token t, without the noise.
      text: [N, T] int32, padding (0) after an end.
      length: [N] int32, tokens with the end.
    """

    logits: Array
    text: Array
    length: Array


def perturb(
    noise: Array,
    module: nn.Module,
    variables: PyTree,
    *,
    label: Array | None = None,
    source: Array | None = None,
    source_length: Array | None = None,
    train: bool = True,
    rngs: Any = None,
) -> Perturbed:
    """Writes the sentences that Gumbel variables choose, and says how their logits came about.

    See "RelGAN: Relational Generative Adversarial Networks for Text Generation" by Nie et al. (ICLR
    2019), section 2.2:

      x_t = argmax(logits_t + g_t)

    As in its published code the generator reads the tokens themselves. So they are drawn first,
    without gradients, and their logits then found all at once, as of given sentences.

    Args:
      noise: [N, T, V] Gumbel variables.
      module: the generator.
      variables: its variables, differentiable.
      label: [N] int32, of a generator with classes.
      source: [N, S] int32, of one with an encoder.
      source_length: [N] int32, of one with an encoder.
      train: drops out as the logits are found; not as tokens are drawn.
      rngs: keys for that.

    Returns:
      The sentences.
    """
    about = label, source, source_length
    num = noise.shape[0]
    carry = module.apply(variables, num, *about, method="begin")

    def body(state: PyTree, noise: Array) -> tuple[PyTree, Array]:
        carry, token, over = state
        carry, logits = _logits(module, variables, carry, token)
        token = jnp.where(over, 0, jnp.argmax(logits + noise, axis=-1)).astype(jnp.int32)
        return (carry, token, over | _is_end(module, token)), token

    start = carry, jnp.full((num,), _START, jnp.int32), jnp.zeros((num,), bool)
    _, text = jax.lax.scan(body, start, noise.swapaxes(0, 1))
    text = text.T
    logits = module.apply(variables, text, *about, train=train, rngs=rngs)
    return Perturbed(jnp.asarray(logits), text, lengths(text, end=module_end(module)))


def lengths(text: Array, *, end: int | None) -> Array:
    """Counts the tokens of sentences, their end included.

    Args:
      text: [N, T] int32, padding (0) after an end alone.
      end: the token that ends a sentence; None where all are T long, and 0 is a token.

    Returns:
      [N] int32.
    """
    if end is None:
        return jnp.full(text.shape[:1], text.shape[1], jnp.int32)
    return (text != 0).sum(1).astype(jnp.int32)


def module_end(module: nn.Module) -> int | None:
    """What ends the sentences of a generator.

    Args:
      module: the generator.

    Returns:
      The token; None where they have no end.
    """
    return getattr(module, "end", None)


def _next(module: nn.Module, variables: PyTree, features: Array, uniforms: Array) -> Array:
    """[n, B] tokens, of features [n, B, F] and numbers [n, B]."""

    def few(at: tuple[Array, Array]) -> Array:
        return categorical.draw(at[1], _headed(module, variables, at[0]))[0]

    def at_once(features: Array, uniforms: Array) -> Array:
        flat = features.reshape(-1, features.shape[2]), uniforms.ravel()
        return few(flat).reshape(uniforms.shape)

    def one_by_one(features: Array, uniforms: Array) -> Array:
        # B rows of logits stay in the cache: three times as fast.
        return jax.lax.map(few, (features, uniforms))

    return jax.lax.platform_dependent(features, uniforms, cpu=one_by_one, default=at_once)


def _logits(
    module: nn.Module, variables: PyTree, carry: PyTree, token: Array
) -> tuple[PyTree, Array]:
    """One token more: what to carry on, and the logits [N, V] of the next."""
    carry, features = _advanced(module, variables, carry, token)
    return carry, _headed(module, variables, features)


def _advanced(
    module: nn.Module, variables: PyTree, carry: PyTree, token: Array
) -> tuple[PyTree, Array]:
    out: Any = module.apply(variables, carry, token, method="advance")
    return out


def _headed(module: nn.Module, variables: PyTree, features: Array) -> Array:
    out: Any = module.apply(variables, features, method="head")
    return out


def _prompt(prompt: Array | None, num: int, length: int) -> tuple[Array, Array]:
    """[T, N] forced tokens and whether they are."""
    if prompt is None:
        prompt = jnp.zeros((0,), jnp.int32)
    prompt = jnp.asarray(prompt, jnp.int32)
    prompt = jnp.broadcast_to(prompt[None] if prompt.ndim == 1 else prompt, (num, prompt.shape[-1]))
    given = prompt.shape[1]
    if given > length:
        raise UserError(
            f"a prompt of {given} tokens is longer than the {length} of a sentence; "
            "shorten it or ask for more tokens"
        )
    forced = jnp.pad(prompt.T, ((0, length - given), (0, 0)))
    return forced, jnp.arange(length) < given


def _is_end(module: nn.Module, token: Array) -> Array:
    end = module_end(module)
    return jnp.zeros(token.shape, bool) if end is None else token == end


def _is_over(module: nn.Module, token: Array) -> Array:
    """Whether nothing follows a token but padding."""
    if module_end(module) is None:
        return jnp.zeros(token.shape, bool)
    return _is_end(module, token) | (token == 0)


def _tiled(x: Array, n: int, axis: int = 0) -> Array:
    """N copies, one after the other along an axis."""
    return jnp.tile(x, (1,) * axis + (n,) + (1,) * (x.ndim - axis - 1))


def _beside(a: Array, b: Array, axis: int = 0) -> Array:
    return jnp.concatenate([a, b], axis=axis)
