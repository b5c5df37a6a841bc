"""TensorBoard's curves and pictures: written again from the log whenever a run starts.

metrics.jsonl and samples/ are exact whatever kills a run; an event file that is appended to is not.
So each start makes a new one from them, puts it in the place of the old one, and appends to it.
Everything is written at once by the caller: there is no thread that could die, and no queue that
could fill up. Where the disk is full, points are left out until the file can be made anew.
"""

import contextlib
import math
import os
import pathlib
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from tensorboardX.proto import event_pb2, summary_pb2

from jaxgan.run import logfile, tfrecord
from jaxgan.run.trouble import Trouble

# Their modules are made as they are imported: a checker of types does not know what is in them.
Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
SessionLog: Any = event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]
Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]
EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)\..+", re.S)
PICTURE = re.compile(r"step_(\d{8,})\.png")
LARGEST = 2**26  # bytes of a picture
RETRY = 30.0  # seconds between attempts to write where that failed
AT_ONCE = 2000  # events written together
SIGNATURE, END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # of a PNG file that is whole


class Curves:
    """The event file of a run; its folder holds no other of this run."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        samples: pathlib.Path,
        entries: Callable[[], Sequence[Mapping[str, Any]]],
        retry: float = RETRY,
    ):
        """Takes note of the places; nothing is written yet.

        Args:
          folder: of the event file.
          samples: folder of the pictures, `step_00000100.png` and so on.
          entries: reads the log, from which the curves are made again.
          retry: seconds between attempts to write where that failed.
        """
        self._folder, self._samples, self._entries = folder, samples, entries
        self._file: BinaryIO | None = None  # None while it cannot be written
        self._trouble = Trouble(f"TensorBoard's curves in {folder}")
        self._began, self._seconds = time.time(), 0.0  # of training, up to the last line
        self._step = 0
        self._retry, self._next = retry, 0.0

    def start(self, step: int, entries: Sequence[Mapping[str, Any]]) -> None:
        """Writes the file from the log.

        Args:
          step: the last whose lines and pictures belong to the run.
          entries: of the log, oldest first.
        """
        self._step = step
        self._began = time.time() - max((seconds(entry, 0.0) for entry in entries), default=0.0)
        self._rewrite(entries)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Adds a line of the log, one point for each of its numbers.

        Args:
          entry: its content; it is in the log already.
        """
        self._step = entry["step"]
        self._append(lambda: self._scalars(entry))

    def add_picture(self, step: int, png: bytes) -> None:
        """Adds a picture of samples.

        Args:
          step: the step it belongs to.
          png: the file; it is in the folder already.
        """
        self._step = step
        self._append(lambda: self._picture(step, png))

    def close(self) -> None:
        """Makes up for what could not be written, closes the file, and leaves no other."""
        if self._file is None and self._trouble.told:
            self._rewrite()
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
        self._close()
        remove_emptied(self._folder)

    def _append(self, event: Callable[[], bytes]) -> None:
        """Adds an event, whole or not at all."""
        if self._file is None:
            if time.monotonic() >= self._next:
                self._rewrite()
            return
        end = None
        try:
            if not os.fstat(self._file.fileno()).st_nlink:
                raise FileNotFoundError(2, "its file was removed")
            end = self._file.seek(0, os.SEEK_END)
            logfile.write_all(self._file, tfrecord.frame([event()]))
        except OSError as error:
            with contextlib.suppress(OSError):
                if end is not None:
                    self._file.truncate(end)
            self._failed(error)

    def _rewrite(self, entries: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Makes the file anew from the log, and empties the one it replaces."""
        self._close()
        begun = time.monotonic()
        try:
            entries = self._entries() if entries is None else entries
            self._folder.mkdir(exist_ok=True)
            older = [path for path in self._folder.iterdir() if _is_ours(path)]
            self._file = self._made(self._new_path(older), entries)
            # A TensorBoard in the middle of a file goes on to the next at its end only, and waits
            # for ever where the file is gone.
            for path in older:
                with contextlib.suppress(OSError):
                    if path.lstat().st_size:
                        os.truncate(path, 0)
                    else:
                        path.unlink()
        except OSError as error:
            self._failed(error)
            took = time.monotonic() - begun
            self._next = time.monotonic() + max(self._retry, 20 * took)
        else:
            self._trouble.worked()

    def _made(self, path: pathlib.Path, entries: Sequence[Mapping[str, Any]]) -> BinaryIO:
        """Writes a file under a name that TensorBoard does not look at, and renames it."""
        unfinished = self._folder / f".curves.{os.getpid()}.tmp"
        file = unfinished.open("wb", buffering=0)
        try:
            events = []
            for event in self._events(entries):
                events.append(event)
                if len(events) == AT_ONCE or len(event) > 10_000:
                    logfile.write_all(file, tfrecord.frame(events))
                    events = []
            logfile.write_all(file, tfrecord.frame(events))
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        return file

    def _events(self, entries: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
        """All events of a file: of lines and of pictures, in the order of their steps."""
        start = Event(wall_time=self._began, file_version="brain.Event:2")
        yield start.SerializeToString()
        # A TensorBoard that has read the file before forgets it.
        anew = SessionLog(status=SessionLog.START)
        yield Event(wall_time=self._began, session_log=anew).SerializeToString()
        pictures, self._seconds = self._pictures(), 0.0
        for entry in entries:
            while pictures and pictures[0][0] < entry["step"]:
                yield from self._stored(*pictures.pop(0))
            yield self._scalars(entry)
        for picture in pictures:
            yield from self._stored(*picture)

    def _scalars(self, entry: Mapping[str, Any]) -> bytes:
        """The event of a line: its numbers, without text."""
        self._seconds = seconds(entry, self._seconds)
        values = [
            Summary.Value(tag=_tag(name), simple_value=value)
            for name, value in entry.items()
            if name != "step" and _is_finite(value)
        ]
        return self._event(entry["step"], values)

    def _picture(self, step: int, png: bytes) -> bytes:
        image = Summary.Image(
            width=int.from_bytes(png[16:20], "big"),
            height=int.from_bytes(png[20:24], "big"),
            colorspace={0: 1, 2: 3, 6: 4}.get(png[25], 0),
            encoded_image_string=png,
        )
        return self._event(step, [Summary.Value(tag="samples", image=image)])

    def _event(self, step: int, values: list[Any]) -> bytes:
        # Seconds of training, without the pauses between processes: the same at every start.
        when = self._began + self._seconds
        summary = Summary(value=values)
        return Event(wall_time=when, step=step, summary=summary).SerializeToString()

    def _pictures(self) -> list[tuple[int, pathlib.Path]]:
        """The pictures of the run by step; later ones are of a process that was killed."""
        if not self._samples.is_dir():
            return []
        named = [(PICTURE.fullmatch(path.name), path) for path in self._samples.iterdir()]
        found = [(int(match[1]), path) for match, path in named if match]
        return sorted((step, path) for step, path in found if step <= self._step)

    def _stored(self, step: int, path: pathlib.Path) -> Iterator[bytes]:
        """The event of a picture; none where the file is not a whole one."""
        png = b""
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST:
                png = path.read_bytes()
        if png.startswith(SIGNATURE) and png.endswith(END):
            yield self._picture(step, png)

    def _new_path(self, older: Sequence[pathlib.Path]) -> pathlib.Path:
        """A name after those that TensorBoard has read: it goes through them in order."""
        numbers = [int(match[1]) for path in older if (match := EVENTS.fullmatch(path.name))]
        number = max([int(time.time()), *(number + 1 for number in numbers)])
        return self._folder / f"events.out.tfevents.{number:010d}.{socket.gethostname()}"

    def _failed(self, error: OSError) -> None:
        self._trouble.failed(error, then="they will be made from metrics.jsonl")
        self._next = time.monotonic() + self._retry
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def remove_emptied(folder: pathlib.Path) -> None:
    """Removes the event files that were replaced, and emptied, some time ago.

    Args:
      folder: of the event files; there may be none.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _is_ours(path) and not path.lstat().st_size:
                path.unlink()


def _is_ours(path: pathlib.Path) -> bool:
    return bool(EVENTS.fullmatch(path.name)) and stat.S_ISREG(path.lstat().st_mode)


def _tag(name: str) -> str:
    return name if name.isascii() else name.encode(errors="replace").decode()


def _is_finite(value: Any) -> bool:
    """Whether a value of the log, which may be anything, is a number that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def seconds(entry: Mapping[str, Any], otherwise: float) -> float:
    """Reads the seconds of training in a line of the log, which may hold anything.

    Args:
      entry: content of the line.
      otherwise: what to return where it has none.

    Returns:
      Seconds.
    """
    value: Any = entry.get("seconds")
    return float(value) if _is_finite(value) else otherwise
