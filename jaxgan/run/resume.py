"""The state that a run starts or resumes from: its own checkpoint, or that of another run."""

import pathlib
from typing import Any

import numpy as np

from jaxgan import parallel, steps
from jaxgan.run import checkpoint, hooks
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState
from jaxgan.types import UserError


def restore(manager: Any, fresh: GANState, number: int, mesh: parallel.Mesh) -> GANState:
    """Restores a checkpoint, also of a run that began with or without the counts of the guard.

    Args:
      manager: of the checkpoints.
      fresh: a fresh state of the run.
      number: the step to restore.
      mesh: the devices.

    Returns:
      The state, with those counts if `fresh` has them.

    Raises:
      UserError: what was saved does not fit.
    """
    try:
        return checkpoint.restore(manager, fresh, step=number)
    except UserError:
        extra = dict(fresh.extra)
        counts = extra.pop(steps.GUARD, None)
        if not counts:
            extra = parallel.replicate(steps.init_guard(fresh).extra, mesh)
        other = fresh.replace(extra=extra)
        try:
            state = checkpoint.restore(manager, other, step=number)
        except UserError:
            state = None
        if state is None:
            raise
        extra = {name: value for name, value in state.extra.items() if name != steps.GUARD}
        return state.replace(extra={**extra, steps.GUARD: counts} if counts else extra)


def forked(config: RunConfig, state: GANState) -> GANState:
    """Restores another run's checkpoint, to start from; that run stays as it is.

    Args:
      config: names the run and the checkpoint.
      state: a fresh state of the new run.

    Returns:
      The other run's state.

    Raises:
      UserError: there is no such checkpoint, or its arrays do not fit the new run's settings.
    """
    which = config.fork_checkpoint
    if which != "newest" and not which.isdecimal():
        raise UserError(f"--fork_checkpoint={which} is not newest, and not a step")
    folder = pathlib.Path(config.fork_from).expanduser() / "checkpoints"
    return checkpoint.restore_from(folder, state, step=None if which == "newest" else int(which))


def rollbacks(state: GANState) -> int:
    """Counts how often a run was rolled back before a state.

    Args:
      state: of the run; of several seeds, all were.

    Returns:
      The number.
    """
    return int(np.max(state.extra.get(steps.GUARD, {}).get("rollbacks", 0)))


def check_trained(state: GANState) -> None:
    """Refuses to call a run finished of which no step was kept.

    Args:
      state: at its end.

    Raises:
      Diverged: every step of it, or of one of its seeds, was dropped (`--on_nonfinite=skip`).
    """
    dropped = int(np.max(state.extra.get(steps.GUARD, {}).get("in_a_row", 0)))
    if dropped and dropped >= int(state.step):
        raise hooks.Diverged(
            f"each of the {dropped} steps left NaN or infinity in a player and was dropped "
            "(--on_nonfinite=skip): nothing was trained. Lower the learning rates, or add a "
            "penalty, and use another workdir"
        )
