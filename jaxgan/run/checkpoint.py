"""Checkpoints: the whole state, saved in the background and restored exactly.

A step is saved as two items: "gen_ema", which is all that sampling needs, and "state", the rest.
`saver` writes them such that a process killed at any moment leaves complete steps only. A step is
restored only if its files match its `manifest`; otherwise it is reported and renamed, never
deleted.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgan.parallel import processes
from jaxgan.run import complaints, disk, manifest, origin, saver, stored
from jaxgan.run.manifest import Damaged
from jaxgan.run.saver import Manager
from jaxgan.state import GANState
from jaxgan.types import PyTree, UserError

MAX_TO_KEEP = 3  # of the newest steps
READ_ERRORS = (OSError, ValueError, LookupError, TypeError)
SHOWN = 5  # leaves, or checkpoints, named in a message


def manager(
    directory: str | os.PathLike,
    *,
    max_to_keep: int = MAX_TO_KEEP,
    best: Callable[[Sequence[int]], int | None] | None = None,
    every: int = 1,
    run_id: str = "",
) -> Manager:
    """Opens a folder of checkpoints, creating it if needed.

    Args:
      directory: the folder.
      max_to_keep: how many of the newest steps are kept.
      best: returns the one of these steps that is kept beside the newest, or None; called at each
        save with all steps and the one being saved.
      every: the newest multiple of it is kept, too, for `good_step` to find.
      run_id: of the run, recorded with each step; those of another run are refused. Empty where
        there is none.

    Returns:
      The manager: close it, or use it as a context manager, so that the last save finishes.

    Raises:
      UserError: the folder cannot be created, or its path is one that Orbax misreads.
    """

    def keep(steps: Sequence[int]) -> list[int]:
        chosen = best(steps) if best else None
        regular = [step for step in sorted(steps) if step % every == 0]
        newest = [*sorted(steps)[-max_to_keep:], *regular[-1:]]
        return [*newest, *([] if chosen is None else [chosen])]

    return Manager(pathlib.Path(directory), keep=keep, run_id=run_id)


def save(manager: Manager, state: GANState) -> None:
    """Starts to save a state in the background; waits only for the save before it.

    The state may be donated as soon as this returns. A saved step is left unchanged.

    Args:
      manager: from `manager`.
      state: the state; its `step` names the checkpoint.

    Raises:
      SaveFailed: there is no space for it, or it cannot be written. A failure in the background is
        reported by `manager.failure()`, `manager.wait_until_finished()` and `manager.close()`.
    """
    manager.start(int(state.step), _items(state))


def check_space(manager: Manager, state: GANState, *, more: int) -> None:
    """Checks that the disk has space for the checkpoints of a run.

    Args:
      manager: from `manager`.
      state: the state, or its shapes.
      more: the largest number of checkpoints that will exist in addition to the present ones.

    Raises:
      UserError: there is not enough space; the message says how much there is.
    """
    needed = more * saver.size(_items(state))
    free = processes.call_on_main(lambda: disk.free_bytes(manager.directory))
    if free < needed:
        raise UserError(
            f"no space in {manager.directory}: {more} checkpoints need {disk.megabytes(needed)}, "
            f"{disk.megabytes(free)} are free; free some, or use another workdir"
        )


def finished_steps(manager: Manager) -> list[int]:
    """Lists the steps whose save was completed, oldest first.

    Args:
      manager: from `manager`.

    Returns:
      Steps, without incomplete ones (empty, half deleted), but with damaged ones: see `good_step`.
    """
    return saver.finished(manager.directory)


def good_step(manager: Manager, *, strict: bool = False, every: int = 1) -> int | None:
    """Finds the newest step that matches its manifest, and renames the damaged ones after it.

    Where it was saved under other versions or on other devices, a line says so.

    Args:
      manager: from `manager`.
      strict: whether a damaged newest step is an error.
      every: only multiples of it count; other steps are left alone.

    Returns:
      The step; None if no such step was ever saved.

    Raises:
      UserError: all are damaged, or with `strict` the newest is; the message says how.
    """
    return processes.call_on_main(lambda: _good_step(manager, strict, every))


def restore(manager: Manager, state: GANState, *, step: int | None = None) -> GANState:
    """Restores a step.

    Args:
      manager: from `manager`.
      state: a fresh state with the structure, shapes, dtypes and shardings to restore; the number
        of devices may be another than at the save.
      step: from `good_step`; None for the newest good one.

    Returns:
      The state as it was saved, on the devices of the one passed in.

    Raises:
      FileNotFoundError: there is no finished step.
      UserError: what was saved has another structure, shape or dtype; the message names leaves.
    """
    step = good_step(manager) if step is None else step
    if step is None:
        raise FileNotFoundError(f"no checkpoint in {manager.directory}")
    return _restored(manager.directory / str(step), state)


def restore_from(
    directory: str | os.PathLike, state: GANState, *, step: int | None = None
) -> GANState:
    """Restores a step of another run, whose directory stays as it is.

    Args:
      directory: the folder of its checkpoints.
      state: a fresh state: its structure, shapes, dtypes and shardings are the ones wanted.
      step: which; None for the newest good one.

    Returns:
      The state as it was saved.

    Raises:
      UserError: there is no such checkpoint, it is damaged, or has another structure.
    """
    return _restored(_good_folder(directory, step), state)


def stored_arrays(
    directory: str | os.PathLike, *, step: int | None = None
) -> tuple[int, dict[str, jax.ShapeDtypeStruct]]:
    """Reads what a step of another run holds, but none of its numbers.

    Args:
      directory: the folder of its checkpoints.
      step: which; None for the newest good one.

    Returns:
      (step, shape and dtype of each array by its dotted path in a `GANState`).

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    folder = _good_folder(directory, step)
    with _in_one_line(folder):
        rest, gen_ema = (stored.read(folder / item) for item in ("state", "gen_ema"))
    return int(folder.name), rest | {f"gen_ema.{name}": leaf for name, leaf in gen_ema.items()}


