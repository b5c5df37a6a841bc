"""The relational memory: a recurrent cell whose memories attend to each other, RelGAN's."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.types import Array, Key, PyTree

_EPSILON = 1e-12  # of a layer norm
_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Relational memory core.

    See "Relational recurrent neural networks" by Santoro et al. (https://arxiv.org/abs/1806.01822),
    section 3, and its use in "RelGAN: Relational Generative Adversarial Networks for Text
    Generation" by Nie et al. (ICLR 2019). Each step the memories and the input attend to each
    other, M' = norm(A + mlp(A)), A = norm(M + attention([M; x])), and gates of each unit decide:

      M <- sigmoid(i) tanh(M') + sigmoid(f + 1) M;    i, f = x W_x + tanh(M) W_m

    Attributes:
      slots: memories; RelGAN has one.
      heads: of the attention.
      head_size: numbers of each; a memory holds `heads * head_size`. RelGAN has 2 of 256.
      init_scale: initialiser of the matrices.
    """

    slots: int = 1
    heads: int = 2
    head_size: int = 256
    init_scale: Any = _INIT

    @property
    def size(self) -> int:
        """Numbers of one memory."""
        return self.heads * self.head_size

    @property
    def features(self) -> int:
        """Numbers that each step says: those of all memories."""
        return self.slots * self.size

    def init(self, key: Key, inputs: int) -> PyTree:
        """Fresh parameters."""
        size = self.size
        shapes = {
            "input": (inputs, size),
            "gate_input": (size, 2 * size),
            "gate_memory": (size, 2 * size),
            "attention": (size, 3 * size),
            "mlp_0": (size, size),
            "mlp_1": (size, size),
        }
        keys = jax.random.split(key, len(shapes))
        matrices = {
            name: self.init_scale(each, shape, jnp.float32)
            for each, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        biases = {f"{name}_bias": jnp.zeros((size,)) for name in ("input", "mlp_0", "mlp_1")}
        norms = {
            name: {"scale": jnp.ones((width,)), "bias": jnp.zeros((width,))}
            for name, width in (("norm_qkv", 3 * size), ("norm_0", size), ("norm_1", size))
        }
        return {**matrices, **biases, **norms}

    def start(self, num: int) -> PyTree:
        """Memories that differ: rows of the identity."""
        return {"memory": jnp.broadcast_to(jnp.eye(self.slots, self.size), (num, *self._shape))}

    def project(self, params: PyTree, x: Array) -> Array:
        """Inputs as a memory, and their share of the gates: [..., 3 size]."""
        rows = x.reshape(-1, x.shape[-1]) @ params["input"] + params["input_bias"][None]
        gates = rows @ params["gate_input"]
        return jnp.concatenate([rows, gates], axis=-1).reshape(*x.shape[:-1], -1)

    def advance(self, params: PyTree, carry: PyTree, z: Array) -> tuple[PyTree, Array]:
        """One token."""
        memory, x, gates = carry["memory"], z[:, None, : self.size], z[:, None, self.size :]
        seen = jnp.concatenate([memory, x], axis=1)  # [B, slots + 1, size]
        # What the input itself would become is dropped: only memories ask.
        attended = _norm(params["norm_0"], memory + self._attention(params, seen))
        hidden = nn.relu(attended @ params["mlp_0"] + _row(params["mlp_0_bias"]))
        mapped = hidden @ params["mlp_1"] + _row(params["mlp_1_bias"])
        new = _norm(params["norm_1"], attended + mapped)
        i, f = jnp.split(gates + jnp.tanh(memory) @ params["gate_memory"], 2, axis=2)
        memory = jax.nn.sigmoid(i) * jnp.tanh(new) + jax.nn.sigmoid(f + 1.0) * memory
        return {"memory": memory}, memory.reshape(memory.shape[0], -1)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.slots, self.size

    def _attention(self, params: PyTree, seen: Array) -> Array:
        """[B, slots, size] what memories take from each other and from the input."""
        num, places, _ = seen.shape
        qkv = _norm(params["norm_qkv"], seen @ params["attention"])
        qkv = qkv.reshape(num, places, self.heads, 3 * self.head_size)
        q, k, v = jnp.split(qkv, 3, axis=3)  # [B, slots + 1, heads, head_size]
        # By the root of all three sizes together, as in the published code of both papers.
        q = q[:, : self.slots] * (3 * self.head_size) ** -0.5
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k), axis=-1)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(num, self.slots, self.size)


def _norm(params: PyTree, x: Array) -> Array:
    """Normalises each row [..., F]."""
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + _EPSILON)
    return x * _row(params["scale"]) + _row(params["bias"])


def _row(x: Array) -> Array:
    return x[None, None]
