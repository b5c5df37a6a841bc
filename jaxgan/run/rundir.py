"""The run directory: its lock, the settings of the run, and its logs.

config.json     every setting of the run, and which of them were changed at which step
run.flags       the same settings as a flagfile, without the directory itself
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
from jaxgan.run import cli, manifest
from jaxgan.types import UserError

# Written after config.json: without that they belong to something else and stay untouched.
OURS = ("run.flags", "metrics.jsonl", "tensorboard", "samples", "checkpoints")
WRITTEN = ("config.json", "run.flags", "metrics.jsonl", "results.json")
MAX_LOG_BYTES = 2**27  # half a million lines


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
        self._events: SummaryWriter | None = None
        self._main = main
        if not main:
            return
        self._config = config
        self._record = {
            "experiment": experiment,
            "jaxgan": __version__,
            "data": dict(data),
            "config": dataclasses.asdict(config),
        }
        self._locked = _lock(self.path)
        try:
            self._stored = self._check_record(upgraded)
            if self._stored is None:
                self._write_record([])
        except BaseException:
            _release(self._locked)
            raise

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
        if self._stored is not None:
            self._write_record(_changes(self._stored, self._record["config"], step))
            self._stored = None  # recorded once: a rollback changes no setting
        log, seconds = self.path / "metrics.jsonl", 0.0
        if log.exists():
            kept = [(line, entry) for line, entry in _entries(log) if entry["step"] <= step]
            _replace(log, "".join(line for line, _ in kept))
            seconds = max((_number(entry.get("seconds")) for _, entry in kept), default=0.0)
        if self._events is not None:
            self._events.close()  # of a run that was rolled back
        self._events = SummaryWriter(
            str(self.path / "tensorboard"), purge_step=step + 1 if step else None
        )
        return seconds

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
        """Writes the logs to disk and unlocks the directory."""
        if self._events is not None:
            self._events.close()
        if self._main:
            _release(self._locked)

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
            _check_same(stored, self._record, fixed, self.path)
            check_change = getattr(self._config, "check_change", lambda before: None)
            check_change({**{f.name: f.default for f in fields}, **stored["config"]})
            return stored
        if found := [name for name in OURS if (self.path / name).exists()]:
            raise UserError(
                f"{self.path} holds {found[0]} without config.json; use another workdir"
            )
        return None

    def _write_record(self, changes: list[dict]) -> None:
        """Writes the settings as JSON and as a flagfile."""
        record = {**self._record, **({"changes": changes} if changes else {})}
        _replace(self.path / "config.json", json.dumps(record, indent=2) + "\n")
        module = record["experiment"]
        use = f"# python -m {module} --flagfile=run.flags --workdir=DIRECTORY\n"
        _replace(self.path / "run.flags", use + cli.as_flags(self._config, without=("workdir",)))


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the record of a run.

    Args:
      path: its run directory.

    Returns:
      {"experiment", "jaxgan", "data": {"fingerprint", ...}, "config": {setting: value}}, and where
      settings were changed "changes": [{"step": step, setting: [old, new]}], oldest first, without
      the step where an older version recorded the change.

    Raises:
      UserError: there is no run, or its record cannot be read.
    """
    file = pathlib.Path(path) / "config.json"
    if not os.path.lexists(file):
        raise UserError(f"{path} holds no run: there is no config.json in it")
    try:
        record = manifest.read_json(file)
        if isinstance(record["config"], dict) and isinstance(record["data"]["fingerprint"], str):
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
    log = pathlib.Path(path) / "metrics.jsonl"
    if log.exists() and not (log.is_file() and log.stat().st_size <= MAX_LOG_BYTES):
        raise UserError(f"{log} is not the log of a run; move it away")
    return [entry for _, entry in _entries(log)] if log.exists() else []


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
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
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
    """Unlocks the directory and empties its lock file."""
    os.ftruncate(descriptor, 0)
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


def _changes(stored: dict, settings: dict, step: int) -> list[dict]:
    """The recorded changes of settings with those made now, oldest first; prints the latter."""
    then = stored["config"]
    changed = {
        name: [then[name], value]
        for name, value in settings.items()
        if name != "workdir" and name in then and then[name] != value
    }
    before = stored.get("changes")
    before = before[-99:] if isinstance(before, list) else []
    if not changed:
        return before
    said = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
    print(f"settings changed: {said}", flush=True)
    return [*before, {"step": step, **changed}]


def _check_same(stored: dict, record: dict, fixed: dict[str, Any], path: pathlib.Path) -> None:
    """Refuses settings that may not change in a run, and names them.

    A setting that the version of the run did not have yet counts as its default in `fixed`, which
    is what that version did.
    """
    if stored["experiment"] != record["experiment"]:
        raise UserError(f"{path} holds a run of {stored['experiment']}; use another workdir")
    then, settings = {**fixed, **stored["config"]}, record["config"]
    different = [
        f"{name} is {then[name]} there, {settings[name]} here"
        for name in fixed
        if then[name] != settings[name]
    ]
    if stored["data"]["fingerprint"] != record["data"]["fingerprint"] and not different:
        different = ["the training data have changed"]
    if different:
        raise UserError(
            f"{path} holds a run with other settings: {'; '.join(different[:6])}; "
            "use another workdir, or the settings in its run.flags"
        )


def _entries(log: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a log and their content, without those that are cut off or damaged."""
    found = []
    for line in log.read_text(errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if line.endswith("\n") and isinstance(entry, dict) and type(entry.get("step")) is int:
                found.append((line, entry))
    return found


def _number(value: Any) -> float:
    """A number of a log's line, which may be anything; 0 for all else."""
    return float(value) if type(value) in (int, float) and np.isfinite(value) else 0.0


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a whole file atomically."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
