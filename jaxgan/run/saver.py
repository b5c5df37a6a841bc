"""Writing checkpoints: in the background by Orbax, with failures reported in one line each.

Orbax writes a step to a temporary folder. When it is complete, `manifest` adds a digest of each
file, and a rename makes it a step. A save that fails leaves the earlier steps unchanged.
"""

import contextlib
import errno
import functools
import logging
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgan.parallel import processes
from jaxgan.run import manifest
from jaxgan.types import PyTree, UserError

ITEMS = ("state", "gen_ema")
FORMAT_KEY = "jaxgan_format"  # in Orbax's own record of a step: it must have a manifest
METADATA = "_CHECKPOINT_METADATA"
OVERHEAD_BYTES = 2**16  # of a checkpoint, beside its arrays


class SaveFailed(UserError):
    """A checkpoint could not be written; earlier ones are unchanged."""

    exit_code = 1


class Manager:
    """A folder of checkpoints, open for saving until `close`; use it as a context manager."""

    def __init__(self, directory: pathlib.Path, *, keep: Callable[[Sequence[int]], Sequence[int]]):
        """Opens a folder, creating it if needed, and removes what a killed save left.

        Args:
          directory: the folder.
          keep: maps the saved steps and the one being saved to those that are kept.

        Raises:
          UserError: the folder cannot be created.
        """
        self.directory = pathlib.Path(directory).resolve()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.directory} cannot be created: {error.strerror}") from error
        for folder in _remove_unfinished(self.directory):
            print(f"removed {folder}, which an interrupted save left", flush=True)
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=_Keep(keep),
            lightweight_initialize=True,  # reads nothing that may be damaged
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._describe,
                # Otherwise Orbax waits until its timeout for one that cannot be created.
                create_directories_asynchronously=False,
            ),
        )
        self._orbax: ocp.CheckpointManager | None = None
        self._saving: int | None = None  # the step being written
        self._needed = 0  # bytes of it
        self._failed: SaveFailed | None = None  # not reported yet

    def start(self, step: int, items: dict[str, PyTree]) -> None:
        """Starts to write a step in the background; waits for the save before it.

        A step that is saved already is left unchanged.

        Args:
          step: its number.
          items: its content, by name.

        Raises:
          SaveFailed: it cannot be written.
        """
        failed = self.failure(wait=True)
        if failed:
            print(f"warning: {failed}", flush=True)
        if processes.call_on_main(lambda: step in finished(self.directory)):
            return
        jax.block_until_ready(items)  # an error of the computation is not one of the save
        self._needed = size(items)
        with self._failure_of(step):
            if processes.call_on_main(lambda: free_bytes(self.directory)) < self._needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._saving = step
            args = {name: ocp.args.PyTreeSave(item) for name, item in items.items()}
            self._opened().save(
                step,
                args=ocp.args.Composite(**args),
                force=True,
                custom_metadata={FORMAT_KEY: manifest.FORMAT},
            )

    def failure(self, *, wait: bool = False) -> SaveFailed | None:
        """Returns the failure of a save in the background.

        Args:
          wait: whether to wait for the save in progress.

        Returns:
          The failure, once; None if there is none.
        """
        if self._saving is not None and self._orbax is not None:
            if wait or not self._orbax.is_saving_in_progress():
                self._collect()
        failed, self._failed = self._failed, None
        return failed

    def wait_until_finished(self) -> None:
        """Waits for the save in progress.

        Raises:
          SaveFailed: it could not be written.
        """
        failed = self.failure(wait=True)
        if failed:
            raise failed

    def set_aside(self, step: int, word: str) -> pathlib.Path:
        """Renames a step that cannot be used, so that its number can be saved again.

        Args:
          step: its number.
          word: its state: "damaged" or "unfinished".

        Returns:
          Its new path.
        """
        self._collect()
        self._close_orbax()  # it would still count the step
        folder, number = self.directory / str(step), 1
        while (place := folder.with_name(f"{step}.{word}.{number}")).exists():
            number += 1
        return folder.rename(place)

    def close(self) -> None:
        """Waits for the save in progress, as `wait_until_finished` does."""
        try:
            self.wait_until_finished()
        finally:
            self._close_orbax()

    def __enter__(self):
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any):
        try:
            self.close()
        except SaveFailed as failed:
            if error is None:
                raise
            print(f"warning: {failed}", flush=True)  # the error that ended the block is raised

    def _opened(self) -> ocp.CheckpointManager:
        """Orbax's manager, which counts every folder with a number as its name as a step."""
        if self._orbax is None:
            _quiet_orbax()
            _remove_unfinished(self.directory)
            complete = finished(self.directory)
            incomplete = [step for step in numbered(self.directory) if step not in complete]
            for step in incomplete if processes.is_main() else ():
                place = self.set_aside(step, "unfinished")
                print(f"warning: checkpoint {step} is unfinished; now {place}", flush=True)
            self._orbax = ocp.CheckpointManager(self.directory, options=self._options)
        return self._orbax

    def _close_orbax(self) -> None:
        orbax, self._orbax = self._orbax, None
        if orbax is not None:
            orbax.close()

    def _collect(self) -> None:
        """Waits for the save in progress and keeps its failure, if any."""
        if self._saving is None or self._orbax is None:
            return
        try:
            with self._failure_of(self._saving):
                self._orbax.wait_until_finished()
        except SaveFailed as failed:
            self._failed = failed
        self._saving = None

    @contextlib.contextmanager
    def _failure_of(self, step: int) -> Iterator[None]:
        """Turns an error of Orbax into `SaveFailed`, and removes what was written of the step."""
        try:
            yield
        except Exception as error:
            self._saving = None
            with contextlib.suppress(Exception):  # it raises the same again
                self._close_orbax()
            # Writes that were in progress when another failed may still create their files.
            for wait in (0.0, 0.05, 0.2, 0.5):
                time.sleep(wait)
                if not _remove_unfinished(self.directory) and wait:
                    break
            good = finished(self.directory)
            if step in good:  # the error came after the save
                print(
                    f"warning: step {step} is saved in {self.directory}, but old steps could not "
                    f"be removed: {_reason(error)}",
                    flush=True,
                )
                return
            kept = f"the last good step is {good[-1]}" if good else "no step is saved yet"
            reason = _reason(error)
            if reason == "no space":
                free = megabytes(free_bytes(self.directory))
                reason = f"no space: it needs {megabytes(self._needed)}, {free} are free"
            raise SaveFailed(
                f"step {step} was not saved in {self.directory}: {reason}; {kept}"
            ) from error

    def _describe(self) -> None:
        """Writes the manifest of the step being written; Orbax calls this before the rename."""
        if not processes.is_main():
            return
        (folder,) = _unfinished(self.directory, self._saving)
        manifest.write(folder)


