"""Recurrent generators of sentences, token by token, and SeqGAN's oracle.

A generator has, beside its call on given sentences, the three methods by which `jaxgan.sentences`
writes new ones: `begin`, `advance`, `head`; and `features` and `follow`.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import cells, layers
from jaxgan.nets.cells import Cell
from jaxgan.types import Array, PyTree, UserError

START = 0  # the symbol before the first token: SeqGAN's, and padding, which never is a token
NEVER = -1e9  # a logit


class Generator(nn.Module):
    """Says how likely each token is after those before.

    Attributes:
      vocabulary: number of tokens.
      cell: `cells.LSTM`, `cells.GRU`, `relational.Memory`, or several of them `Stacked`.
      embedding: width of an embedded token.
      num_classes: labels that it may be asked for; 0 for none.
      encoder: a cell that reads the source (the line before) to its end; None for no source.
      end: the token that ends a sentence. Padding (0) is then never written before it. None where
        sentences have no end and 0 is a token as any other.
      dropout: share of embedded tokens' and of the cell's numbers dropped in training.
      kernel_init: initialiser of embeddings and of the output layer, bias included.
    """

    vocabulary: int
    cell: Cell = cells.LSTM()
    embedding: int = 32
    num_classes: int = 0
    encoder: Cell | None = None
    end: int | None = 2
    dropout: float = 0.0
    kernel_init: Any = cells.SEQGAN_INIT

    def setup(self):
        """Declares the parameters."""
        init, width = self.kernel_init, self.embedding
        self.tokens = self.param("tokens", init, (self.vocabulary, width))
        context = 0
        if self.num_classes:
            self.labels = self.param("labels", init, (self.num_classes, width))
            context += width
        if self.encoder is not None:
            self.reader = self.param("reader", self.encoder.init, width)
            context += self.encoder.features
        self.recurrent = self.param("recurrent", self.cell.init, width + context)
        self.out_kernel = self.param("out_kernel", init, (self.cell.features, self.vocabulary))
        self.out_bias = self.param("out_bias", init, (self.vocabulary,))
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        text: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """Reads given sentences.

        Args:
          text: [B, T] int32 tokens.
          label: [B] int32 in [0, num_classes), where there are classes.
          source: [B, S] int32, where there is an encoder.
          source_length: [B] int32, its tokens.
          train: drops out.

        Returns:
          [B, T, V] float32 logits, those at t of token t given the ones before it. Tokens after a
          sentence's end change none at or before it.

        Raises:
          UserError: no labels or no source where it needs them.
        """
        return self.head(self.features(text, label, source, source_length, train=train))

    def features(
        self,
        text: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """Reads given sentences, up to what `head` makes logits of.

        Args:
          text: as in the call.
          label: as in the call.
          source: as in the call.
          source_length: as in the call.
          train: drops out.

        Returns:
          [B, T, F].
        """
        features, _ = self._follow(text, label, source, source_length, train=train)
        return self.drop(features, deterministic=not train)

    def follow(
        self,
        text: Array,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
    ) -> PyTree:
        """Reads given sentences, as the call does, and keeps all that `advance` goes on from.

        Args:
          text: [B, T] int32 tokens.
          label: as in the call.
          source: as in the call.
          source_length: as in the call.

        Returns:
          Leaves [T, B, ...]: what is carried at t, as `advance` left it having seen the tokens
          before t.
        """
        _, carries = self._follow(text, label, source, source_length, train=False, keep=True)
        context = self._context(label, source, source_length)
        if context is None:
            return {"cell": carries}
        return {
            "cell": carries,
            "context": jnp.broadcast_to(context[None], (text.shape[1], *context.shape)),
        }

    def begin(
        self,
        num: int,
        label: Array | None = None,
        source: Array | None = None,
        source_length: Array | None = None,
    ) -> PyTree:
        """What is carried before the first token.

        Args:
          num: sentences.
          label: as in the call.
          source: as in the call.
          source_length: as in the call.

        Returns:
          Leaves [num, ...].
        """
        context = self._context(label, source, source_length)
        carry = {"cell": self.cell.start(num)}
        return carry if context is None else {**carry, "context": context}

    def advance(self, carry: PyTree, token: Array) -> tuple[PyTree, Array]:
        """Sees one token more.

        Args:
          carry: of `begin`, or of the token before.
          token: [B] int32; `START` at first.

        Returns:
          What to carry on, and the features [B, F] of the token to come.
        """
        z = self._project(self._embed(token), carry.get("context"))
        cell, features = self.cell.advance(self.recurrent, carry["cell"], z)
        return {**carry, "cell": cell}, features

    def head(self, features: Array) -> Array:
        """Turns features into logits.

        Args:
          features: [..., F].

        Returns:
          [..., V] float32.
        """
        bias = self.out_bias
        if self.end is not None:
            bias = jnp.where(jnp.arange(self.vocabulary) == 0, NEVER, bias)
        rows = features.reshape(-1, features.shape[-1]) @ self.out_kernel + bias[None]
        return rows.reshape(*features.shape[:-1], self.vocabulary).astype(jnp.float32)

    def _follow(self, text, label, source, source_length, *, train, keep=False):
        """Features [B, T, F], and where kept the cell's carries [T, B, ...]."""
        chex.assert_rank(text, 2)
        before = jnp.pad(text, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
        x = self.drop(self._embed(before.T), deterministic=not train)  # [T, B, E]
        context = self._context(label, source, source_length)
        z = self._project(x, context)

        def body(carry: PyTree, z: Array) -> tuple[PyTree, tuple[Array, PyTree]]:
            carry, features = self.cell.advance(self.recurrent, carry, z)
            return carry, (features, carry if keep else ())

        _, (features, carries) = jax.lax.scan(body, self.cell.start(text.shape[0]), z)
        return features.swapaxes(0, 1), carries

    def _embed(self, text: Array) -> Array:
        return jnp.take(self.tokens, text, axis=0, mode="clip")

    def _project(self, x: Array, context: Array | None) -> Array:
        """The cell's view of embedded tokens [..., B, E], each beside its sentence's context."""
        if context is not None:
            context = context.reshape((1,) * (x.ndim - context.ndim) + context.shape)
            context = jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1]))
            x = jnp.concatenate([x, context], axis=-1)
        return self.cell.project(self.recurrent, x)

    def _context(self, label, source, source_length) -> Array | None:
        """[B, C] what a sentence is to be about, the same at each of its tokens."""
        parts = []
        if self.num_classes:
            parts.append(jnp.take(self.labels, layers.required(label), axis=0, mode="clip"))
        if self.encoder is not None:
            if source is None or source_length is None:
                raise UserError(
                    "a network with an encoder needs the lines before; "
                    "pass source [B, S] and source_length [B]"
                )
            last, _ = cells.encode(self.encoder, self.reader, self._embed(source), source_length)
            parts.append(last)
        return jnp.concatenate(parts, axis=-1) if parts else None


