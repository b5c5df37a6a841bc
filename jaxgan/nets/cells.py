"""Recurrent cells: what a recurrent network carries along a sentence, and one step of it.

A cell is a value with four functions, and holds no parameters: the network that it is given to
keeps them. Inputs are projected by themselves (`project`), for all tokens at once where these are
known beforehand; `advance` is what is left to do token by token.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.types import Array, Key, PyTree

SEQGAN_INIT: Callable[..., Array] = nn.initializers.normal(0.1)  # of every parameter there


class Cell(Protocol):
    """What a recurrent network needs of its cell."""

    @property
    def features(self) -> int:
        """Numbers that each step says."""
        ...

    def init(self, key: Key, inputs: int) -> PyTree:
        """Fresh parameters, for inputs of this width."""
        ...

    def start(self, num: int) -> PyTree:
        """What is carried before the first token, leaves [num, ...]."""
        ...

    def project(self, params: PyTree, x: Array) -> Array:
        """Inputs [..., inputs] as `advance` takes them, [..., Z]."""
        ...

    def advance(self, params: PyTree, carry: PyTree, z: Array) -> tuple[PyTree, Array]:
        """One token, [B, Z]: what is carried on, and [B, features]."""
        ...


@dataclasses.dataclass(frozen=True)
class LSTM:
    """Long short-term memory, the cell of SeqGAN's generator and oracle.

    See "Long Short-Term Memory" by Hochreiter and Schmidhuber (Neural Computation 9, 1997), with
    the forget gate of Gers et al. (2000):

      i, f, o = sigmoid(x W + h U + b);  c <- f c + i tanh(x W_c + h U_c + b_c);  h <- o tanh(c)

    Attributes:
      width: of h and of c.
      init_scale: initialiser of every parameter.
    """

    width: int = 32
    init_scale: Any = SEQGAN_INIT

    @property
    def features(self) -> int:
        """Numbers that each step says."""
        return self.width

    def init(self, key: Key, inputs: int) -> PyTree:
        """Fresh parameters; columns are the gates i, f, o and the new memory, in this order."""
        return _affine(key, self.init_scale, inputs, self.width, gates=4)

    def start(self, num: int) -> PyTree:
        """Zeros."""
        return {"c": jnp.zeros((num, self.width)), "h": jnp.zeros((num, self.width))}

    def project(self, params: PyTree, x: Array) -> Array:
        """The gates' share of inputs, [..., 4 width]."""
        return _dense(x, params["input"]) + _rows(params["bias"], x)

    def advance(self, params: PyTree, carry: PyTree, z: Array) -> tuple[PyTree, Array]:
        """One token."""
        z = z + carry["h"] @ params["recurrent"]
        i, f, o = jnp.split(jax.nn.sigmoid(z[:, : 3 * self.width]), 3, axis=1)
        c = f * carry["c"] + i * jnp.tanh(z[:, 3 * self.width :])
        h = o * jnp.tanh(c)
        return {"c": c, "h": h}, h


