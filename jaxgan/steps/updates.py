"""Ways for the players to move that look ahead of the plain gradient step.

The others compose from what is there: n critic steps are `repeat` or `microbatches`, gradient
accumulation is `accumulate=` of each step (of one's own `microbatches` with `optax.MultiSteps`),
optimistic gradients are transformations of Optax (`optax.optimistic_adam_v2`,
`optax.optimistic_gradient_descent`), two time scales two rates.
"""

import functools
from typing import Any

import jax
import optax

from jaxgan import state as states
from jaxgan.state import GANState, Player, StepFn
from jaxgan.steps import adversarial
from jaxgan.steps.game import Game
from jaxgan.types import Array, Batch, Key, Metrics, PyTree

# What a schedule inside a transformation keeps count in.
_INJECTED: Any = (optax.InjectHyperparamsState, optax.InjectStatefulHyperparamsState)
_SCHEDULED: Any = (optax.ScaleByScheduleState, *_INJECTED)


def extragradient_step(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
) -> StepFn:
    """Moves both players along the gradients found one step ahead, from where they are now.

    See "A Variational Inequality Perspective on Generative Adversarial Networks" by Gidel et al.
    (https://arxiv.org/abs/1802.10551), algorithms 2 (SGD) and 4 (ExtraAdam: the moments see both
    gradients), with w both players' parameters and F their gradients:

      w' = w_t - eta F(w_t);    w_{t+1} = w_t - eta F(w')

    The transformations update w_t itself, so that what they promise of the parameters holds
    (`regularizers.clip_weights`, weight decay). A schedule inside them advances once a training
    step, and both halves move at the same rate; moments, and the count of Adam's bias correction,
    see two gradients.

    Args:
      game: what is played.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.
      accumulate: micro-batches whose gradients make those of each half; see `accumulate`.

    Returns:
      A step at twice the cost of `simultaneous_step`, the two halves on fakes of their own.
      Statistics and metrics are those of the second half.
    """
    found = functools.partial(adversarial.gradients, accumulate=accumulate)

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        first_key, second_key = jax.random.split(key)
        first = found(first_key, game, state.gen, state.disc, batch)
        gen = states.apply_gradients(state.gen, gen_tx, first.gen, first.gen_stats)
        disc = states.apply_gradients(state.disc, disc_tx, first.disc, first.disc_stats)
        second = found(second_key, game, gen, disc, batch)
        gen = _moved(state.gen, gen, gen_tx, second.gen, second.gen_stats)
        disc = _moved(state.disc, disc, disc_tx, second.disc, second.disc_stats)
        return state.replace(gen=gen, disc=disc), second.metrics

    return step


def unrolled_gen_step(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    unroll: int,
) -> StepFn:
    """Updates the generator against the discriminator as it will be k updates from now.

    See "Unrolled Generative Adversarial Networks" by Metz et al.
    (https://arxiv.org/abs/1611.02163), equations 7 to 10. The gradient flows through the k updates,
    all on this batch and these fakes; the discriminator itself stays where it is. Updates on
    micro-batches would lead elsewhere: gradients are not accumulated here.

    Args:
      game: what is played; penalty and terms of D count in the updates looked ahead.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's, with its state as it is now. It is differentiated: Adam needs
        `eps_root` above 0, or a parameter that never had a gradient makes the generator's NaN.
      unroll: k, the updates looked ahead; 0 for `gen_step`.

    Returns:
      A step with the metrics of `gen_step`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        gen_key, loss_key, *ahead_keys = jax.random.split(key, unroll + 2)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            made, stats = game.gen(gen_key, {"params": params, **state.gen.stats}, batch)
            opponent = state.disc
            for ahead_key in ahead_keys:
                opponent, _ = adversarial.update_disc(
                    ahead_key, game, opponent, disc_tx, batch, made
                )
            loss, metrics = game.gen_loss(loss_key, opponent, batch, made)
            return loss, (stats, {**metrics, **game.spread(batch, made)})

        player, metrics = adversarial.update_gen(
            loss_fn, state.gen, gen_tx, axis_name=game.axis_name
        )
        return state.replace(gen=player), metrics

    return step


def _moved(
    start: Player, ahead: Player, tx: optax.GradientTransformation, grads: PyTree, stats: PyTree
) -> Player:
    """The player moved from where it was, by the gradients found ahead."""
    opt_state = _with_schedules_of(start.opt_state, ahead.opt_state)
    return states.apply_gradients(start.replace(opt_state=opt_state), tx, grads, stats)


def _with_schedules_of(before: PyTree, after: PyTree) -> PyTree:
    """The later state of a transformation, its schedules where they were."""

    def rewound(old: PyTree, new: PyTree) -> PyTree:
        if not isinstance(new, _SCHEDULED):
            return new
        if isinstance(new, _INJECTED):
            return old._replace(inner_state=_with_schedules_of(old.inner_state, new.inner_state))
        return old

    return jax.tree.map(rewound, before, after, is_leaf=lambda x: isinstance(x, _SCHEDULED))
