"""A pool of the generator's past examples, which the discriminator sees in place of new ones.

See "Learning from Simulated and Unsupervised Images through Adversarial Training" by Shrivastava et
al. (https://arxiv.org/abs/1612.07828), section 2.3, and CycleGAN's form of it. The pool is arrays
of `state.extra`, so that a run resumes as the same run.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxgan import collectives
from jaxgan import state as states
from jaxgan.state import GANState, StepFn
from jaxgan.steps import adversarial
from jaxgan.steps.game import Game
from jaxgan.types import Array, Batch, Key, Metrics, PyTree

POOL = "pool"  # its name in `state.extra`


def init_pool(shapes: dict[str, Sequence[int]], size: int) -> PyTree:
    """Makes an empty pool.

    Args:
      shapes: of one example of each entry that is pooled.
      size: examples of each.

    Returns:
      What `pooled_step` expects at `state.extra[POOL]`.
    """
    held = {name: jnp.zeros((size, *shape)) for name, shape in shapes.items()}
    return {"held": held, "count": jnp.zeros((), jnp.int32)}


def exchange(key: Key, pool: PyTree, made: Batch) -> tuple[Batch, PyTree]:
    """Gives half of new examples for old ones of the pool.

    Until the pool is full, new examples are kept in it and returned as they are. Then each is
    returned with probability 1/2, and else takes the place of one of the pool, which is returned.
    All entries of an example come and go together.

    Args:
      key: consumed.
      pool: of `init_pool`.
      made: the pooled entries, [B, ...] each.

    Returns:
      As many examples, and the pool.
    """
    size = next(iter(pool["held"].values())).shape[0]

    def one(carry: tuple[PyTree, Array], drawn: tuple[Batch, Array, Array]):
        held, count = carry
        new, place, swap = drawn
        full = count >= size
        place = jnp.where(full, place, count)
        swap = swap & full
        old = {name: held[name][place] for name in new}
        kept = {
            name: held[name].at[place].set(jnp.where(swap | ~full, x, old[name]))
            for name, x in new.items()
        }
        out = {name: jnp.where(swap, old[name], x) for name, x in new.items()}
        return (kept, jnp.minimum(count + 1, size)), out

    place_key, swap_key = jax.random.split(key)
    num = next(iter(made.values())).shape[0]
    places = jax.random.randint(place_key, (num,), 0, size)
    swaps = jax.random.bernoulli(swap_key, shape=(num,))
    start = pool["held"], pool["count"]
    (held, count), out = jax.lax.scan(one, start, (dict(made), places, swaps))
    return out, {"held": held, "count": count}


def pooled_step(
    game: Game, gen_tx: optax.GradientTransformation, disc_tx: optax.GradientTransformation
) -> StepFn:
    """Updates the generator, then the discriminator on examples of the pool.

    Args:
      game: what is played; the entries that `init_pool` was given come from the pool.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.

    Returns:
      A step with the metrics of `disc_step` and `gen_step` but diversity, for a state that has a
      pool. Under `pmap` the pool would differ between devices; use `jit`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        gen_key, loss_key, pool_key = jax.random.split(key, 3)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, tuple[Metrics, Batch]]]:
            made, stats = game.gen(gen_key, {"params": params, **state.gen.stats}, batch)
            # A clone: D's own augmentation and dropout are drawn below, of the same key.
            loss, metrics = game.gen_loss(jax.random.clone(loss_key), state.disc, batch, made)
            return loss, (stats, (metrics, made))

        grads, (stats, (seen, made)) = jax.grad(loss_fn, has_aux=True)(state.gen.params)
        grads, seen = collectives.mean((grads, seen), game.axis_name)
        gen = states.apply_gradients(state.gen, gen_tx, grads, stats)
        new = {name: made[name] for name in state.extra[POOL]["held"]}
        shown, pool = exchange(pool_key, state.extra[POOL], new)
        disc, metrics = adversarial.update_disc(
            loss_key, game, state.disc, disc_tx, batch, {**made, **shown}
        )
        extra = {**state.extra, POOL: pool}
        metrics = {**metrics, **seen, "gen/gradient": optax.tree.norm(grads)}
        return state.replace(gen=gen, disc=disc, extra=extra), metrics

    return step