def restore_parts(directory: str | os.PathLike, wanted: PyTree, *, step: int) -> PyTree:
    """Restores parts of a state that another run saved.

    Args:
      directory: the folder of its checkpoints.
      wanted: {"gen": {"params": ...}, "gen_ema": ..., ...}, a part of a `GANState` as dicts:
        structure, shapes, dtypes and shardings.
      step: from `stored_arrays`.

    Returns:
      The same, as it was saved.

    Raises:
      UserError: it holds no such arrays, or they cannot be read.
    """
    folder = pathlib.Path(directory).resolve() / str(step)
    items = {"state": {name: part for name, part in wanted.items() if name != "gen_ema"}}
    if "gen_ema" in wanted:
        items["gen_ema"] = wanted["gen_ema"]
    restored = {}
    for name, part in items.items():
        arguments = ocp.checkpoint_utils.construct_restore_args(part)
        restored[name] = _read(folder / name, part, arguments, partial=True)
    rest = restored.pop("state")
    return {**rest, **restored}


def _good_folder(directory: str | os.PathLike, step: int | None) -> pathlib.Path:
    """Where a step of another run is that is undamaged; by default the newest."""
    directory = pathlib.Path(directory).resolve()
    if step is not None and step not in saver.numbered(directory):
        raise UserError(f"{directory} has no checkpoint {step}")
    good, bad = _newest_good(directory, saver.ITEMS, step)
    if good is None:
        told = "; ".join(f"{number}: {problem}" for number, problem in bad.items())
        raise UserError(f"no good checkpoint in {directory} ({told or 'it holds none'})")
    return directory / str(good)


def _restored(folder: pathlib.Path, state: GANState) -> GANState:
    """What a step holds, on the devices of a fresh state."""
    restored = {}
    for name, wanted in _items(state).items():
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        arguments = ocp.checkpoint_utils.construct_restore_args(target)
        restored[name] = _read(folder / name, target, arguments)
    return GANState(**restored["state"], gen_ema=restored["gen_ema"])


def sampled_steps(directory: str | os.PathLike) -> list[int]:
    """Lists the steps whose generator can be restored, oldest first.

    Args:
      directory: the folder of checkpoints.

    Returns:
      Steps; of some, the rest of the state may be gone.
    """
    return saver.finished(pathlib.Path(directory), items=("gen_ema",))


def restore_generator(
    directory: str | os.PathLike, *, wanted: PyTree = None, step: int | None = None
) -> tuple[int, PyTree]:
    """Restores only the moving average of the generator, for sampling.

    Args:
      directory: the folder of checkpoints.
      wanted: structure, shapes and dtypes that it must have; None for any.
      step: one of `sampled_steps`; None for the newest good one.

    Returns:
      (step, variables of the generator as NumPy arrays).

    Raises:
      FileNotFoundError: there is no finished step.
      UserError: this step is damaged, or all are; or it is not what was wanted.
    """
    directory = pathlib.Path(directory).resolve()
    good, bad = _newest_good(directory, ("gen_ema",), step)
    if good is None:
        _check_nothing_is_lost(directory, bad)
        raise FileNotFoundError(f"no checkpoint in {directory}")
    for number, problem in bad.items():
        print(f"warning: checkpoint {number} is skipped: {problem}", flush=True)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    return good, _read(directory / str(good) / "gen_ema", wanted, as_numpy)


def _items(state: GANState) -> dict[str, PyTree]:
    """The content of a checkpoint, by item."""
    rest = {name: getattr(state, name) for name in ("step", "gen", "disc", "extra")}
    return {"state": rest, "gen_ema": state.gen_ema}


def _good_step(manager: Manager, strict: bool, every: int) -> int | None:
    """The newest good step; renames damaged ones, so that one process only calls this."""
    good, bad = _newest_good(manager.directory, saver.ITEMS, every=every, run_id=manager.run_id)
    if strict and bad:
        step, problem = next(iter(bad.items()))
        raise UserError(
            f"checkpoint {manager.directory / str(step)} is damaged: {problem}; repair it, or "
            "leave out --strict_restore to resume from the one before it"
        )
    if good is None:
        _check_nothing_is_lost(manager.directory, bad, every)
    for step, problem in bad.items():
        word = "damaged" if step in finished_steps(manager) else "unfinished"
        place = manager.set_aside(step, word)
        print(f"warning: checkpoint {step} is {word}: {problem}; now {place}", flush=True)
    if good is not None:
        manager.compare(good)
    return good


