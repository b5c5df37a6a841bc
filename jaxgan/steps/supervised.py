"""The step of a generator that learns from examples alone, without a discriminator."""

import jax
import optax

from jaxgan import collectives
from jaxgan import state as states
from jaxgan.state import GANState, StepFn
from jaxgan.steps.accumulate import accumulated
from jaxgan.steps.game import Game, Round
from jaxgan.types import Array, Batch, Key, Metrics, PyTree


def supervised_step(game: Game, tx: optax.GradientTransformation, *, accumulate: int = 1) -> StepFn:
    """Updates the generator by the game's further terms alone; the discriminator is not asked.

    It trains what is to come close to a known answer, such as a restored image, and begins runs
    whose adversarial part needs a generator that does so already.

    Args:
      game: what is played; its `gen_terms` see empty outputs of the discriminator.
      tx: the generator's Optax transformation.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`.

    Returns:
      A step with the metrics "gen/loss" (the sum of the terms), "gen/NAME" of each term and
      "gen/gradient" (norm over all parameters). The discriminator is left as it is.

    Raises:
      ValueError: the game has no terms.
    """
    if not game.gen_terms:
        raise ValueError("without terms of the generator's loss there is nothing to learn from")

    def find(state: GANState, key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            made, stats = game.gen(key, {"params": params, **state.gen.stats}, batch)
            seen = Round(batch, {**batch, **made}, {}, {})
            terms = {f"gen/{name}": term(seen).mean() for name, term in game.gen_terms.items()}
            loss = sum(terms.values(), start=jax.numpy.zeros(()))
            return loss, (stats, {"gen/loss": loss, **terms})

        grads, found = jax.grad(loss_fn, has_aux=True)(state.gen.params)
        return (grads, *found), ()

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        (grads, stats, metrics), _ = accumulated(
            lambda key, batch: find(state, key, batch), accumulate
        )(key, batch)
        grads, metrics = collectives.mean((grads, metrics), game.axis_name)
        player = states.apply_gradients(state.gen, tx, grads, stats)
        return state.replace(gen=player), {**metrics, "gen/gradient": optax.tree.norm(grads)}

    return step
