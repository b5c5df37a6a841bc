"""Exponential moving averages of parameters, and batch statistics that fit an average.

An average of parameters has no batch of its own: the statistics that are averaged along with it
were recorded under other parameters. `standing_statistics` estimates them anew, for sampling.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan.types import Array, Batch, Key, PyTree, UserError

# key, variables, batch -> entries made, new statistics: the signature of `Game.gen`
Gen = Callable[[Key, PyTree, Batch], tuple[Batch, PyTree]]

_LARGE = 2.0**20  # a statistic beside which those of a batch are nothing, yet no rounding either


def decay_from_half_life(half_life: float, batch_size: int) -> float:
    """Turns a half-life in images into the decay of one step: `0.5 ** (batch_size / half_life)`.

    See "Progressive Growing of GANs" by Karras et al. (https://arxiv.org/abs/1710.10196).

    Args:
      half_life: images (not steps) after which a parameter's weight has halved; 0 keeps no memory.
      batch_size: images a step, over all devices.

    Returns:
      The decay, in [0, 1).
    """
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


def warmed_up(decay: float, step: Array) -> Array:
    """Lowers a decay early in training, so that the average forgets the random start.

    `min(decay, (1 + step) / (10 + step))`.

    Args:
      decay: the decay reached in the end, in [0, 1).
      step: [] int32, steps taken.

    Returns:
      [] float32, the decay to use at this step.
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def update(average: PyTree, values: PyTree, decay: float | Array) -> PyTree:
    """Moves an average towards new values: `decay * average + (1 - decay) * values`.

    Args:
      average: pytree of arrays; float leaves keep their dtype.
      values: pytree of the same structure and shapes.
      decay: weight of the old average, in [0, 1].

    Returns:
      The new average; leaves that are not floating point are taken from `values`.
    """

    def blend(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        # As a difference, an average that has arrived stays exactly where it is.
        return (old + (1.0 - decay) * (new.astype(old.dtype) - old)).astype(old.dtype)

    return jax.tree.map(blend, average, values)


def standing_statistics(
    key: Key,
    gen: Gen,
    variables: PyTree,
    batches: Batch,
    *,
    collection: str = "batch_stats",
) -> PyTree:
    """Estimates a generator's batch statistics anew, for the parameters that it has now.

    The "standing statistics" of "Large Scale GAN Training for High Fidelity Natural Image
    Synthesis" by Brock et al. (https://arxiv.org/abs/1809.11096, in the appendices): the generator
    runs on many batches in training mode, and each statistic becomes the plain average of the
    batches' own,

      mean <- 1/N sum_i mean_i    var <- 1/N sum_i var_i

    which is what it normalised by on average. The variance of a whole population would be larger
    by that of the N means; the difference shrinks with the size of a batch. What was recorded
    before has no part in it, and neither has the momentum of the norms.

    Args:
      key: consumed; each batch has one of its own.
      gen: `(key, variables, batch) -> (entries made, new statistics)`, in training mode. Statistics
        must follow `new = m old + (1 - m) of the batch`, with any m below 1 for each leaf, and
        must not be used to compute the entries.
      variables: {"params": ..., collection: ..., ...}, of a moving average for example.
      batches: entries [N, B, ...], what `gen` takes for each of N batches; BigGAN's N is 100.
      collection: of the statistics among the variables.

    Returns:
      The variables with new statistics; all else, and statistics that never change, as they were.
      Without such a collection, the variables themselves.

    Raises:
      UserError: there is no batch.
    """
    num = min((len(leaf) for leaf in jax.tree.leaves(batches)), default=0)
    if not num:
        raise UserError(
            "standing statistics need batches; give entries [N, B, ...], N of 1 or more"
        )
    if not jax.tree.leaves(variables.get(collection)):
        return variables
    recorded = variables[collection]

    def record(key: Key, batch: Batch, start: Array) -> PyTree:
        old = jax.tree.map(lambda leaf: jnp.full_like(leaf, start), recorded)
        return gen(key, {**variables, collection: old}, batch)[1][collection]

    def of_batch(from_zero_and_large: Array, leaf: Array) -> Array:
        at_zero, at_large = from_zero_and_large  # (1 - m) statistic, and m large more
        share = 1.0 - (at_large - at_zero) / _LARGE
        return jnp.where(share > 0, at_zero / jnp.where(share > 0, share, 1.0), leaf)

    def add(total: PyTree, inputs: tuple[Key, Batch]) -> tuple[PyTree, None]:
        # Mapped over what only the records depend on, the generator itself runs once.
        records = jax.vmap(lambda start: record(*inputs, start))(jnp.array([0.0, _LARGE]))
        return jax.tree.map(jnp.add, total, jax.tree.map(of_batch, records, recorded)), None

    total, _ = jax.lax.scan(
        add,
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), recorded),
        (jax.random.split(key, num), batches),
    )
    mean = jax.tree.map(lambda new, old: (new / num).astype(old.dtype), total, recorded)
    return {**variables, collection: mean}
