"""The training loop."""

from collections.abc import Callable, Iterable, Sequence

from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, Metrics, UserError

Hook = Callable[[int, GANState, Metrics], None]


def fit(
    step: StepFn | Sequence[StepFn],
    state: GANState,
    batches: Iterable[Batch],
    *,
    key: Key,
    num_steps: int,
    hooks: Sequence[Hook] = (),
    steps_per_call: int = 1,
) -> GANState:
    """Trains until `state.step` is `num_steps`.

    Args:
      step: a compiled training step that counts `state.step`, as `steps.train_step` does; or
        several that take turns, the first where their number divides `state.step`, each of one
        step a call.
      state: where to start from; donated.
      batches: one batch a step, beginning with that of `state.step`. Where it knows its position
        (`pipeline.Batches.step`), that is checked.
      key: the run's key, the same at every start of the same run.
      num_steps: the step to stop at, counted from the start of the run.
      hooks: called after each call of `step`, in order, with the number of steps taken.
      steps_per_call: how many steps one call takes (`steps.multi_step`); divides what is left to
        do.

    Returns:
      The state at `num_steps`.

    Raises:
      UserError: the batches are those of another step than the state's.
    """
    position, start = getattr(batches, "step", None), int(state.step)
    if position is not None and position != start:
        raise UserError(
            f"the state is at step {start} but the batches at step {position}: the order of the"
            f" examples would change; make them with pipeline.batches(..., start={start})"
        )
    turns = step if isinstance(step, Sequence) else (step,)
    numbers = range(start + steps_per_call, num_steps + 1, steps_per_call)
    for number, batch in zip(numbers, batches, strict=False):
        state, metrics = turns[(number - 1) % len(turns)](key, state, batch)
        for hook in hooks:
            hook(number, state, metrics)
    return state