def oracle(params: Mapping[str, Any]) -> tuple[Generator, dict[str, PyTree]]:
    """Builds SeqGAN's teacher of fixed random parameters.

    See "SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient" by Yu et al.
    (https://arxiv.org/abs/1609.05473), section 4: an LSTM of 32 units, all parameters from N(0, 1),
    writes 20 tokens of 5,000; how likely it finds what a generator wrote is the score.

    Args:
      params: the published arrays by number, "p00" to "p14": the embedding [V, E]; W, U and b of
        the input, forget and output gate and of the new memory; the output's kernel [H, V] and
        bias [V].

    Returns:
      The generator, of any sizes that the arrays have, and its variables.
    """
    arrays = [jnp.asarray(params[f"p{number:02d}"], jnp.float32) for number in range(15)]
    tokens, kernel, bias = arrays[0], arrays[13], arrays[14]
    cell = {
        name: jnp.concatenate(arrays[first:13:3], axis=-1)
        for first, name in enumerate(("input", "recurrent", "bias"), start=1)
    }
    module = Generator(
        vocabulary=tokens.shape[0],
        cell=cells.LSTM(kernel.shape[0]),
        embedding=tokens.shape[1],
        end=None,
    )
    variables = {"tokens": tokens, "recurrent": cell, "out_kernel": kernel, "out_bias": bias}
    return module, {"params": variables}
