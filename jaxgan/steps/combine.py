"""Ways to combine steps; all take and return `(key, state, batch) -> (state, metrics)`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgan import collectives
from jaxgan.state import GANState, Player, StepFn
from jaxgan.types import Array, Batch, Key, Metrics, PyTree, UserError

# Of a state of several GANs: `step` is one for all, so that it stays a number to the loop.
_AXES: Any = GANState(step=None, gen=0, disc=0, gen_ema=0, extra=0)  # pyright: ignore


def chain(*steps: StepFn) -> StepFn:
    """Runs steps one after the other, each with a key of its own.

    Args:
      *steps: at least one step.

    Returns:
      A step that returns the last state and everybody's metrics; a later metric replaces an
      earlier one of the same name.
    """

    def chained(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        metrics: Metrics = {}
        for step, step_key in zip(steps, jax.random.split(key, len(steps)), strict=True):
            state, new = step(step_key, state, batch)
            metrics = {**metrics, **new}
        return state, metrics

    return chained


def repeat(step: StepFn, n: int) -> StepFn:
    """Runs a step n times on the same batch, each time with another key.

    A schedule inside the step's transformation (`optax.adam(schedule)`) counts updates, and so
    advances n times a training step. A rate that follows `state.step` advances once:

        steps.repeat(steps.scheduled(lambda t: steps.disc_step(game, optax.adam(rate(t)))), n)

    where the player starts from `optax.adam(rate(0))`: its state is the same for every number.

    Args:
      step: the step.
      n: how often, at least 1.

    Returns:
      A step that returns the last repetition's metrics.
    """
    return chain(*[step] * n)


def when(due: Array, run: Callable[[], PyTree], otherwise: Callable[[], PyTree]) -> PyTree:
    """Computes one of two things; on CPU both, of which one is taken.

    XLA's CPU programs run convolutions in a branch on one core and without their fast forms: a
    discriminator's penalty takes sixteen times as long there as it takes outside.

    Args:
      due: [] bool.
      run: what to compute where due; networks, say.
      otherwise: what else, of the same shapes and dtypes; cheap.

    Returns:
      What was computed.
    """

    def both() -> PyTree:
        return jax.tree.map(lambda a, b: jnp.where(due, a, b), run(), otherwise())

    def one() -> PyTree:
        return jax.lax.cond(due, run, otherwise)

    return jax.lax.platform_dependent(cpu=both, default=one)


def every(n: int, step: StepFn, *, branch: bool = True) -> StepFn:
    """Runs a step when `state.step` is a multiple of n, and leaves the state alone otherwise.

    Args:
      n: the period, in steps.
      step: the step.
      branch: False computes it at each step on CPU (see `when`), which is faster for small n where
        it convolves.

    Returns:
      A step; where the inner one did not run, its metrics are NaN ("not measured", which logs leave
      out).
    """

    def skip(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        _, metrics = jax.eval_shape(step, key, state, batch)
        return state, jax.tree.map(lambda m: jnp.full(m.shape, jnp.nan, m.dtype), metrics)

    def periodic(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        due = state.step % n == 0
        if branch:
            return jax.lax.cond(due, step, skip, key, state, batch)
        return when(due, lambda: step(key, state, batch), lambda: skip(key, state, batch))

    return periodic


def multi_step(step: StepFn, n: int) -> StepFn:
    """Runs n training steps, each on a batch of its own, in one `lax.scan`: one launch, no host.

    Args:
      step: a step made by `train_step` (the key of each follows from `state.step`).
      n: how many.

    Returns:
      A step whose batch holds n batches side by side, leaves [B, n, ...], so that its first axis is
      split over devices as ever; the entry "data", a dataset that stays on the device, is passed on
      as it is. Metrics are the last step's; "player/finite" are true if they were at every step.
    """

    def launch(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        resident = {name: value for name, value in batch.items() if name == "data"}
        rows = {name: jnp.moveaxis(x, 1, 0) for name, x in batch.items() if name != "data"}

        def body(state: GANState, row: Batch) -> tuple[GANState, Metrics]:
            return step(key, state, {**row, **resident})

        state, metrics = jax.lax.scan(body, state, rows, length=n)
        return state, _summary(metrics, lambda values: values[-1])

    return launch


def microbatches(step: StepFn, n: int) -> StepFn:
    """Runs a step n times, each time on the next of n equal shares of the batch.

    With a discriminator's step these are the n critic steps of WGAN, each on examples of its own
    (`repeat` shows it the same ones again). With a step whose transformation is
    `optax.MultiSteps(tx, n).gradient_transformation()` this is gradient accumulation: the player
    moves once, along the mean gradient of the shares, which is that of the whole batch where the
    loss is a mean over examples (not `relativistic_average`) and no layer mixes them (batch norm).
    Accumulate over `disc_step` and `gen_step` apart, or over `simultaneous_step`; or leave it to
    their own `accumulate=`, which needs no other transformation and draws what the batch would.

    A schedule inside the transformation advances n times a training step (once, inside
    `optax.MultiSteps`); a rate that follows `state.step` once, see `repeat`.

    Args:
      step: the step.
      n: how many shares; divides the batch.

    Returns:
      A step whose metrics are the means over the shares, "player/finite" true if they were in each.
      "data" is not split, as in `multi_step`.

    Raises:
      UserError: n is not 1 or more; and, as the step is traced, the batch does not divide.
    """
    if n < 1:
        raise UserError(f"a batch cannot be split into {n} shares; use 1 or more")

    def split(x: Array) -> Array:
        if x.shape[0] % n:
            raise UserError(
                f"a batch of {x.shape[0]} (on each device) does not divide into {n} shares; "
                f"use a multiple of {n}"
            )
        return x.reshape(n, x.shape[0] // n, *x.shape[1:])

    def shared(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        resident = {name: value for name, value in batch.items() if name == "data"}
        rows = {name: split(x) for name, x in batch.items() if name != "data"}

        def body(state: GANState, each: tuple[Key, Batch]) -> tuple[GANState, Metrics]:
            return step(each[0], state, {**each[1], **resident})

        # Convolutions in a loop are slow on CPU.
        def run(unroll: int) -> tuple[GANState, Metrics]:
            return jax.lax.scan(body, state, (jax.random.split(key, n), rows), unroll=unroll)

        state, metrics = jax.lax.platform_dependent(cpu=lambda: run(n), default=lambda: run(1))
        return state, _summary(metrics, lambda values: values.mean(0))

    return shared


def scheduled(make: Callable[[Array], StepFn]) -> StepFn:
    """Makes a step of the number of steps taken, inside the compiled program.

    So any number of a game or a transformation may follow a schedule:

        def at(t):
            penalty = penalties.weighted(penalties.r1_r2, gamma(t))
            return steps.disc_step(dataclasses.replace(game, penalty=penalty), optax.adam(rate(t)))

        step = steps.scheduled(at)

    Args:
      make: `state.step [] -> step`; a builder, cheap to call.

    Returns:
      A step.
    """

    def built(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return make(state.step)(key, state, batch)

    return built


def ensemble(step: StepFn, *, per_seed: bool = False, unroll: bool = False) -> StepFn:
    """Trains several GANs at once, each with its own key, in one program.

    Args:
      step: a step for one GAN, made by `train_step` or `multi_step`; its guards go inside
        (`skip_nonfinite`, `after_rollback`).
      per_seed: whether each sees a batch of its own; otherwise all see the same.
      unroll: runs the members one after the other where `jax.vmap` runs them side by side: the same
        results. Convolutions under vmap become grouped ones, which are slow on CPU.

    Returns:
      A step for S of them: keys [S], and a state whose leaves begin with S but for `step`, which
      they share. With `per_seed` the entries of the batch are [B, S, ...] (of `multi_step`
      [B, S, n, ...]), but "data", which all share. Metrics are [S]; "player/finite" [], true if
      they are for all.
    """
    mapped = _one_by_one(step) if unroll else _side_by_side(step)

    def together(keys: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        axes = {name: 1 if per_seed and name != "data" else None for name in batch}
        state, metrics = mapped(keys, state, batch, axes)
        return state, _summary(metrics, lambda values: values)

    return together


def init_ensemble(keys: Key, init: Callable[[Key], GANState]) -> GANState:
    """Starts several GANs for `ensemble`.

    Args:
      keys: [S] PRNG keys.
      init: key -> fresh state of one.

    Returns:
      The state of all, which share `step`.
    """
    return jax.vmap(init, out_axes=_AXES)(keys)


def map_batch(prepare: Callable[[Batch], Batch], step: StepFn) -> StepFn:
    """Transforms the batch before a step sees it, inside the compiled program.

    Args:
      prepare: pure function of the batch (bytes to floats, gathering by index, cropping).
      step: the step.

    Returns:
      A step.
    """

    def prepared(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return step(key, state, prepare(batch))

    return prepared


def mirrored(step: StepFn, *, example: str = "image", axis_name: str | None = None) -> StepFn:
    """Flips each image of the batch left-right with probability 1/2, anew at every step.

    Doubles a dataset in which left and right mean the same. Entries other than the example stay as
    they are.

    Args:
      step: the step.
      example: the entry of images [B, H, W, C].
      axis_name: the mapped axis, if any: each device then flips its share of the global draw.

    Returns:
      A step.
    """

    def flipped(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        flip_key, step_key = jax.random.split(key)
        flip_key = jax.random.fold_in(flip_key, state.step)  # outside `train_step` keys stay
        x = batch[example]
        chosen = collectives.share(
            lambda key, num: jax.random.bernoulli(key, shape=(num, 1, 1, 1)),
            flip_key,
            x.shape[0],
            axis_name,
        )
        return step(step_key, state, {**batch, example: jnp.where(chosen, x[:, :, ::-1], x)})

    return flipped


def train_step(*steps: StepFn) -> StepFn:
    """Makes a whole training step: folds the step counter into the key, chains, checks, counts.

    The key passed in is the run's and never changes: randomness is a function of (key, step), so
    that nothing random needs saving. The metrics "gen/finite" and "disc/finite" say whether the
    player's parameters, statistics, optimiser and loss are free of NaN and infinity after the step.

    Args:
      *steps: the steps that make one training step, in order.

    Returns:
      A step that increases `state.step` by one.
    """
    chained = chain(*steps)

    def whole(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        state, metrics = chained(jax.random.fold_in(key, state.step), state, batch)
        finite = {
            f"{name}/finite": _finite(player, metrics.get(f"{name}/loss", jnp.zeros(())))
            for name, player in (("gen", state.gen), ("disc", state.disc))
        }
        return state.replace(step=state.step + 1), {**metrics, **finite}

    return whole


def _side_by_side(step: StepFn) -> Callable[..., tuple[GANState, Metrics]]:
    """Members along an axis of every array."""

    def mapped(keys: Key, state: GANState, batch: Batch, axes: Any) -> tuple[GANState, Metrics]:
        along = jax.vmap(step, in_axes=(0, _AXES, axes), out_axes=(_AXES, 0))
        return along(keys, state, dict(batch))

    return mapped


def _one_by_one(step: StepFn) -> Callable[..., tuple[GANState, Metrics]]:
    """Members in a Python loop; their arrays are taken apart and stacked again."""

    def mapped(keys: Key, state: GANState, batch: Batch, axes: Any) -> tuple[GANState, Metrics]:
        alone, seen = [], []
        for number in range(keys.shape[0]):
            member = jax.tree.map(lambda x, n=number: x[n], state.replace(step=None))
            rows = {
                name: x if axes[name] is None else jax.tree.map(lambda x, n=number: x[:, n], x)
                for name, x in batch.items()
            }
            after, metrics = step(keys[number], member.replace(step=state.step), rows)
            alone.append(after)
            seen.append(metrics)
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(one.replace(step=None) for one in alone))
        metrics = jax.tree.map(lambda *x: jnp.stack(x), *seen)
        return stacked.replace(step=alone[0].step), metrics

    return mapped


def _summary(metrics: Metrics, merge: Callable[[Array], Array]) -> Metrics:
    """Metrics of several steps as those of one; one that is not finite is never averaged away."""
    return {
        name: values.all() if name.endswith("/finite") else merge(values)
        for name, values in metrics.items()
    }


def _finite(player: Player, loss: Array) -> Array:
    """[] bool: no NaN and no infinity in a player and its loss.

    Its optimiser counts too: a second moment that overflowed freezes a parameter that is finite.
    """
    leaves = jax.tree.leaves((player.params, player.stats, loss))
    sound = [jnp.isfinite(leaf).all() for leaf in leaves]
    for leaf in jax.tree.leaves(player.opt_state):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):  # no counts, no keys
            # Infinity in a number by itself is where a best value so far starts from.
            sound.append(jnp.isfinite(leaf).all() if leaf.ndim else ~jnp.isnan(leaf))
    return jnp.stack(sound).all()
