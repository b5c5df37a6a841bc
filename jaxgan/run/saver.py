"""Writing checkpoints: in the background by Orbax, with failures reported in one line each.

Orbax writes a step to a temporary folder. When it is complete and can be read, its files are synced
to the disk, `manifest` adds a digest of each, and a rename makes it a step. Once that is on the
disk, too, older steps are removed. A save that fails leaves them unchanged; so do a process killed
and a power cut at any moment.
"""

import contextlib
import errno
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgan.parallel import processes
from jaxgan.run import complaints, disk, manifest, origin, tidy
from jaxgan.types import PyTree, UserError

ITEMS = ("state", "gen_ema")
FORMAT_KEY = "jaxgan_format"  # in Orbax's own record of a step: it must have a manifest
METADATA = "_CHECKPOINT_METADATA"
COMMITTED = "commit_success.txt"
OVERHEAD_BYTES = 2**16  # of a checkpoint, beside its arrays


class SaveFailed(UserError):
    """A checkpoint could not be written; earlier ones are unchanged."""

    exit_code = 1


class Manager:
    """A folder of checkpoints, open for saving until `close`; use it as a context manager."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        keep: Callable[[Sequence[int]], Sequence[int]],
        run_id: str = "",
    ):
        """Opens a folder, creating it if needed, and removes what a killed process left.

        Args:
          directory: the folder.
          keep: maps the saved steps and the one being saved to those that are kept.
          run_id: names the run in the manifests.

        Raises:
          UserError: the folder cannot be created, or its path is one that Orbax misreads.
        """
        self.directory = pathlib.Path(directory).resolve()
        tidy.check_path(self.directory)
        try:
            disk.make_folder(self.directory)
        except OSError as error:
            raise UserError(f"{self.directory} cannot be created: {error.strerror}") from error
        for folder in tidy.remove_leftovers(self.directory):
            what = "removal" if folder.name.endswith(tidy.REMOVED) else "save"
            print(f"removed {folder}, which an interrupted {what} left", flush=True)
        self.run_id = run_id
        self._keep = keep
        self._orbax: ocp.AsyncCheckpointer | None = None
        self._thread: threading.Thread | None = None  # waits for the save in progress
        self._error: BaseException | None = None  # in that thread
        self._saving: int | None = None  # the step being written
        self._forms: dict[str, list] = {}  # of its arrays, by item
        self._needed = 0  # bytes of it
        self._durable = False  # whether it is on the disk
        self._compared: set[int] = set()
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
        self._forms = {name: _forms(item) for name, item in items.items()}
        with self._failure_of(step):
            old = processes.call_on_main(lambda: self._make_way(step))
            self._saving, self._durable = step, False
            args = {name: ocp.args.PyTreeSave(item) for name, item in items.items()}
            orbax = self._opened()
            orbax.save(
                self.directory / str(step),
                args=ocp.args.Composite(**args),
                custom_metadata={FORMAT_KEY: manifest.FORMAT},
            )
            self._thread = threading.Thread(target=self._finish, args=(orbax, step, old))
            self._thread.start()

    def is_saving(self) -> bool:
        """Tells whether a step is being written.

        Returns:
          Whether it is; if not, `failure` does not wait.
        """
        return self._thread is not None and self._thread.is_alive()

    def failure(self, *, wait: bool = False) -> SaveFailed | None:
        """Returns the failure of a save in the background.

        Args:
          wait: whether to wait for the save in progress.

        Returns:
          The failure, once; None if there is none.
        """
        if wait or not self.is_saving():
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
        return self._set_aside(step, word)

    def _set_aside(self, step: int, word: str) -> pathlib.Path:
        folder, number = self.directory / str(step), 1
        while (place := folder.with_name(f"{step}.{word}.{number}")).exists():
            number += 1
        folder.rename(place)
        disk.sync_folder(self.directory)
        return place

    def compare(self, step: int) -> None:
        """Says once in what this process differs from that which saved a step.

        Args:
          step: one that is verified.
        """
        if step in self._compared:
            return
        self._compared.add(step)
        if said := origin.differences(self.directory / str(step)):
            print(
                f"note: checkpoint {step} was written with {said}; results may differ in the last "
                "bits",
                flush=True,
            )

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

    def _make_way(self, step: int) -> list[int]:
        """Checks that there is space for a step; returns those that go once it is saved."""
        if disk.free_bytes(self.directory) < self._needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if step in numbered(self.directory):
            place = self._set_aside(step, "unfinished")
            print(f"warning: checkpoint {step} is unfinished; now {place}", flush=True)
        steps = sorted({*finished(self.directory), step})
        kept = {step, *self._keep(steps)}
        return [each for each in steps if each not in kept]

    def _opened(self) -> ocp.AsyncCheckpointer:
        """Orbax's writer. Of its manager, which removes steps itself, nothing else is needed."""
        if self._orbax is None:
            complaints.quiet_orbax()
            tidy.remove_leftovers(self.directory)
            options = ocp.AsyncOptions(
                post_finalization_callback=self._describe,
                # Otherwise Orbax waits until its timeout for one that cannot be created.
                create_directories_asynchronously=False,
            )
            handler = ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(async_options=options)
            )
            self._orbax = ocp.AsyncCheckpointer(handler, async_options=options)
        return self._orbax

    def _close_orbax(self) -> None:
        orbax, self._orbax = self._orbax, None
        if orbax is not None:
            orbax.close()

    def _collect(self) -> None:
        """Waits for the save in progress and keeps its failure, if any."""
        if self._thread is None or self._saving is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        try:
            with self._failure_of(self._saving):
                if error is not None:
                    raise error
        except SaveFailed as failed:
            self._failed = failed
        self._saving = None

    def _finish(self, orbax: ocp.AsyncCheckpointer, step: int, old: Sequence[int]) -> None:
        """Waits for a step, then removes those that it replaces; a thread of its own.

        No process may wait for another here: the main threads do that, in an order of their own.
        """
        try:
            orbax.wait_until_finished()
            if not processes.is_main():
                return
            folder = self.directory / str(step)
            for name in (METADATA, COMMITTED):  # written after the manifest
                disk.sync_file(folder / name)
            disk.sync_folder(folder)
            disk.sync_folder(self.directory)
            self._durable = True
            for each in old:
                disk.remove_tree(self.directory / str(each), removed=tidy.REMOVED)
        except BaseException as error:  # raised where the save is waited for
            self._error = error

    @contextlib.contextmanager
    def _failure_of(self, step: int) -> Iterator[None]:
        """Turns an error of Orbax into `SaveFailed`, and removes what was written of the step."""
        try:
            yield
        except Exception as error:
            self._saving = self._thread = None
            with contextlib.suppress(Exception):  # it raises the same again
                self._close_orbax()
            # Writes that were in progress when another failed may still create their files.
            for wait in (0.0, 0.05, 0.2, 0.5):
                time.sleep(wait)
                if not tidy.remove_leftovers(self.directory) and wait:
                    break
            good = finished(self.directory)
            if step in good:  # the error came after the save
                what = (
                    "old steps could not be removed" if self._durable else "may not be on the disk"
                )
                print(
                    f"warning: step {step} is saved in {self.directory}, but {what}: "
                    f"{complaints.reason(error)}",
                    flush=True,
                )
                return
            kept = f"the last good step is {good[-1]}" if good else "no step is saved yet"
            reason = complaints.reason(error)
            if reason == "no space":
                free = disk.megabytes(disk.free_bytes(self.directory))
                reason = f"no space: it needs {disk.megabytes(self._needed)}, {free} are free"
            raise SaveFailed(
                f"step {step} was not saved in {self.directory}: {reason}; {kept}"
            ) from error

    def _describe(self) -> None:
        """Completes the step being written; Orbax calls this on process 0 before the rename."""
        if not processes.is_main():
            return
        assert self._saving is not None
        (folder,) = tidy.unfinished(self.directory, step=self._saving)
        self._check_readable(folder)
        disk.sync_tree(folder)
        manifest.write(folder, run=self.run_id, step=self._saving, written_with=origin.here())

    def _check_readable(self, folder: pathlib.Path) -> None:
        """Opens every array of the step being written."""
        reader = ocp.PyTreeCheckpointHandler()
        try:
            for name, forms in self._forms.items():
                item: Any = folder / name
                if _forms(reader.metadata(item).tree) != forms:
                    raise ValueError(f"{name} does not hold the arrays that were to be saved")
        finally:
            reader.close()


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


def _forms(tree: PyTree) -> list[tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of a tree, in an order that does not depend on how it is nested."""
    leaves = jax.tree.leaves(tree)
    return sorted((tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves)
