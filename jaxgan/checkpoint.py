"""Checkpoints: the whole state, written by Orbax in the background, taken up again exactly.

A step is saved as two items: "gen_ema", all that sampling needs, and "state", the rest. Orbax
writes to a temporary folder and renames it, so that a process killed at any moment leaves finished
steps only; what it left unfinished is removed when the next manager opens the folder.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgan import processes
from jaxgan.state import GANState
from jaxgan.types import PyTree, UserError

ITEMS = ("state", "gen_ema")


def manager(
    directory: str | os.PathLike,
    *,
    max_to_keep: int = 3,
    best: Callable[[Sequence[int]], int | None] | None = None,
) -> ocp.CheckpointManager:
    """Opens a folder of checkpoints, making it where there is none.

    Args:
      directory: the folder.
      max_to_keep: how many of the newest steps stay.
      best: names the one among these steps that stays beside the newest, or None; asked at each
        save, also about the step being saved.

    Returns:
      Orbax's manager: close it, or use it as a context manager, so that the last save finishes.
    """
    directory = pathlib.Path(directory).resolve()
    processes.from_main(lambda: _move_strangers(directory))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_NewestAndBest(max_to_keep, best or (lambda steps: None)),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(directory, options=options)


class _NewestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Orbax asks it which steps stay; the others go once the step being saved is whole."""

    def __init__(self, max_to_keep: int, best: Callable[[Sequence[int]], int | None]):
        self._max_to_keep, self._best = max_to_keep, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self._max_to_keep :], self._best(steps)}
        return [step in kept for step in steps]


def save(manager: ocp.CheckpointManager, state: GANState) -> None:
    """Starts to save a state under its step; waits only for the save before it.

    The state may be donated as soon as this returns. A step that is saved already is left alone.

    Args:
      manager: from `manager`.
      state: the state; its `step` names the checkpoint.
    """
    step = int(state.step)
    manager.wait_until_finished()
    if processes.from_main(lambda: step in finished_steps(manager)):
        return
    args = {name: ocp.args.PyTreeSave(item) for name, item in _items(state).items()}
    manager.save(step, args=ocp.args.Composite(**args), force=True)


def finished_steps(manager: ocp.CheckpointManager) -> list[int]:
    """Lists the steps that were saved to the end, oldest first.

    Args:
      manager: from `manager`.

    Returns:
      Steps. A folder that merely looks like one (empty, half deleted) does not count.
    """
    return _finished_steps(pathlib.Path(manager.directory))


def restore(manager: ocp.CheckpointManager, state: GANState) -> GANState:
    """Restores the newest finished step.

    Args:
      manager: from `manager`.
      state: a fresh state: its structure, shapes, dtypes and shardings are the ones wanted. It may
        have been saved on any other number of devices.

    Returns:
      The state as it was saved, on the devices of the one passed in.

    Raises:
      FileNotFoundError: there is no finished step.
      UserError: what was saved has another structure, shape or dtype; the message names leaves.
    """
    folder = pathlib.Path(
        processes.from_main(lambda: str(_newest(pathlib.Path(manager.directory))))
    )
    wanted = _items(state)
    with _reader() as reader:
        stored = reader.metadata(folder).item_metadata
        for name, item in wanted.items():
            _check_same(_leaves(stored[name].tree), _leaves(item), folder)
        targets = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        args = {
            name: ocp.args.PyTreeRestore(
                item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target)
            )
            for name, target in targets.items()
        }
        restored = reader.restore(folder, args=ocp.args.Composite(**args))
    return GANState(**restored["state"], gen_ema=restored["gen_ema"])


def sampled_steps(directory: str | os.PathLike) -> list[int]:
    """Lists the steps whose generator can be restored, oldest first.

    Args:
      directory: the folder of checkpoints.

    Returns:
      Steps; of some, the rest of the state may be gone.
    """
    return _finished_steps(pathlib.Path(directory), items=("gen_ema",))


def restore_generator(
    directory: str | os.PathLike, *, step: int | None = None
) -> tuple[int, PyTree]:
    """Restores the moving average of the generator alone, for sampling; reads nothing else.

    Args:
      directory: the folder of checkpoints.
      step: one of `sampled_steps`; None for the newest.

    Returns:
      (step, variables of the generator as NumPy arrays).

    Raises:
      FileNotFoundError: there is no finished step.
    """
    folder = pathlib.Path(directory).resolve()
    folder = _newest(folder, items=("gen_ema",)) if step is None else folder / str(step)
    # The item by itself: through the whole step's reader, Orbax opens every array of "state" too.
    item: Any = folder / "gen_ema"  # Orbax asks for a path class of its own, and takes any
    reader = ocp.PyTreeCheckpointHandler()
    stored = reader.metadata(item).tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
    variables = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    reader.close()
    return int(folder.name), variables


def _items(state: GANState) -> dict[str, PyTree]:
    """What a checkpoint holds, by item."""
    rest = {name: getattr(state, name) for name in ("step", "gen", "disc", "extra")}
    return {"state": rest, "gen_ema": state.gen_ema}


def _reader() -> ocp.Checkpointer:
    handlers = ocp.CompositeCheckpointHandler(
        state=ocp.PyTreeCheckpointHandler(), gen_ema=ocp.PyTreeCheckpointHandler()
    )
    return ocp.Checkpointer(handlers)


def _move_strangers(directory: pathlib.Path) -> None:
    """Renames what only looks like a step: Orbax would count it, and refuse to save over it."""
    finished = _finished_steps(directory)
    for folder in directory.iterdir() if directory.is_dir() else ():
        if folder.name.isdecimal() and int(folder.name) not in finished:
            folder.rename(folder.with_name(f"{folder.name}.unfinished.{os.getpid()}"))


def _finished_steps(directory: pathlib.Path, items: Sequence[str] = ITEMS) -> list[int]:
    """Orbax counts any folder named by a number; only a committed one with its items is whole."""
    if not directory.is_dir():
        return []
    return sorted(
        int(folder.name)
        for folder in directory.iterdir()
        if folder.name.isdecimal()
        and (folder / "_CHECKPOINT_METADATA").is_file()
        and all((folder / item / "_METADATA").is_file() for item in items)
    )


def _newest(directory: pathlib.Path, items: Sequence[str] = ITEMS) -> pathlib.Path:
    """The folder of the newest finished step."""
    steps = _finished_steps(directory, items)
    if not steps:
        raise FileNotFoundError(f"no checkpoint in {directory}")
    return directory / str(steps[-1])


def _leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by their dotted path, the same for a tuple of ours and the list Orbax stored it as."""

    def part(key: Any) -> str:
        return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))

    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(map(part, path)): leaf for path, leaf in flat}


def _check_same(stored: dict[str, Any], wanted: dict[str, Any], folder: pathlib.Path) -> None:
    """Refuses to restore into something else: Orbax would cast and pad without a word."""

    def form(leaves: dict[str, Any], name: str) -> str:
        leaf = leaves.get(name)
        return "nothing" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"

    names = sorted({*stored, *wanted})
    different = [name for name in names if form(stored, name) != form(wanted, name)]
    if not different:
        return
    shown = "; ".join(
        f"{name} is {form(stored, name)} there, {form(wanted, name)} here" for name in different[:5]
    )
    more = f" and {len(different) - 5} more" if len(different) > 5 else ""
    raise UserError(f"{folder} was saved by another model: {shown}{more}; use another workdir")
