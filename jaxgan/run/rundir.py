"""The run directory: who holds it, which settings it was made with, and its logs.

config.json     what was asked, every setting resolved
run.flags       the same, as a flagfile
metrics.jsonl   one JSON object a logged step, and one an evaluation
tensorboard/    the same scalars, and the sample grids, as event files
samples/        step_00001000.png, ...
checkpoints/    see `checkpoint`
.lock           held while a process trains here
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from jaxgan import __version__, images
from jaxgan.run import cli
from jaxgan.types import UserError

# Written after config.json: where that is missing, they are somebody else's, and stay untouched.
OURS = ("run.flags", "metrics.jsonl", "tensorboard", "samples", "checkpoints")


class RunDir:
    """A run directory, held by this process until `close`; use it as a context manager."""

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
        """Takes the directory, making it where there is none.

        Args:
          path: where.
          config: dataclass with fields from `cli.field`.
          experiment: module that the config belongs to ("experiments.mnist").
          data: what is to be remembered of the training data: "fingerprint", and more.
          upgraded: makes of a record that an earlier version wrote what this one would write.
          main: False in a process that leaves the directory to another: it writes nothing here.

        Raises:
          UserError: the path is no directory, cannot be written, is held by another process, or
            holds a run with other settings.
        """
        self.path = pathlib.Path(os.path.realpath(os.path.expanduser(path)))
        self._events: SummaryWriter | None = None
        self._main = main
        if not main:
            return
        self._lock = _take(self.path)
        try:
            self._record(config, experiment, data, upgraded)
        except BaseException:
            _release(self._lock)
            raise

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def start_logs(self, step: int) -> None:
        """Opens the logs after a step: what a killed run logged beyond its checkpoint is dropped.

        Args:
          step: the step that training goes on from.
        """
        if not self._main:
            return
        log = self.path / "metrics.jsonl"
        if log.exists():
            _replace(log, "".join(line for line, entry in _entries(log) if entry["step"] <= step))
        if self._events is not None:
            self._events.close()  # of a run that was rolled back
        self._events = SummaryWriter(
            str(self.path / "tensorboard"), purge_step=step + 1 if step else None
        )

    def log(self, step: int, values: Mapping[str, float | str]) -> None:
        """Appends one line of metrics.

        Args:
          step: the step they belong to.
          values: numbers by name; those that are not finite ("not measured") are left out. Text,
            which says how they were measured, goes into the line only.
        """
        if not self._main:
            return
        values = {k: v for k, v in values.items() if isinstance(v, str) or np.isfinite(v)}
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        assert self._events is not None, "start_logs comes first"
        for name, value in values.items():
            if not isinstance(value, str):
                self._events.add_scalar(name, value, step)

    def save_samples(self, step: int, picture: np.ndarray) -> pathlib.Path:
        """Writes a grid of samples as a PNG file and as an event.

        Args:
          step: the step they belong to.
          picture: [H, W, C] uint8.

        Returns:
          The path of the PNG file.
        """
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        path = folder / f"step_{step:08d}.png"
        images.save_png(path, picture)
        if self._events is not None:
            self._events.add_image("samples", picture, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Writes out the logs and lets the directory go."""
        if self._events is not None:
            self._events.close()
        if self._main:
            _release(self._lock)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _record(
        self, config: Any, experiment: str, data: Mapping, upgraded: Callable[[dict], dict]
    ) -> None:
        """Writes the settings down; refuses a directory that holds others."""
        values = dataclasses.asdict(config)
        record = {
            "experiment": experiment,
            "jaxgan": __version__,
            "data": dict(data),
            "config": values,
        }
        stored = None
        if (self.path / "config.json").exists():
            stored = upgraded(read_config(self.path))
        if stored:
            fields = dataclasses.fields(config)
            fixed = {f.name: f.default for f in fields if not f.metadata["changeable"]}
            _check_same(stored, record, fixed, self.path)
            record["changes"] = _changes(stored, values)
        elif found := [name for name in OURS if (self.path / name).exists()]:
            raise UserError(
                f"{self.path} holds {found[0]} without config.json; use another workdir"
            )
        _replace(self.path / "config.json", json.dumps(record, indent=2) + "\n")
        _replace(self.path / "run.flags", cli.as_flags(config))


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what a run was made with.

    Args:
      path: its run directory.

    Returns:
      {"experiment", "jaxgan", "data": {"fingerprint", ...}, "config": {setting: value}}.

    Raises:
      UserError: there is no run, or its record cannot be read.
    """
    file = pathlib.Path(path) / "config.json"
    try:
        record = json.loads(file.read_text())
        if isinstance(record["config"], dict) and isinstance(record["data"]["fingerprint"], str):
            return {**record, "experiment": str(record["experiment"])}
    except FileNotFoundError as error:
        raise UserError(f"{path} holds no run: there is no config.json in it") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(
        f"{file} is not the record of a run; mend it from run.flags or use another workdir"
    )


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Reads the log of a run, which may be going on.

    Args:
      path: its run directory.

    Returns:
      What was logged, oldest first, each with its "step"; nothing where there is no log.
    """
    log = pathlib.Path(path) / "metrics.jsonl"
    return [entry for _, entry in _entries(log)] if log.exists() else []


