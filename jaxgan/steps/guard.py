"""What a training step does where a player is no longer finite, on the device, without the host.

"gen/finite" and "disc/finite" of `train_step` say that it happened; `hooks.Guard` stops the run.
Here are the two ways to go on: drop the step, or begin again from a good state with other random
numbers. Both keep count in the state, so that a resumed run is still the same run.
"""

import jax
import jax.numpy as jnp

from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, Metrics

GUARD = "guard"  # the entry of `state.extra` with the counts


def skip_nonfinite(step: StepFn, *, limit: int = 100) -> StepFn:
    """Takes a training step back where it left a player that is not finite, without the host.

    The step counts, so that the next one sees other data and latents; what it did to the players
    and to everything else is dropped. How often stands in `state.extra[GUARD]`.

    Args:
      step: made by `train_step` (one step, before `multi_step` and `ensemble`).
      limit: this many steps dropped in a row end the patience: from then on the metrics say that
        players are not finite, for `hooks.Guard` to stop the run, its state still good.

    Returns:
      A step with the metric "guard/skipped", the steps dropped so far. Of one dropped, the other
      metrics are NaN, which logs leave out.
    """

    def guarded(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        after, metrics = step(key, state, batch)
        fine = metrics["gen/finite"] & metrics["disc/finite"]
        counts = state.extra[GUARD]
        kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, state)
        row = jnp.where(fine, 0, counts["in_a_row"] + 1)
        skipped = counts["skipped"] + jnp.where(fine, 0, 1)
        kept = kept.replace(
            step=after.step,
            extra={**kept.extra, GUARD: {**counts, "skipped": skipped, "in_a_row": row}},
        )
        patient = row < limit
        shown = {
            name: value | patient if name.endswith("/finite") else jnp.where(fine, value, jnp.nan)
            for name, value in metrics.items()
        }
        return kept, {**shown, "guard/skipped": skipped.astype(jnp.float32)}

    return guarded


def after_rollback(step: StepFn) -> StepFn:
    """Gives a step another stream of random numbers after each time the run was rolled back.

    The number of times is part of the state (`state.extra[GUARD]`), so that a checkpoint of a run
    that was rolled back continues with the stream it had. Before the first, the stream is the plain
    one.

    Args:
      step: made by `train_step`.

    Returns:
      A step.
    """

    def streamed(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        times = state.extra[GUARD]["rollbacks"]
        other = jax.random.fold_in(key, times)
        key = jax.random.wrap_key_data(
            jnp.where(times == 0, jax.random.key_data(key), jax.random.key_data(other)),
            impl=jax.random.key_impl(key),
        )
        state, metrics = step(key, state, batch)
        return state, {**metrics, "guard/rollbacks": times.astype(jnp.float32)}

    return streamed


def init_guard(state: GANState) -> GANState:
    """Gives a fresh state the counts that `skip_nonfinite` and `after_rollback` keep.

    Args:
      state: the state of one GAN.

    Returns:
      The state, `extra[GUARD]` zero.
    """
    counts = {name: jnp.zeros((), jnp.int32) for name in ("skipped", "in_a_row", "rollbacks")}
    return state.replace(extra={**state.extra, GUARD: counts})