class _Keep(ocp.checkpoint_managers.PreservationPolicy):
    """Tells Orbax which steps to keep; it removes the others once the new step is complete."""

    def __init__(self, keep: Callable[[Sequence[int]], Sequence[int]]):
        self._keep = keep

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = set(self._keep(steps))
        return [step in kept for step in steps]


def numbered(directory: pathlib.Path) -> list[int]:
    """Lists the folders that have a number as their name, whatever their content.

    Args:
      directory: the folder of checkpoints.

    Returns:
      The numbers, in order.
    """
    folders = directory.iterdir() if directory.is_dir() else ()
    names = [folder.name for folder in folders if folder.name.isdecimal() and folder.is_dir()]
    return sorted(int(name) for name in names if str(int(name)) == name)


def finished(directory: pathlib.Path, *, items: Sequence[str] = ITEMS) -> list[int]:
    """Lists the steps whose save was completed, oldest first.

    Args:
      directory: the folder of checkpoints.
      items: those that a step must have.

    Returns:
      Steps. Orbax counts any folder with a number as its name; only a committed one is complete.
    """
    return [
        step
        for step in numbered(directory)
        if (directory / str(step) / METADATA).is_file()
        and all((directory / str(step) / item / "_METADATA").is_file() for item in items)
    ]


def size(tree: PyTree) -> int:
    """Estimates an upper bound of the size of a checkpoint on disk.

    Args:
      tree: arrays or their shapes.

    Returns:
      Bytes, without the compression of Orbax.
    """
    leaves = jax.tree.leaves(tree)
    sizes = [int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves]
    return sum(sizes) + OVERHEAD_BYTES


def free_bytes(directory: pathlib.Path) -> int:
    """Returns the free space of a disk.

    Args:
      directory: a folder on it.

    Returns:
      Bytes.
    """
    return shutil.disk_usage(directory).free


def megabytes(number: int) -> str:
    """Formats a number of bytes.

    Args:
      number: of bytes.

    Returns:
      "1.2 MB".
    """
    return f"{number / 1e6:,.1f} MB"


def _unfinished(directory: pathlib.Path, step: int | None = None) -> list[pathlib.Path]:
    """Temporary folders of a step that is not finished; of all steps by default."""
    number = "[0-9]*" if step is None else str(step)
    return sorted(directory.glob(f"{number}.orbax-checkpoint-tmp*"))


def _remove_unfinished(directory: pathlib.Path) -> list[pathlib.Path]:
    """Removes the temporary folders of unfinished steps; returns which there were."""
    folders = _unfinished(directory) if processes.is_main() else []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return folders


def _reason(error: BaseException) -> str:
    """Why a save failed: "no space", or the first line of the error."""
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(cause) or "quota" in str(cause):
            return "no space"
        cause = cause.__cause__ or cause.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@functools.cache
def _quiet_orbax() -> None:
    """Keeps Orbax from printing tracebacks of failures that are reported in one line.

    It logs the error and abandons the writes of the other files, each of which prints one, too.
    """
    logging.getLogger("absl").addFilter(_not_of_orbax)
    hook = sys.unraisablehook

    def without_orbax(what: Any) -> None:
        if "Event loop is closed" not in str(what.exc_value):
            hook(what)

    sys.unraisablehook = without_orbax


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in pathlib.Path(record.pathname).parts