def _take(path: pathlib.Path) -> int:
    """Makes the directory and locks it; the system lets go of the lock when the process ends."""
    if os.path.isfile(path):
        raise UserError(f"workdir {path} is a file; give a directory")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Through a link, another file would be emptied.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(path / ".lock", flags, 0o644)
    except OSError as error:
        raise UserError(f"workdir {path} cannot be written: {error.strerror}") from error
    holder = os.read(lock, 200).decode(errors="replace").strip()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
    except OSError:  # a file system without locks: what the file says is all there is
        held = _may_live(holder)
    if held:
        os.close(lock)
        raise UserError(
            f"workdir {path} is in use by {holder or 'another process'}; wait for it to end, or "
            f"use another workdir"
        )
    os.lseek(lock, 0, os.SEEK_SET)
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return lock


def _may_live(holder: str) -> bool:
    """Whether a process, as a lock file names it, may be alive; on another host nobody knows."""
    words = holder.split()
    if len(words) != 4 or not words[1].isdecimal():
        return False
    if words[3] != socket.gethostname():
        return True
    return pathlib.Path(f"/proc/{words[1]}").exists() or not pathlib.Path("/proc/self").exists()


def _release(lock: int) -> None:
    """Lets the directory go, and says of it that nobody holds it."""
    os.ftruncate(lock, 0)
    os.close(lock)


def _changes(stored: dict, now: dict) -> list[dict]:
    """The settings that a run was taken up again with, oldest first; tells of those of now."""
    then = stored["config"]
    changed = {
        name: [then[name], value]
        for name, value in now.items()
        if name != "workdir" and name in then and then[name] != value
    }
    before = stored.get("changes")
    before = before[-99:] if isinstance(before, list) else []
    if not changed:
        return before
    said = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
    print(f"settings changed: {said}", flush=True)
    return [*before, changed]


def _check_same(stored: dict, record: dict, fixed: dict[str, Any], path: pathlib.Path) -> None:
    """Names the settings of which a run was made with other values.

    One that the run's version did not have yet counts as its default in `fixed`, which does what
    was done before there was a choice.
    """
    if stored["experiment"] != record["experiment"]:
        raise UserError(f"{path} holds a run of {stored['experiment']}; use another workdir")
    then, now = {**fixed, **stored["config"]}, record["config"]
    different = [
        f"{name} is {then[name]} there, {now[name]} here"
        for name in fixed
        if then[name] != now[name]
    ]
    if stored["data"]["fingerprint"] != record["data"]["fingerprint"] and not different:
        different = ["the training data have changed"]
    if different:
        raise UserError(
            f"{path} holds a run with other settings: {'; '.join(different[:6])}; "
            "use another workdir, or the settings in its run.flags"
        )


def _entries(log: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a log and what they say; those that are cut off or damaged are left out."""
    found = []
    for line in log.read_text(errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if line.endswith("\n") and isinstance(entry, dict) and type(entry.get("step")) is int:
                found.append((line, entry))
    return found


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
