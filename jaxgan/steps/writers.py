"""Players of games about text: from recurrent modules to the functions that steps are made of.

A batch of text holds "text" [B, T] int32 and "length" [B] int32, and may hold "label" [B], "source"
[B, S] and "source_length" [B]: the line before. What of these a player sees is named.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan import collectives, sentences
from jaxgan.losses import text as losses
from jaxgan.steps.game import DiscFn, GenFn
from jaxgan.types import Array, Batch, Key, PyTree

_LOGITS = 2**19  # at a time: 2 MB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writer:
    """A generator of sentences, as functions; `writer` makes them of a Flax module.

    Attributes:
      log_probs: `(key, variables, batch) -> ([B, T], new statistics)`: of each token of the batch's
        text, given those before it.
      write: `(key, variables, batch) -> {"text": [B, T], "length": [B]}`: sentences of its own, one
        for each of the batch's.
      complete: `(key, variables, batch) -> batch`, of (T - 1) B sentences: the batch's own from
        their first t tokens on, in rows (t - 1) B to t B.
    """

    log_probs: Callable[[Key, PyTree, Batch], tuple[Array, PyTree]]
    write: Callable[[Key, PyTree, Batch], Batch]
    complete: Callable[[Key, PyTree, Batch], Batch]


def writer(
    module: nn.Module,
    *entries: str,
    temperature: float = 1.0,
    stages: int = 4,
    axis_name: str | None = None,
) -> Writer:
    """A generator of sentences.

    Args:
      module: as `nets.rnn.Generator`, with its methods.
      *entries: what it sees beside the text: of "label", "source" and "source_length".
      temperature: that it writes at.
      stages: see `sentences.completed`.
      axis_name: the mapped axis, if any: each device then draws its rows of what one would draw.

    Returns:
      The functions.
    """

    def log_probs(key: Key, variables: PyTree, batch: Batch) -> tuple[Array, PyTree]:
        stats = [name for name in variables if name != "params"]
        features, new = module.apply(
            variables,
            batch["text"],
            **_seen(batch),
            train=True,
            mutable=stats,
            rngs=collectives.own_key(key, axis_name),
            method="features",
        )
        return _few_by_few(module, variables, features, batch["text"]), new

    def write(key: Key, variables: PyTree, batch: Batch) -> Batch:
        num, length = batch["text"].shape[:2]
        uniforms = collectives.share(
            lambda key, num: jax.random.uniform(key, (num, length)), key, num, axis_name
        )
        made = sentences.decode(
            uniforms, module, variables, temperature=temperature, **_seen(batch)
        )
        return {"text": made.text, "length": made.length}

    def complete(key: Key, variables: PyTree, batch: Batch) -> Batch:
        num, length = batch["text"].shape
        uniforms = collectives.share(
            lambda key, num: jax.random.uniform(key, (num, length - 1, length)),
            key,
            num,
            axis_name,
        )
        text = sentences.completed(
            uniforms, module, variables, batch["text"], stages=stages, **_seen(batch)
        ).reshape(-1, length)
        about = {
            name: jnp.tile(x, (length - 1,) + (1,) * (x.ndim - 1))
            for name, x in _seen(batch).items()
        }
        return {**about, "text": text, "length": _length(module, text)}

    def _seen(batch: Batch) -> dict[str, Any]:
        return {name: batch[name] for name in entries}

    return Writer(log_probs=log_probs, write=write, complete=complete)


def reader(
    module: nn.Module,
    *entries: str,
    train: bool = True,
    axis_name: str | None = None,
) -> DiscFn:
    """A discriminator of sentences, for a `Game` or for rewards.

    Args:
      module: `(text, length, *, train, **entries) -> logits`, or a dict of outputs with "logits".
      *entries: what it sees beside text and length: of "label", "source" and "source_length".
      train: False for rewards: no dropout.
      axis_name: the mapped axis, if any.

    Returns:
      `(key, variables, batch) -> (outputs, new statistics)`.
    """

    def disc(key: Key, variables: PyTree, batch: Batch) -> tuple[Any, PyTree]:
        stats = [name for name in variables if name != "params"]
        own_key = collectives.own_key(key, axis_name)
        about: dict[str, Any] = {name: batch[name] for name in entries}
        out, stats = module.apply(
            variables,
            batch["text"],
            batch["length"],
            **about,
            train=train,
            mutable=stats,
            rngs=own_key,
        )
        return out if isinstance(out, dict) else {"logits": out}, stats

    return disc


def from_writer(writer: Writer) -> GenFn:
    """The generator of a `Game` whose sentences have no gradients: for `disc_step` alone.

    Args:
      writer: the generator.

    Returns:
      `(key, variables, batch) -> ({"text": [B, T] int32, "length": [B]}, statistics)`.
    """

    def gen(key: Key, variables: PyTree, batch: Batch) -> tuple[Batch, PyTree]:
        made = jax.lax.stop_gradient(writer.write(key, variables, batch))
        return made, {name: x for name, x in variables.items() if name != "params"}

    return gen


def from_gumbel(
    module: nn.Module,
    *entries: str,
    inverse_temperature: float | Array,
    is_hard: bool = False,
    axis_name: str | None = None,
) -> GenFn:
    """The generator of a `Game` whose sentences are relaxed: RelGAN's.

    See "RelGAN: Relational Generative Adversarial Networks for Text Generation" by Nie et al. (ICLR
    2019). The inverse temperature follows a schedule where the step is built of the step counter:

        beta = losses.exponential_schedule(100.0, steps=3000)

        def at(t):
            gen = steps.from_gumbel(module, inverse_temperature=beta(t))
            return steps.gen_step(Game(gen=gen, disc=disc, loss=loss, example="text"), tx)

        step = steps.map_batch(steps.one_hot(vocabulary), steps.scheduled(at))

    Args:
      module: as of `writer`.
      *entries: what it sees beside the text: of "label", "source" and "source_length".
      inverse_temperature: beta.
      is_hard: the discriminator sees one-hots, their gradients those of the relaxed ones
        (straight-through); as published it sees the relaxed ones themselves.
      axis_name: the mapped axis, if any.

    Returns:
      `(key, variables, batch) -> ({"text": [B, T, V] float32, "length": [B]}, statistics)`.
    """

    def gen(key: Key, variables: PyTree, batch: Batch) -> tuple[Batch, PyTree]:
        noise_key, net_key = jax.random.split(key)
        num, length = batch["text"].shape[:2]
        vocabulary = module.vocabulary  # pyright: ignore[reportAttributeAccessIssue]

        def draw(key: Key, num: int) -> Array:
            return jax.random.split(key, num)

        # A key for each sentence, and its noise on the device alone that has it.
        keys = collectives.share(draw, noise_key, num, axis_name)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (length, vocabulary)))(keys)
        about: dict[str, Any] = {name: batch[name] for name in entries}
        made = sentences.perturb(
            noise, module, variables, rngs=collectives.own_key(net_key, axis_name), **about
        )
        text = losses.gumbel_softmax(noise, made.logits, inverse_temperature=inverse_temperature)
        if is_hard:
            text = losses.straight_through(text)
        is_on = losses.token_mask(made.length, length)[:, :, None] > 0
        padding = jax.nn.one_hot(0, vocabulary)[None, None]
        text = jnp.where(is_on, text, padding)
        stats = {name: x for name, x in variables.items() if name != "params"}
        return {"text": text, "length": made.length}, stats

    return gen


def one_hot(vocabulary: int) -> Callable[[Batch], Batch]:
    """Shows real sentences as the relaxed ones are, for `map_batch`.

    Args:
      vocabulary: V.

    Returns:
      A function that turns a batch's "text" [B, T] into one-hots [B, T, V] float32.
    """

    def prepare(batch: Batch) -> Batch:
        return {**batch, "text": jax.nn.one_hot(batch["text"], vocabulary)}

    return prepare


def _few_by_few(module: nn.Module, variables: PyTree, features: Array, text: Array) -> Array:
    """[B, T] log-probabilities from features [B, T, F], of a few places at a time.

    Logits of a large vocabulary are made where they are needed, and again for the gradient, so that
    they never leave the cache: on CPU two to three times as fast as all at once.
    """
    num, length = text.shape
    vocabulary = module.vocabulary  # pyright: ignore[reportAttributeAccessIssue]
    most = max(_LOGITS // (num * vocabulary), 1)
    places = max(n for n in range(1, length + 1) if length % n == 0 and n <= most)

    @jax.checkpoint
    def one(at: tuple[Array, Array]) -> Array:
        features, text = at  # [places, B, ...]: the batch stays an axis, which devices may share
        logits: Any = module.apply(variables, features, method="head")
        return losses.token_log_probs(logits, text)

    split = (
        x.swapaxes(0, 1).reshape(length // places, places, num, *x.shape[2:])
        for x in (features, text)
    )
    return jax.lax.map(one, tuple(split)).reshape(length, num).T


def _length(module: nn.Module, text: Array) -> Array:
    return sentences.lengths(text, end=sentences.module_end(module))
