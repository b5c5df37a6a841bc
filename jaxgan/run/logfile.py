"""metrics.jsonl: one JSON object a line, each written whole or not at all.

A line that a full disk refuses waits in memory and is written before the next one.
"""

import collections
import contextlib
import json
import os
import pathlib
from typing import Any, BinaryIO

from jaxgan.run import disk
from jaxgan.run.trouble import Trouble, tell
from jaxgan.types import UserError

MOST_WAITING = 10_000  # lines
MAX_BYTES = 2**30  # millions of lines


class LogFile:
    """The log of a run, to be appended to by one process."""

    def __init__(self, path: pathlib.Path):
        """Names the file; nothing is written yet.

        Args:
          path: of the file; its folder exists.
        """
        self._path = path
        self._waiting: collections.deque[tuple[int, bytes]] = collections.deque()
        self._lost = 0  # lines of which there were too many to wait
        self._cut: int | None = None  # bytes to keep, before anything is appended
        self._unsynced = True
        self._trouble = Trouble(str(path))

    def append(self, step: int, values: dict[str, Any]) -> None:
        """Writes a line, or keeps it until it can be written.

        Args:
          step: the step it belongs to.
          values: what it holds, by name.
        """
        line = json.dumps({"step": step, **values}) + "\n"
        self._waiting.append((step, line.encode()))
        if len(self._waiting) > MOST_WAITING:
            lost, _ = self._waiting.popleft()
            if not self._lost:
                tell(f"warning: {self._path}: too many lines wait; those from step {lost} are lost")
            self._lost += 1
        self.flush()

    def flush(self) -> bool:
        """Writes the lines that wait; a failure is one warning.

        Returns:
          Whether all is written.
        """
        if not self._waiting and self._cut is None:
            return True
        try:
            self._write()
        except OSError as error:
            if self._cut is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self._path, self._cut)
            self._trouble.failed(error, then="its lines wait in memory")
            return False
        self._lost = 0
        self._trouble.worked()
        return True

    def sync(self) -> None:
        """Waits until the lines are on the disk.

        Raises:
          OSError: they may not be.
        """
        if self.flush() and self._unsynced and self._path.exists():
            disk.sync_file(self._path)
            self._unsynced = False

    def close(self) -> None:
        """Writes what waits, or says that it is lost."""
        if not self.flush() and self._waiting:
            tell(f"warning: {self._path}: {len(self._waiting)} lines are lost")

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Removes what was logged beyond a step, and what is damaged.

        Args:
          step: the last to stay.

        Returns:
          The lines that stay.

        Raises:
          OSError: the file cannot be read, or not be written anew where that is needed.
        """
        self._waiting = collections.deque(kept for kept in self._waiting if kept[0] <= step)
        waiting = [json.loads(line) for _, line in self._waiting]
        if not self._path.exists():
            return waiting
        data = self._path.read_bytes()[: self._cut]
        found, damaged = _parse(data)
        if damaged:
            tell(f"note: {self._path}: {damaged} lines that cannot be read are left out")
        kept = [(line, entry) for line, entry in found if entry["step"] <= step]
        text = b"".join(line for line, _ in kept)
        if data.startswith(text):  # as a rule; it needs no space
            self._cut = len(text)
            self.flush()
        else:
            disk.replace(self._path, text.decode(errors="replace"))
            self._cut = None
        self._unsynced = True
        return [*(entry for _, entry in kept), *waiting]

    def entries(self) -> list[dict[str, Any]]:
        """Reads all lines, those that wait too.

        Returns:
          Their content, oldest first.
        """
        written = read(self._path, limit=self._cut)
        return [*written, *(json.loads(line) for _, line in self._waiting)]

    def _write(self) -> None:
        """Appends the lines that wait; `_cut` says what to keep until all of them are written."""
        with self._path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if self._cut is not None and self._cut < size:
                size = file.truncate(self._cut)
            self._cut = size
            write_all(file, b"".join(line for _, line in self._waiting))
        self._waiting.clear()
        self._cut, self._unsynced = None, True


def read(path: pathlib.Path, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Reads a log, which may still be written to; lines cut off or damaged are left out.

    Args:
      path: of the file; there may be none.
      limit: bytes to read; None for all.

    Returns:
      The content of the lines, oldest first, each with its "step".

    Raises:
      UserError: the log is not a file, or far larger than any.
    """
    if path.exists() and not (path.is_file() and path.stat().st_size <= MAX_BYTES):
        raise UserError(f"{path} is not the log of a run; move it away")
    data = path.read_bytes() if path.exists() else b""
    return [entry for _, entry in _parse(data[:limit])[0]]


def write_all(file: BinaryIO, data: bytes) -> None:
    """Writes to an unbuffered file, which may take a part at a time.

    Args:
      file: open for writing.
      data: the bytes.
    """
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _parse(data: bytes) -> tuple[list[tuple[bytes, dict[str, Any]]], int]:
    """The whole lines of a log with their content, and how many others there are."""
    found, damaged = [], 0
    for line in data.splitlines(keepends=True):
        entry = None
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line.decode(errors="replace"))
        step = entry.get("step") if isinstance(entry, dict) else None
        if line.endswith(b"\n") and type(step) is int and 0 <= step < 2**63:
            found.append((line, entry))
        else:
            damaged += 1
    return found, damaged
