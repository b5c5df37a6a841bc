"""Discriminators of sentences: SeqGAN's of convolutions, RelGAN's of many embeddings, recurrent.

All read tokens [B, T] int32, or distributions over tokens [B, T, V] float32 (one-hots, relaxed
ones), each with the sentences' lengths: what stands behind a sentence changes nothing. The source
(the line before) is given as tokens.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import cells, layers
from jaxgan.nets.cells import Cell
from jaxgan.types import Array, UserError

SEQGAN_FILTERS = tuple(
    zip(
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20),
        (100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160),
        strict=True,
    )
)
RELGAN_FILTERS = ((2, 300), (3, 300), (4, 300), (5, 300))
_NORMAL: Any = nn.initializers.truncated_normal(0.1)
_TENTH: Any = nn.initializers.constant(0.1)


class Convolutional(nn.Module):
    """The best match of each of many filters anywhere in the sentence: SeqGAN's discriminator.

    See "SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient" by Yu et al.
    (https://arxiv.org/abs/1609.05473), appendix, after "Convolutional Neural Networks for Sentence
    Classification" by Kim (https://arxiv.org/abs/1408.5882) with a highway layer. Sizes are those
    for sentences of 20 tokens. Its published loss adds 0.2 / 2 of the output layer's squares:
    `optax.add_decayed_weights(0.2, mask)` before Adam.

    Attributes:
      vocabulary: number of tokens.
      filters: (tokens that it spans, number of filters) of each size.
      embedding: width of an embedded token.
      dropout: share of features dropped in training, before the output.
      num_classes: labels it is told; 0 for none.
      encoder: a cell that reads the source to its end; None for no source.
    """

    vocabulary: int
    filters: Sequence[tuple[int, int]] = SEQGAN_FILTERS
    embedding: int = 64
    dropout: float = 0.25
    num_classes: int = 0
    encoder: Cell | None = None

    @nn.compact
    def __call__(
        self,
        text: Array,
        length: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """Judges sentences.

        Args:
          text: [B, T] int32, or [B, T, V] float32.
          length: [B] int32.
          label: [B] int32, where there are classes.
          source: [B, S] int32, where there is an encoder.
          source_length: [B] int32, where there is an encoder.
          train: drops out.

        Returns:
          [B] float32.

        Raises:
          UserError: no labels or no source where it needs them.
        """
        tokens = self.param("tokens", _centred, (self.vocabulary, self.embedding))
        x = embedded(tokens, text, length)  # [B, T, E]
        best = []
        for span, num in self.filters:
            kernel = self.param(f"filter_{span}", _NORMAL, (span * self.embedding, num))
            bias = self.param(f"filter_{span}_bias", _TENTH, (num,))
            # The largest first, then bias and ReLU, of fewer numbers: both keep the order.
            best.append(nn.relu(_best_match(x, length, kernel, span) + bias[None]))
        x = _highway(jnp.concatenate(best, axis=-1))  # [B, filters]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = _about(self, x, tokens, label, source, source_length)
        return nn.Dense(1, kernel_init=_NORMAL, bias_init=_TENTH, name="out")(x)[:, 0]


class MultiRepresentation(nn.Module):
    """Judges several embeddings of a sentence, each for itself: RelGAN's discriminator.

    See "RelGAN: Relational Generative Adversarial Networks for Text Generation" by Nie et al. (ICLR
    2019), section 2.3. All share the filters and what follows.

    Attributes:
      vocabulary: number of tokens.
      representations: embeddings of a token.
      embedding: width of all of them together.
      filters: (tokens that it spans, number of filters) of each size.
      hidden: units before the output.
      dropout: share of features dropped in training.
      num_classes: labels it is told; 0 for none.
      encoder: a cell that reads the source to its end; None for no source.
    """

    vocabulary: int
    representations: int = 64
    embedding: int = 64
    filters: Sequence[tuple[int, int]] = RELGAN_FILTERS
    hidden: int = 100
    dropout: float = 0.25
    num_classes: int = 0
    encoder: Cell | None = None

    @nn.compact
    def __call__(
        self,
        text: Array,
        length: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """Judges sentences.

        Args:
          text: [B, T] int32, or [B, T, V] float32.
          length: [B] int32.
          label: [B] int32, where there are classes.
          source: [B, S] int32, where there is an encoder.
          source_length: [B] int32, where there is an encoder.
          train: drops out.

        Returns:
          [B, representations] float32.

        Raises:
          UserError: the width does not divide; no labels or no source where it needs them.
        """
        count = self.representations
        if self.embedding % count:
            raise UserError(
                f"{count} representations do not divide an embedding of {self.embedding}; "
                "try a divisor"
            )
        init = nn.initializers.truncated_normal(self.vocabulary**-0.5)
        tokens = self.param("tokens", init, (self.vocabulary, self.embedding))
        x = embedded(tokens, text, length)  # [B, T, E]
        num, width = x.shape[0], self.embedding // count
        x = x.reshape(num, -1, count, width).swapaxes(1, 2).reshape(num * count, -1, width)
        lengths, best = jnp.repeat(length, count), []
        for span, filters in self.filters:
            init = nn.initializers.truncated_normal((2.0 / (span * width)) ** 0.5)
            kernel = self.param(f"filter_{span}", init, (span * width, filters))
            bias = self.param(f"filter_{span}_bias", nn.initializers.zeros, (filters,))
            best.append(nn.relu(_best_match(x, lengths, kernel, span) + bias[None]))
        x = _highway(jnp.concatenate(best, axis=-1))  # [B * representations, filters]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(self.hidden, name="hidden")(x)
        x = _about(self, x, tokens, label, source, source_length, copies=count)
        return nn.Dense(1, name="out")(x).reshape(num, count)


class Recurrent(nn.Module):
    """Reads a sentence from its beginning, and judges it at its end or at every token.

    Attributes:
      vocabulary: number of tokens.
      cell: what it reads with.
      embedding: width of an embedded token.
      at_every_token: ScratchGAN's ("Training language GANs from Scratch" by de Masson d'Autume et
        al., https://arxiv.org/abs/1905.09922), for rewards of every token.
      dropout: share of embedded tokens' and of the cell's numbers dropped in training.
      num_classes: labels it is told; 0 for none.
      encoder: a cell that reads the source to its end; None for no source.
    """

    vocabulary: int
    cell: Cell = cells.LSTM(64)
    embedding: int = 64
    at_every_token: bool = False
    dropout: float = 0.25
    num_classes: int = 0
    encoder: Cell | None = None

    @nn.compact
    def __call__(
        self,
        text: Array,
        length: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """Judges sentences.

        Args:
          text: [B, T] int32, or [B, T, V] float32.
          length: [B] int32.
          label: [B] int32, where there are classes.
          source: [B, S] int32, where there is an encoder.
          source_length: [B] int32, where there is an encoder.
          train: drops out.

        Returns:
          [B] float32, or [B, T] of every token and 0 behind the sentence.

        Raises:
          UserError: no labels or no source where it needs them.
        """
        drop = nn.Dropout(self.dropout, deterministic=not train)
        tokens = self.param("tokens", cells.SEQGAN_INIT, (self.vocabulary, self.embedding))
        x = drop(embedded(tokens, text, length))
        params = self.param("recurrent", self.cell.init, self.embedding)
        last, at_each = cells.encode(self.cell, params, x, length)
        num, places = at_each.shape[:2]
        x = at_each.reshape(num * places, -1) if self.at_every_token else last
        copies = places if self.at_every_token else 1
        x = _about(self, drop(x), tokens, label, source, source_length, copies=copies)
        logits = nn.Dense(1, name="out")(x)[:, 0]
        if not self.at_every_token:
            return logits
        is_on = jnp.arange(places)[None] < length[:, None]
        return jnp.where(is_on, logits.reshape(num, places), 0.0)


def embedded(tokens: Array, text: Array, length: Array) -> Array:
    """Embeds the tokens of sentences, or what distributions expect of them.

    Args:
      tokens: [V, E] the embedding of each token.
      text: [B, T] int32, or [B, T, V] float32.
      length: [B] int32.

    Returns:
      [B, T, E], zeros behind a sentence.
    """
    if jnp.issubdtype(text.dtype, jnp.integer):
        chex.assert_rank(text, 2)
        x = jnp.take(tokens, text, axis=0, mode="clip")
    else:
        chex.assert_rank(text, 3)
        x = (text.reshape(-1, text.shape[2]) @ tokens).reshape(*text.shape[:2], -1)
    return jnp.where((jnp.arange(text.shape[1])[None] < length[:, None])[:, :, None], x, 0.0)


def _best_match(x: Array, length: Array, kernel: Array, span: int) -> Array:
    """[B, F] the largest answer of each filter to `span` tokens in a row, within a sentence.

    The first tokens always count, of a sentence too short with the zeros behind it.
    """
    x = jnp.pad(x, ((0, 0), (0, max(span - x.shape[1], 0)), (0, 0)))
    answers = _answers(x, kernel.reshape(span, x.shape[2], -1))  # [B, places, F]
    first = jnp.arange(answers.shape[1])[None]
    is_within = (first == 0) | (first + span <= length[:, None])
    return jnp.where(is_within[:, :, None], answers, -jnp.inf).max(1)


@jax.custom_vjp
def _answers(x: Array, kernel: Array) -> Array:
    """[B, places, F] the convolution of x [B, T, E] with kernel [span, E, F].

    On CPU it is fastest as a convolution where no gradient is taken, for rewards; and as a product
    of matrices, forward and back, where one is.
    """
    names = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=names)


def _answers_of_windows(x: Array, kernel: Array) -> Array:
    span, width, filters = kernel.shape
    places = x.shape[1] - span + 1
    windows = jnp.concatenate([x[:, k : k + places] for k in range(span)], axis=-1)
    rows = windows.reshape(-1, span * width) @ kernel.reshape(-1, filters)
    return rows.reshape(x.shape[0], places, filters)


_answers.defvjp(
    lambda x, kernel: jax.vjp(_answers_of_windows, x, kernel),
    lambda pull_back, grads: pull_back(grads),
)


def _highway(x: Array) -> Array:
    """[B, F]: see "Highway Networks" by Srivastava et al. (https://arxiv.org/abs/1505.00387)."""
    new = nn.relu(nn.Dense(x.shape[1], name="highway")(x))
    share = jax.nn.sigmoid(nn.Dense(x.shape[1], name="highway_gate")(x))
    return share * new + (1.0 - share) * x


def _about(
    module: Any,
    x: Array,
    tokens: Array,
    label: Array | None,
    source: Array | None,
    source_length: Array | None,
    *,
    copies: int = 1,
) -> Array:
    """[N, F] features together with the label and the source, `copies` rows of each sentence."""
    parts = []
    if module.num_classes:
        embed = nn.Embed(module.num_classes, x.shape[-1], name="labels")
        parts.append(embed(layers.required(label)))
    if module.encoder is not None:
        if source is None or source_length is None:
            raise UserError(
                "a network with an encoder needs the lines before; "
                "pass source [B, S] and source_length [B]"
            )
        params = module.param("reader", module.encoder.init, tokens.shape[1])
        read = embedded(tokens, source, source_length)
        parts.append(cells.encode(module.encoder, params, read, source_length)[0])
    if not parts:
        return x
    width = x.shape[-1]
    parts = [jnp.repeat(part, copies, axis=0) for part in parts]
    return nn.relu(nn.Dense(width, name="about")(jnp.concatenate([x, *parts], axis=-1)))


def _centred(key: Any, shape: Sequence[int]) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)
