"""The two players' steps, for every `Game`.

A step made of a game and of Optax transformations is `(key, state, batch) -> (state, metrics)`, as
a step of one's own is: both go into `combine`. See `game` for what may be played, and for what
several devices need; `accumulate` for gradients of a batch that does not fit memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan import collectives, ema
from jaxgan import state as states
from jaxgan.state import GANState, Player, StepFn
from jaxgan.steps.accumulate import accumulated
from jaxgan.steps.game import Game
from jaxgan.types import Array, Batch, Key, Metrics, PyTree


def disc_step(game: Game, tx: optax.GradientTransformation, *, accumulate: int = 1) -> StepFn:
    """Updates the discriminator once, on the batch and on fresh fakes.

    Args:
      game: what is played.
      tx: the discriminator's Optax transformation.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`.

    Returns:
      A step with the metrics "disc/loss" (the adversarial part), "disc/real", "disc/fake" (mean
      logits), "disc/accuracy" (share of logits on the right side of the middle between those two
      means), "disc/NAME" of each term, with a penalty "disc/penalty", and with an augmentation
      "disc/sign" (mean sign of the real logits, for `augment.ada.adapt`). Of a pytree of logits
      they are means over its leaves, the loss a sum. The generator is left as it is, its statistics
      too.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        def find(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
            gen_key, loss_key = jax.random.split(key)
            made, _ = game.gen(gen_key, state.gen.variables, batch)
            return _disc_gradients(loss_key, game, state.disc, batch, made), ()

        (grads, (stats, metrics)), _ = accumulated(find, accumulate)(key, batch)
        grads, metrics = collectives.mean((grads, metrics), game.axis_name)
        player = states.apply_gradients(state.disc, tx, grads, stats)
        return state.replace(disc=player), metrics

    return step


def gen_step(game: Game, tx: optax.GradientTransformation, *, accumulate: int = 1) -> StepFn:
    """Updates the generator once, on fresh fakes.

    Args:
      game: what is played.
      tx: the generator's Optax transformation.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`.

    Returns:
      A step with the metrics "gen/loss" (the adversarial part), "gen/NAME" of each term,
      "gen/gradient" (norm over all parameters) and, where G makes the game's example,
      "gen/diversity" (see `game.diversity`), with the game's `classes` "gen/class_diversity" as
      well. The discriminator is left as it is, its statistics too.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        def find(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
            gen_key, loss_key = jax.random.split(key)

            def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics, Batch]]:
                made, stats = game.gen(gen_key, {"params": params, **state.gen.stats}, batch)
                loss, metrics = game.gen_loss(loss_key, state.disc, batch, made)
                return loss, (stats, metrics, _examples(game, made))

            grads, (*found, made) = jax.grad(loss_fn, has_aux=True)(state.gen.params)
            return (grads, *found), made

        (grads, stats, metrics), made = accumulated(find, accumulate)(key, batch)
        grads, metrics = _measured(grads, metrics, game, batch, made)
        player = states.apply_gradients(state.gen, tx, grads, stats)
        return state.replace(gen=player), metrics

    return step


def simultaneous_step(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
) -> StepFn:
    """Updates both players at once, each against the old other, from one forward pass of G.

    Args:
      game: what is played; both players see the same augmented fakes.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`.

    Returns:
      A step with the metrics of `disc_step` and `gen_step`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        found = gradients(key, game, state.gen, state.disc, batch, accumulate=accumulate)
        gen = states.apply_gradients(state.gen, gen_tx, found.gen, found.gen_stats)
        disc = states.apply_gradients(state.disc, disc_tx, found.disc, found.disc_stats)
        return state.replace(gen=gen, disc=disc), found.metrics

    return step


def alternating_step(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
) -> StepFn:
    """Updates the discriminator, then the generator against the new one, on the same fakes.

    `chain(disc_step(...), gen_step(...))` alternates with fresh latents for each player; this
    costs one forward pass of the generator less.

    Args:
      game: what is played; both players see the same augmented fakes.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`. With more than
        one the generator makes its fakes twice, rather than keep what all of them need.

    Returns:
      A step with the metrics of `disc_step` and `gen_step`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        gen_key, loss_key = jax.random.split(key)
        fakes = _forward(gen_key, game, state.gen, batch)
        # A clone: G is to see the fakes that D saw, augmented alike.
        disc, metrics = update_disc(
            jax.random.clone(loss_key), game, state.disc, disc_tx, batch, fakes.made
        )
        grads, seen = _backward(loss_key, game, fakes, disc, batch)
        grads, seen = _measured(grads, seen, game, batch, fakes.made)
        gen = states.apply_gradients(state.gen, gen_tx, grads, fakes.stats)
        return state.replace(gen=gen, disc=disc), {**metrics, **seen}

    def twice(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        # From the same key both draw the same fakes, augmented alike.
        disc = disc_step(game, disc_tx, accumulate=accumulate)
        state, metrics = disc(jax.random.clone(key), state, batch)
        state, seen = gen_step(game, gen_tx, accumulate=accumulate)(key, state, batch)
        return state, {**metrics, **seen}

    return step if accumulate == 1 else twice


def ema_step(decay: float | Callable[[Array], Array], *, warm_up: bool = False) -> StepFn:
    """Moves `state.gen_ema` towards the generator's variables, statistics included.

    Args:
      decay: weight of the old average, in [0, 1), or a schedule of it, `step [] -> decay []`; see
        `ema.decay_from_half_life` and `steps.schedules.half_life`.
      warm_up: lowers the decay early in training (`ema.warmed_up`).

    Returns:
      A step without metrics.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        del key, batch
        now = decay(state.step) if callable(decay) else decay
        if warm_up:
            now = ema.warmed_up(now, state.step)  # pyright: ignore[reportArgumentType]
        return state.replace(gen_ema=ema.update(state.gen_ema, state.gen.variables, now)), {}

    return step


class Gradients(NamedTuple):
    """Both players' gradients at one point, averaged over devices.

    Attributes:
      gen: pytree like G's parameters.
      disc: pytree like D's.
      gen_stats: G's new statistics.
      disc_stats: D's.
      metrics: those of `disc_step` and `gen_step`.
    """

    gen: PyTree
    disc: PyTree
    gen_stats: PyTree
    disc_stats: PyTree
    metrics: Metrics


def gradients(
    key: Key, game: Game, gen: Player, disc: Player, batch: Batch, *, accumulate: int = 1
) -> Gradients:
    """Differentiates both players' losses where they are, from one forward pass of the generator.

    Args:
      key: the same on every device; consumed.
      game: what is played.
      gen: the generator.
      disc: the discriminator.
      batch: the real entries.
      accumulate: micro-batches that they are the means over.

    Returns:
      The gradients; nobody has moved.
    """

    def find(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        gen_key, loss_key = jax.random.split(key)
        fakes = _forward(gen_key, game, gen, batch)
        # A clone: G is to see the fakes that D saw, augmented alike.
        disc_key = jax.random.clone(loss_key)
        of_disc = _disc_gradients(disc_key, game, disc, batch, fakes.made)
        grads, metrics = _backward(loss_key, game, fakes, disc, batch)
        return (of_disc, grads, fakes.stats, metrics), _examples(game, fakes.made)

    (of_disc, gen_grads, gen_stats, seen), made = accumulated(find, accumulate)(key, batch)
    disc_grads, (disc_stats, metrics) = of_disc
    disc_grads, metrics = collectives.mean((disc_grads, metrics), game.axis_name)
    gen_grads, seen = _measured(gen_grads, seen, game, batch, made)
    return Gradients(gen_grads, disc_grads, gen_stats, disc_stats, {**metrics, **seen})


def update_disc(
    key: Key,
    game: Game,
    player: Player,
    tx: optax.GradientTransformation,
    batch: Batch,
    made: Batch,
) -> tuple[Player, Metrics]:
    """Updates the discriminator once, on given fakes.

    Args:
      key: the same on every device; consumed.
      game: what is played.
      player: the discriminator.
      tx: its Optax transformation.
      batch: the real entries.
      made: the entries that the generator made.

    Returns:
      The discriminator, and the metrics of `disc_step`.
    """
    return states.update(
        player,
        tx,
        lambda params: game.disc_loss(key, params, player, batch, made),
        axis_name=game.axis_name,
    )


def update_gen(
    loss_fn: states.LossFn,
    player: Player,
    tx: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
) -> tuple[Player, Metrics]:
    """Updates the generator once, and measures its gradient.

    Args:
      loss_fn: `params -> (loss [], (stats, metrics))`.
      player: the generator.
      tx: its Optax transformation.
      axis_name: the mapped axis, if any.

    Returns:
      The generator, and the loss function's metrics with "gen/gradient".
    """
    grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(player.params)
    grads, metrics = collectives.mean((grads, metrics), axis_name)
    metrics = {**metrics, "gen/gradient": optax.tree.norm(grads)}
    return states.apply_gradients(player, tx, grads, stats), metrics


class _Fakes(NamedTuple):
    """What G made in one forward pass, and the way back to its parameters."""

    made: Batch
    stats: PyTree
    pull_back: Callable[[Batch], tuple[PyTree]]
    fixed: Batch  # those entries of `made` that have no gradient: whole numbers


def _forward(key: Key, game: Game, gen: Player, batch: Batch) -> _Fakes:
    """One forward pass of the generator, which both players' losses share."""

    def make(params: PyTree) -> tuple[Batch, tuple[Batch, PyTree]]:
        made, stats = game.gen(key, {"params": params, **gen.stats}, batch)
        moving = {name: x for name, x in made.items() if _is_differentiable(x)}
        return moving, ({name: x for name, x in made.items() if name not in moving}, stats)

    moving, pull_back, (fixed, stats) = jax.vjp(make, gen.params, has_aux=True)
    return _Fakes({**moving, **fixed}, stats, pull_back, fixed)


def _backward(
    key: Key, game: Game, fakes: _Fakes, disc: Player, batch: Batch
) -> tuple[PyTree, Metrics]:
    """The gradient of the generator's parameters against a discriminator, and its loss."""
    moving = {name: x for name, x in fakes.made.items() if name not in fakes.fixed}
    made_grads, metrics = jax.grad(
        lambda moving: game.gen_loss(key, disc, batch, {**moving, **fakes.fixed}), has_aux=True
    )(moving)
    (grads,) = fakes.pull_back(made_grads)
    return grads, metrics


def _disc_gradients(
    key: Key, game: Game, player: Player, batch: Batch, made: Batch
) -> tuple[PyTree, tuple[PyTree, Metrics]]:
    """The gradient of the discriminator's parameters, its statistics and metrics."""
    return jax.grad(lambda params: game.disc_loss(key, params, player, batch, made), has_aux=True)(
        player.params
    )


def _measured(
    grads: PyTree, metrics: Metrics, game: Game, batch: Batch, made: Batch
) -> tuple[PyTree, Metrics]:
    """The generator's gradient and metrics over all devices, with those of both as a whole."""
    metrics = {**metrics, **game.spread(batch, made)}
    grads, metrics = collectives.mean((grads, metrics), game.axis_name)
    return grads, {**metrics, "gen/gradient": optax.tree.norm(grads)}


def _examples(game: Game, made: Batch) -> Batch:
    """Of what G made, the entry whose diversity is measured."""
    return {name: x for name, x in made.items() if name == game.example}


def _is_differentiable(x: PyTree) -> bool:
    return all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(x))