@dataclasses.dataclass(frozen=True)
class GRU:
    """Gated recurrent unit: a quarter less to compute than an LSTM.

    See "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation" by Cho et al. (https://arxiv.org/abs/1406.1078), with the reset gate behind the
    product, as common libraries have it:

      r, u = sigmoid(x W + h U + b);  n = tanh(x W_n + b_n + r (h U_n));  h <- (1 - u) n + u h

    Attributes:
      width: of h.
      init_scale: initialiser of every parameter.
    """

    width: int = 32
    init_scale: Any = SEQGAN_INIT

    @property
    def features(self) -> int:
        """Numbers that each step says."""
        return self.width

    def init(self, key: Key, inputs: int) -> PyTree:
        """Fresh parameters; columns are the gates r and u and the new state, in this order."""
        return _affine(key, self.init_scale, inputs, self.width, gates=3)

    def start(self, num: int) -> PyTree:
        """Zeros."""
        return {"h": jnp.zeros((num, self.width))}

    def project(self, params: PyTree, x: Array) -> Array:
        """The gates' share of inputs, [..., 3 width]."""
        return _dense(x, params["input"]) + _rows(params["bias"], x)

    def advance(self, params: PyTree, carry: PyTree, z: Array) -> tuple[PyTree, Array]:
        """One token."""
        past, gates = carry["h"] @ params["recurrent"], 2 * self.width
        r, u = jnp.split(jax.nn.sigmoid(z[:, :gates] + past[:, :gates]), 2, axis=1)
        n = jnp.tanh(z[:, gates:] + r * past[:, gates:])
        h = (1.0 - u) * n + u * carry["h"]
        return {"h": h}, h


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Cells on top of each other, each reading what the one below says.

    Attributes:
      cells: from the lowest to the highest; at least one.
    """

    cells: tuple[Cell, ...]

    @property
    def features(self) -> int:
        """Numbers that each step says: those of the highest."""
        return self.cells[-1].features

    def init(self, key: Key, inputs: int) -> PyTree:
        """Fresh parameters of each, by its number."""
        widths = [inputs, *(cell.features for cell in self.cells)]
        keys = jax.random.split(key, len(self.cells))
        return {
            str(number): cell.init(keys[number], widths[number])
            for number, cell in enumerate(self.cells)
        }

    def start(self, num: int) -> PyTree:
        """What each carries."""
        return {str(number): cell.start(num) for number, cell in enumerate(self.cells)}

    def project(self, params: PyTree, x: Array) -> Array:
        """What the lowest makes of inputs."""
        return self.cells[0].project(params["0"], x)

    def advance(self, params: PyTree, carry: PyTree, z: Array) -> tuple[PyTree, Array]:
        """One token, upwards."""
        new, out = {}, z
        for number, cell in enumerate(self.cells):
            name = str(number)
            z = cell.project(params[name], out) if number else z
            new[name], out = cell.advance(params[name], carry[name], z)
        return new, out


def encode(cell: Cell, params: PyTree, x: Array, length: Array) -> tuple[Array, Array]:
    """Reads whole sentences.

    Args:
      cell: the cell.
      params: its parameters.
      x: [B, T, inputs] embedded tokens.
      length: [B] int32, tokens that count; the cell stays as it is after them.

    Returns:
      [B, features] what it says at the last token (zeros of an empty sentence), and
      [B, T, features] at each, zeros where a sentence is over.
    """
    z = cell.project(params, x.swapaxes(0, 1))  # [T, B, Z]

    def body(state: PyTree, at: tuple[Array, Array]) -> tuple[PyTree, Array]:
        time, z = at
        is_on = (time < length)[:, None]
        carry, out = cell.advance(params, state[0], z)
        carry = jax.tree.map(
            lambda new, old: jnp.where(is_on.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
            carry,
            state[0],
        )
        return (carry, jnp.where(is_on, out, state[1])), jnp.where(is_on, out, 0.0)

    start = cell.start(x.shape[0]), jnp.zeros((x.shape[0], cell.features))
    (_, last), all_of_them = jax.lax.scan(body, start, (jnp.arange(x.shape[1]), z))
    return last, all_of_them.swapaxes(0, 1)


def _affine(key: Key, init: Any, inputs: int, width: int, *, gates: int) -> dict[str, Array]:
    keys = jax.random.split(key, 3)
    return {
        "input": init(keys[0], (inputs, gates * width), jnp.float32),
        "recurrent": init(keys[1], (width, gates * width), jnp.float32),
        "bias": init(keys[2], (gates * width,), jnp.float32),
    }


def _dense(x: Array, kernel: Array) -> Array:
    """[..., Z]; as one product of matrices, whatever stands before the last axis."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def _rows(bias: Array, x: Array) -> Array:
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))
