"""The run directory: its lock, the settings of the run, and its logs.

config.json     every setting of the run, and which of them were changed at which step
run.flags       the same settings as a flagfile, without the directory itself
metrics.jsonl   one JSON object a logged step, and one an evaluation
history.jsonl   when training started, rolled back and ended, with versions and memory; `history`
tensorboard/    the same scalars, and the sample grids, as an event file
samples/        step_00001000.png, ..., or .txt of generators of text
checkpoints/    see `checkpoint`
.saved          there once a checkpoint was completed
.lock           held while a process trains here

Once training runs, a full or broken disk costs nobody more than what could not be written: one
warning, and what waits is written when it can be.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from jaxgan import __version__, images
from jaxgan.run import cli, curves, disk, history, leftovers, logfile, manifest, settings
from jaxgan.run.trouble import Trouble, reason
from jaxgan.types import UserError

# Written after config.json: without that they belong to something else and stay untouched.
OURS = ("run.flags", "metrics.jsonl", "tensorboard", "samples", "checkpoints")
WRITTEN = ("config.json", "run.flags", "metrics.jsonl", "results.json", history.FILE)

T = TypeVar("T")


class RunDir:
    """A run directory, locked by this process until `close`; use it as a context manager.

    A new directory gets its record of settings at once, so that whatever is written there later
    belongs to a known run. The record of a run that exists changes in `start_logs`, when training
    really begins.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: Any,
        *,
        experiment: str,
        data: Mapping,
        upgraded: Callable[[dict], dict] = lambda record: record,
        main: bool = True,
    ):
        """Locks the directory, creating it if needed, and checks the settings of the run in it.

        Args:
          path: of the directory.
          config: dataclass with fields from `cli.field`.
          experiment: module that the config belongs to ("experiments.mnist").
          data: record of the training data: "fingerprint", and more.
          upgraded: turns the record of an earlier version into that of this one.
          main: False in all processes of a run but the one that writes here.

        Raises:
          UserError: the path is not a directory, cannot be written, is in use by another process,
            or holds a run with other settings.
        """
        self.path = pathlib.Path(os.path.realpath(os.path.expanduser(path)))
        self.run_id: str = ""
        self._main = main
        if not main:
            return
        self._config = config
        self._record = {
            "experiment": experiment,
            "jaxgan": __version__,
            "run": secrets.token_hex(8),
            "data": dict(data),
            "config": dataclasses.asdict(config),
        }
        self._log = logfile.LogFile(self.path / "metrics.jsonl")
        self._history = logfile.LogFile(self.path / history.FILE)
        self._step = 0  # the last that was logged
        self._curves: curves.Curves | None = None  # until the logs are started
        self._saved = False  # a checkpoint was completed, and that is noted
        self._unsynced: list[pathlib.Path] = []  # pictures
        self._pictures, self._syncs = Trouble(f"{self.path / 'samples'}"), Trouble(str(self.path))
        self._locked = _lock(self.path)
        try:
            with self._one_line():
                self._stored = self._check_record(upgraded)
                leftovers.remove(self.path)
                curves.remove_emptied(self.path / "tensorboard")
                if self._stored is None:
                    self._write_record([])
        except BaseException:
            _release(self._locked)
            raise
        self.run_id = self._record["run"]

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def start_logs(self, step: int) -> float:
        """Records the settings that training begins with, and opens the logs after a step.

        What a killed run logged beyond its checkpoint is removed. Settings that are not those of
        the record are printed and recorded with the step of the change.

        Args:
          step: the step of the checkpoint that training resumes from, or 0.

        Returns:
          The seconds of training up to that step, as far as they were logged.
        """
        if not self._main:
            return 0.0
        with self._one_line():
            if self._stored is not None:
                settings_now = self._record["config"]
                self._write_record(settings.changes(self._stored, settings_now, step))
                self._stored = None  # recorded once: a rollback changes no setting
            self.checkpoints.mkdir(exist_ok=True)  # where it is gone later, somebody moved it
            kept = self._log.cut(step)
        if self._curves is None:
            self._curves = curves.Curves(
                self.path / "tensorboard", samples=self.path / "samples", entries=self.metrics
            )
        self._curves.start(step, kept)
        return max((curves.seconds(entry, 0.0) for entry in kept), default=0.0)

    def log(self, step: int, values: Mapping[str, float | str]) -> None:
        """Appends one line of metrics; where that fails it waits in memory, with a warning.

        Args:
          step: the step they belong to.
          values: numbers by name; those that are not finite ("not measured") are left out. Text,
            which says how they were measured, goes into the line only.
        """
        if not self._main:
            return
        values = {k: v for k, v in values.items() if isinstance(v, str) or np.isfinite(v)}
        assert self._curves is not None, "start_logs comes first"
        self._step = step
        self._log.append(step, values)
        self._curves.add({"step": step, **values})
        self._saved = self._saved or leftovers.note_checkpoint(self.path)

    def note(self, event: str, *, step: int | None = None, **values: Any) -> None:
        """Appends a line to the history, which nothing removes; see `history`.

        Args:
          event: what happened, such as "rollback".
          step: when; by default the last step that was logged.
          **values: more about it, as JSON can hold it.
        """
        if self._main:
            line = {"event": event, "time": history.now(), **values}
            self._history.append(self._step if step is None else step, line)

    def metrics(self) -> list[dict[str, Any]]:
        """Reads the log of this run, with the lines that could not be written yet.

        Returns:
          The lines as `read_metrics` has them.
        """
        return self._log.entries()

    def save_samples(self, step: int, picture: np.ndarray) -> pathlib.Path:
        """Writes a grid of samples as a PNG file and as an event.

        Args:
          step: the step they belong to.
          picture: [H, W, C] uint8.

        Returns:
          The path of the PNG file; it is not there if it could not be written.
        """
        path = self.path / "samples" / f"step_{step:08d}.png"
        png = self.save_picture(path.name, picture)
        if png and self._curves is not None:
            self._curves.add_picture(step, png)
        return path

    def save_lines(self, step: int, lines: Sequence[str]) -> pathlib.Path:
        """Writes samples of text, one a line.

        Args:
          step: the step they belong to.
          lines: the samples.

        Returns:
          The path of the file; it is not there if it could not be written.
        """
        path = self.path / "samples" / f"step_{step:08d}.txt"
        text = "\n".join([*lines, ""])
        self._sampled(path, lambda: path.write_text(text, encoding="utf-8", errors="replace"))
        return path

    def save_picture(self, name: str, picture: np.ndarray) -> bytes:
        """Writes a PNG file among the samples.

        Args:
          name: of the file.
          picture: [H, W, C] uint8.

        Returns:
          Its content; empty where it could not be written, which is one warning.
        """
        path = self.path / "samples" / name
        return self._sampled(path, lambda: images.save_png(path, picture)) or b""

    def _sampled(self, path: pathlib.Path, write: Callable[[], T]) -> T | None:
        """Writes a file among the samples; what `write` returns, or None after a warning."""
        try:
            path.parent.mkdir(exist_ok=True)
            written = write()
        except OSError as error:
            self._pictures.failed(error)
            return None
        self._pictures.worked()
        self._unsynced.append(path)
        return written

    def sync(self) -> None:
        """Waits until what was logged is on the disk, as before each save; a warning if not."""
        if not self._main:
            return
        try:
            self._log.sync()
            self._history.sync()
            pictures, self._unsynced = self._unsynced, []
            for path in pictures:
                with contextlib.suppress(FileNotFoundError):  # somebody may tidy up
                    disk.sync_file(path)
            for folder in {path.parent for path in pictures} | {self.path}:
                disk.sync_folder(folder)
        except OSError as error:
            self._syncs.failed(error)
        else:
            self._syncs.worked()

    def close(self) -> None:
        """Writes what waits, and unlocks the directory."""
        if not self._main:
            return
        if self._curves is not None:
            self._log.close()
            self._history.close()
            self.sync()
            self._curves.close()
        leftovers.note_checkpoint(self.path)
        _release(self._locked)

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """Reports in one line, before training, that the directory cannot be read or written."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"workdir {self.path} cannot be written: {reason(error)}; make room there, or use "
                "another workdir"
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _check_record(self, upgraded: Callable[[dict], dict]) -> dict[str, Any] | None:
        """The record in the directory, None in a new one; refuses one of another run."""
        _check_written(self.path)
        if (self.path / "config.json").exists():
            stored = upgraded(read_config(self.path))
            fields = dataclasses.fields(self._config)
            fixed = {f.name: f.default for f in fields if not f.metadata["changeable"]}
            settings.check_same(stored, self._record, fixed, self.path)
            check_change = getattr(self._config, "check_change", lambda before: None)
            check_change({**{f.name: f.default for f in fields}, **stored["config"]})
            leftovers.check_checkpoints(self.path)
            if stored.get("run"):  # an older version did not name its runs
                self._record["run"] = stored["run"]
            return stored
        if found := [name for name in OURS if (self.path / name).exists()]:
            raise UserError(
                f"{self.path} holds {found[0]} without config.json; use another workdir"
            )
        return None

    def _write_record(self, changes: list[dict]) -> None:
        """Writes the settings as JSON and as a flagfile."""
        record = {**self._record, **({"changes": changes} if changes else {})}
        disk.replace(self.path / "config.json", json.dumps(record, indent=2) + "\n")
        module = record["experiment"]
        use = f"# python -m {module} --flagfile=run.flags --workdir=DIRECTORY\n"
        flags = cli.as_flags(self._config, without=("workdir",))
        disk.replace(self.path / "run.flags", use + flags)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the record of a run.

    Args:
      path: its run directory.

    Returns:
      {"experiment", "jaxgan", "run": the name of this run, "data": {"fingerprint", ...}, "config":
      {setting: value}}, and where settings were changed "changes": [{"step": step, setting: [old,
      new]}], oldest first. Older versions did not write "run", nor the step of a change.

    Raises:
      UserError: there is no run, or its record cannot be read.
    """
    file = pathlib.Path(path) / "config.json"
    if not os.path.lexists(file):
        raise UserError(f"{path} holds no run: there is no config.json in it")
    try:
        record = manifest.read_json(file)
        texts = record["data"]["fingerprint"], record.get("run", "")
        if isinstance(record["config"], dict) and all(isinstance(x, str) for x in texts):
            return {**record, "experiment": str(record["experiment"])}
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{file} is not the record of a run; restore it from run.flags or use another workdir"
    )


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Reads the log of a run, which may still be training.

    Args:
      path: its run directory.

    Returns:
      The logged lines, oldest first, each with its "step"; none where there is no log.

    Raises:
      UserError: the log is not a file, or far larger than any.
    """
    return logfile.read(pathlib.Path(path) / "metrics.jsonl")


def in_use(path: str | os.PathLike) -> bool:
    """Tells whether a process seems to train in a run directory, without touching its lock.

    Args:
      path: the run directory.

    Returns:
      Whether its lock file names a process that lives here, or one on another host.
    """
    try:
        holder = (pathlib.Path(path) / ".lock").read_text(errors="replace")[:200].strip()
    except OSError:
        return False
    return _may_live(holder)


def _lock(path: pathlib.Path) -> int:
    """Creates the directory and locks it; the system unlocks it when the process ends."""
    if os.path.isfile(path):
        raise UserError(f"workdir {path} is a file; give a directory")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Through a link, another file would be emptied.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path / ".lock", flags, 0o644)
    except OSError as error:
        raise UserError(f"workdir {path} cannot be written: {error.strerror}") from error
    holder = os.read(descriptor, 200).decode(errors="replace").strip()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
    except OSError:  # a file system without locks: what the file says is all there is
        held = _may_live(holder)
    if held:
        os.close(descriptor)
        raise UserError(
            f"workdir {path} is in use by {holder or 'another process'}; wait for it to end, or "
            f"use another workdir"
        )
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        os.close(descriptor)
        raise UserError(f"workdir {path} cannot be written: {reason(error)}") from error
    return descriptor


def _may_live(holder: str) -> bool:
    """Whether the process that a lock file names may be alive; on another host it always may."""
    words = holder.split()
    if len(words) != 4 or not words[1].isdecimal():
        return False
    if words[3] != socket.gethostname():
        return True
    return pathlib.Path(f"/proc/{words[1]}").exists() or not pathlib.Path("/proc/self").exists()


def _release(descriptor: int) -> None:
    """Unlocks the directory and empties its lock file, where it can still be written."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _check_written(path: pathlib.Path) -> None:
    """Refuses files that training would write through, to a place that somebody else chose.

    Folders may be links: checkpoints are large, and a person may want them on another disk.
    """
    for name in WRITTEN:
        file = path / name
        if os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
            raise UserError(f"{file} is a link, or not a file; remove it, or use another workdir")
    for name in ("tensorboard", "samples", "checkpoints"):
        if (path / name).is_symlink():
            place = os.path.realpath(path / name)
            print(f"note: {path / name} is a link: it is written in {place}", flush=True)
