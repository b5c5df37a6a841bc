"""Gradient accumulation: what is a mean over a batch, computed on one micro-batch after the other.

The steps of `adversarial` take the number of micro-batches as `accumulate=`. The player moves once,
along the mean gradient, and its optimiser sees nothing of it: a run goes on with any number.

Micro-batch k of n holds every n-th row, from row k on, so that each device has an equal share of it
under `jit` and under `pmap`. Its random draws are those rows of what the whole batch would draw, by
a key whose draws are strided (`micro_key`): the latents, augmentations, dropout and noise of an
example are the same whatever n. So is the update, up to rounding, where losses are means over
examples (not `relativistic_average`) and no layer mixes them. Batch norm and the minibatch standard
deviation mix those of a micro-batch; new statistics are the means over micro-batches, each from the
old ones.
"""

import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import random as custom

from jaxgan.types import Array, Batch, Key, PyTree, UserError

_MANY = 2**12  # numbers an example: such draws are made anew for every micro-batch, and not kept

Find = Callable[[Key, Batch], tuple[PyTree, PyTree]]


def accumulated(find: Find, n: int) -> Find:
    """Computes on n micro-batches, one after the other, what is a mean over the batch.

    Memory is that of one micro-batch, and of the means. On CPU, whose loops convolve slowly, the
    micro-batches stand one after the other in the program; elsewhere they are one `lax.scan`.

    Args:
      find: `(key, batch) -> (means, rows)`: a pytree of means over the examples, such as gradients,
        and one of values of each example [B, ...].
      n: micro-batches; 1 leaves it as it is.

    Returns:
      The same function: means over the micro-batches (of whole numbers the last), and the rows of
      all in the order of the batch.

    Raises:
      UserError: n is not 1 or more; and, as it is traced, the batch does not divide.
    """
    if n < 1:
        raise UserError(f"a batch cannot be split into {n} micro-batches; use 1 or more")
    if n == 1:
        return find

    def split(x: Array) -> Array:
        if x.shape[0] % n:
            raise UserError(
                f"a batch of {x.shape[0]} (on each device) does not divide into {n} micro-batches; "
                f"use a multiple of {n}"
            )
        return x.reshape(x.shape[0] // n, n, *x.shape[1:])

    def over_all(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        parts, seed = jax.tree.map(split, dict(batch)), jax.random.key_data(key)
        base = jax.random.key_impl(key)

        def one(number: Array, late: Array) -> tuple[PyTree, PyTree]:
            rows = {
                name: jax.tree.map(lambda x: _take(x, number), part) for name, part in parts.items()
            }
            return find(_micro_key(seed, base, n, number, late), rows)

        def body(total: PyTree, number: Array) -> tuple[PyTree, PyTree]:
            # A number that is known once those before are done: in a program without a loop nothing
            # else keeps the compiler from running micro-batches side by side, in the memory of the
            # whole batch (XLA on CPU drops an optimization barrier too early).
            late = _zero_after(total)
            means, rows = one(number + late, late)
            return jax.tree.map(_add, total, means), rows

        means, rows = jax.eval_shape(one, jnp.uint32(0), jnp.uint32(0))
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, _wide(x.dtype)), means)

        def run(unroll: int) -> tuple[PyTree, PyTree]:
            return jax.lax.scan(body, start, jnp.arange(n, dtype=jnp.uint32), unroll=unroll)

        total, rows = jax.lax.platform_dependent(cpu=lambda: run(n), default=lambda: run(1))
        return (
            jax.tree.map(
                lambda x, like: (x / n if _is_mean(x) else x).astype(like.dtype), total, means
            ),
            jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), rows),
        )

    return over_all


def micro_key(key: Key, n: int, number: int | Array) -> Key:
    """Makes the key with which a micro-batch draws its rows of what the whole batch draws.

    What is drawn with it, or with a key split or folded from it, has rows `number`, `number + n`,
    ... of the draw that is n times as long in its first axis, by the plain key. A single number
    (shape []) is each micro-batch's own.

    Args:
      key: consumed, for all n micro-batches together.
      n: micro-batches.
      number: which of them, from 0.

    Returns:
      The key.
    """
    data, impl = jax.random.key_data(key), jax.random.key_impl(key)
    return _micro_key(data, impl, n, number, jnp.uint32(0))


def _micro_key(data: Array, base: Hashable, n: int, number: int | Array, late: Array) -> Key:
    own = jnp.stack([jnp.asarray(number, data.dtype), late])
    return jax.random.wrap_key_data(_join(data, own), impl=_strided(base, n))


@functools.cache
def _strided(base: Any, n: int) -> Any:
    """The generator of random bits whose draws are every n-th row of those of another.

    The data of its keys are those of the other's, the number of the micro-batch, and a zero that is
    known late. Without that, equal draws of several micro-batches are compiled, and made, once.
    """

    def plain(data: Array) -> Key:
        return jax.random.wrap_key_data(data[:-2], impl=base)

    def seed(seed: Array) -> Array:
        data = jax.random.key_data(jax.random.key(seed, impl=base))
        return _join(data, jnp.zeros(2, data.dtype))

    def split(data: Array, shape: tuple[int, ...]) -> Array:
        return _join(jax.random.key_data(jax.random.split(plain(data), shape)), data[-2:])

    def fold_in(data: Array, other: int | Array) -> Array:
        return _join(jax.random.key_data(jax.random.fold_in(plain(data), other)), data[-2:])

    def random_bits(data: Array, width: int, shape: tuple[int, ...]) -> Array:
        dtype, number = jnp.dtype(f"uint{width}"), data[-2]
        if not shape:
            return jax.random.bits(jax.random.fold_in(plain(data), number), dtype=dtype)
        if math.prod(shape[1:]) > _MANY:
            data = data + data[-1]
        whole = jax.random.bits(plain(data), (shape[0] * n, *shape[1:]), dtype)
        return _take(whole.reshape(shape[0], n, *shape[1:]), number)

    def size() -> int:
        return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=base))).size + 2

    return custom.define_prng_impl(
        key_shape=(size(),),
        seed=seed,
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name=f"every {n}th row",
        tag=f"row{n}",
    )


def _join(data: Array, own: Array) -> Array:
    """[..., D + 2] key data with the micro-batch's own [2] behind."""
    return jnp.concatenate([data, jnp.broadcast_to(own, (*data.shape[:-1], 2))], axis=-1)


def _take(x: Array, number: Array) -> Array:
    """[B, ...] the micro-batch of that number, of all [B, n, ...]."""
    return jax.lax.dynamic_index_in_dim(x, number, 1, keepdims=False)


def _zero_after(total: PyTree) -> Array:
    """[] uint32 zero that no compiler knows before it has every number of the total."""
    ends = [x.ravel()[0].astype(jnp.float32) for x in jax.tree.leaves(total) if _is_mean(x)]
    return (0.0 * sum(ends, start=jnp.zeros(()))).astype(
        jnp.uint32
    )  # NaN, for all a compiler knows


def _add(total: Array, x: Array) -> Array:
    return total + x if _is_mean(x) else x


def _is_mean(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _wide(dtype: Any) -> Any:
    """The dtype to add up in: float32 or wider for floats."""
    return jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.inexact) else dtype
