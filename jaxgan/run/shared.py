"""Whether all processes of a run see one and the same run directory."""

import contextlib
import os
import pathlib
import secrets
import time

from jaxgan.parallel import processes
from jaxgan.types import UserError

PREFIX = ".shared."
PATIENCE = 10.0  # seconds; a network file system shows another host's file late


def check(folder: pathlib.Path) -> None:
    """Refuses hosts whose run directory is another than that of process 0; all must call this.

    Each process writes its part of a checkpoint, and waits for those of the others to appear.

    Args:
      folder: the run directory, which process 0 holds the lock of.

    Raises:
      UserError: a process does not see what process 0 writes there.
    """
    if processes.is_main():
        for left in folder.glob(f"{PREFIX}*"):  # by a process that was killed meanwhile
            left.unlink(missing_ok=True)
    if not processes.several():
        return
    name = processes.call_on_main(lambda: _write(folder))
    try:
        processes.call_on_all(lambda: _see(folder, name))
    finally:
        if processes.is_main():
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def _write(folder: pathlib.Path) -> str:
    path = folder / f"{PREFIX}{secrets.token_hex(8)}"
    path.touch()
    return path.name


def _see(folder: pathlib.Path, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _is_there(folder, name):
        if time.monotonic() > deadline:
            raise UserError(
                f"{folder} is another folder here than in process 0, or not there: put --workdir "
                "on a disk that all hosts share"
            )
        time.sleep(0.2)


def _is_there(folder: pathlib.Path, name: str) -> bool:
    with contextlib.suppress(OSError):
        return name in os.listdir(folder)  # also where a file's absence is remembered
    return False