def _newest_good(
    directory: pathlib.Path,
    items: Sequence[str],
    only: int | None = None,
    *,
    every: int = 1,
    run_id: str = "",
) -> tuple[int | None, dict[int, str]]:
    """The newest step whose items are undamaged, and the problem of each newer one."""
    bad = {}
    steps = [step for step in reversed(saver.numbered(directory)) if step % every == 0]
    for step in steps if only is None else [only]:
        try:
            if _check(directory / str(step), items):
                origin.check(directory / str(step), run_id)
            else:
                print(f"note: checkpoint {step} has no manifest: it is not verified", flush=True)
            return step, bad
        except Damaged as error:
            bad[step] = str(error)
    return None, bad


def _check(folder: pathlib.Path, items: Sequence[str]) -> bool:
    """Whether a step was verified; raises `Damaged` where its files are not those saved."""
    if not any(folder.iterdir()):
        raise Damaged("it is empty")
    missing = [item for item in items if not (folder / item / "_METADATA").is_file()]
    if missing == ["state"]:
        raise Damaged("it holds only the generator, for sampling, and cannot be trained")
    for name in (saver.METADATA, *(f"{item}/_METADATA" for item in missing)):
        if not (folder / name).is_file():
            raise Damaged(f"{name} is missing")
    if manifest.verify(folder, parts=items):
        return True
    record = manifest.read_json(folder / saver.METADATA)
    custom = record.get("custom_metadata") if isinstance(record, dict) else None
    if not isinstance(custom, dict) or saver.FORMAT_KEY in custom:
        raise Damaged(f"{manifest.NAME} is missing")
    return False


def _check_nothing_is_lost(directory: pathlib.Path, bad: dict[int, str], every: int = 1) -> None:
    """Refuses to start at step 0 where there is a damaged checkpoint to resume from."""
    empty = [step for step in bad if not any((directory / str(step)).iterdir())]
    tried = {str(step): problem for step, problem in bad.items() if step not in empty}
    for word in ("damaged", "unfinished"):
        before = (path.name for path in directory.glob(f"[0-9]*.{word}.*"))
        steps = {name: name.partition(".")[0] for name in before}
        tried |= {
            name: f"{word} before"
            for name, step in steps.items()
            if not step.isdecimal() or int(step) % every == 0
        }
    if tried:
        shown = [f"{name}: {problem}" for name, problem in tried.items()][:SHOWN]
        more = f" and {len(tried) - SHOWN} more" if len(tried) > SHOWN else ""
        raise UserError(
            f"all checkpoints in {directory} are damaged ({'; '.join(shown)}{more}); nothing was "
            "deleted. Repair one, or use another workdir to start again"
        )


def _read(
    folder: pathlib.Path, wanted: PyTree, arguments: PyTree, *, partial: bool = False
) -> PyTree:
    """Reads one item of the structure and shapes that are wanted; without them, as NumPy arrays.

    With `partial`, the item may hold more.

    Reads the item alone: Orbax's reader of a whole step opens the arrays of all items, and imports
    the classes that the step's metadata name. It would also cast and pad, and fill up what is
    missing, silently: `stored` looks first.
    """
    item: Any = folder  # annotated with a path class of Orbax; any path works
    complaints.quiet_orbax()  # what it abandons where one array cannot be read prints tracebacks
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader, _in_one_line(folder):
        leaves = None if wanted is None else stored.leaves(wanted)
        if leaves is not None and not partial:
            stored.check_size(folder, leaves)
        found = stored.read(folder)
        if leaves is None or partial:
            stored.check_size(folder, found)
        if leaves is not None:
            same = {name: leaf for name, leaf in found.items() if name in leaves or not partial}
            stored.check_same(same, leaves, folder)
            how = {"restore_args": arguments, "partial_restore": partial}
            return reader.restore(item, args=ocp.args.PyTreeRestore(item=wanted, **how))
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(item).tree
        )
        return reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


@contextlib.contextmanager
def _in_one_line(folder: pathlib.Path) -> Iterator[None]:
    """Reports in one line that what a stranger wrote there cannot be read."""
    try:
        yield
    except Exception as error:
        wrapped = type(error) is Exception  # by Orbax, where an array of devices cannot be read
        cause = (error.__cause__ or error) if wrapped else error
        if isinstance(error, UserError) or not (wrapped or isinstance(error, READ_ERRORS)):
            raise
        # Only a step without a manifest, or with one that somebody wrote by hand, gets here.
        reason = (str(cause).splitlines() or [type(cause).__name__])[0][:200]
        raise UserError(
            f"{folder} cannot be read: {reason}; move {folder.parent} away to use the step "
            "before it"
        ) from error
