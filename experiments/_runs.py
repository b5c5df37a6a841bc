"""What `experiments.report` reads of a run directory: the record, logs, samples and scores.

Files alone: nothing is compiled, and the data need not be there. A run may be of an older version,
still training, or of an experiment that is not installed.
"""

import dataclasses
import importlib
import json
import math
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan import types
from jaxgan.run import history, rundir, summaries
from jaxgan.types import UserError

SAMPLE = re.compile(r"step_(\d{8,})\.(png|txt)")
MAX_FRAMES, MAX_POINTS, MAX_LINES = 24, 600, 40  # of a run's samples, of a curve, of text
MAX_BYTES = 2**24  # of a file of samples or scores


class Frame(NamedTuple):
    """Samples of one step: a picture, or lines."""

    step: int
    picture: pathlib.Path | None
    lines: tuple[str, ...]


class Event(NamedTuple):
    """Something that happened between two steps: an alarm, a rollback, a start or an end."""

    kind: str
    step: int
    until: int
    text: str
    time: str = ""


@dataclasses.dataclass(frozen=True)
class Story:
    """What a run directory tells.

    Attributes:
      path: the directory.
      record: its `config.json`.
      defaults: of the experiment's settings; None where it is not to be had.
      lines: of training, by column: "step", "seconds", "epoch" and metrics; NaN where missing.
      scores: the same of the evaluations during training, without "eval/".
      protocols: how these were measured, newest last.
      frames: samples, oldest first.
      real: a picture of training examples, if there is one.
      events: in order of their steps.
      sessions: lines of `history`; none of older runs.
      evaluation: `evaluation.json`; empty without.
      results: `results.json`; empty without.
      going: whether it seems to train now.
    """

    path: pathlib.Path
    record: Mapping[str, Any]
    defaults: Mapping[str, Any] | None
    lines: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    protocols: Sequence[str]
    frames: Sequence[Frame]
    real: pathlib.Path | None
    events: Sequence[Event]
    sessions: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any]
    results: Mapping[str, Any]
    going: bool

    @property
    def step(self) -> int:
        """The last step that anything is known of."""
        logged = [int(each["step"][-1]) for each in (self.lines, self.scores) if len(each["step"])]
        return max([*logged, *(frame.step for frame in self.frames)], default=0)

    @property
    def num_steps(self) -> int:
        """The step that it ends at, 0 where that is not known."""
        steps = self.record["config"].get("num_steps", 0)
        return steps if isinstance(steps, int) else 0

    @property
    def seconds(self) -> float:
        """Of training, NaN where that was not logged."""
        found = self.lines.get("seconds", np.empty(0))
        return float(np.nanmax(found)) if np.isfinite(found).any() else math.nan

    @property
    def rate(self) -> float:
        """Images a second, the median; NaN where that was not logged."""
        found = self.lines.get("images_per_second", np.empty(0))
        return statistics.median(
            found[np.isfinite(found)] if np.isfinite(found).any() else [math.nan]
        )


def read(workdir: str, *, module: str = "") -> Story:
    """Reads a run directory.

    Args:
      workdir: the directory.
      module: of its experiment, where that is not a bundled one.

    Returns:
      Its story.

    Raises:
      UserError: there is no run, nothing to report yet, or logs of another version.
    """
    path = pathlib.Path(workdir).expanduser()
    record = rundir.read_config(path)
    lines = rundir.read_metrics(path)
    log = path / "metrics.jsonl"
    if not lines and log.is_file() and log.stat().st_size > 0:
        raise UserError(
            f"{log} holds no line of this version's logs: each has a step; move it away"
        )
    frames, sessions = _frames(path / "samples"), history.read(path)
    if not lines and not frames:
        raise UserError(f"{workdir} holds neither samples nor logs yet; train past --sample_every")
    real = path / "samples" / "real.png"
    trained = [line for line in lines if not any(name.startswith("eval/") for name in line)]
    scored = [line for line in lines if any(name.startswith("eval/") for name in line)]
    table = _table(trained)
    return Story(
        path=path,
        record=record,
        defaults=_defaults(record, module),
        lines=table,
        scores=_scores(scored, table),
        protocols=list(dict.fromkeys(str(each.get("eval/protocol", "")) for each in scored)),
        frames=frames,
        real=real if real.is_file() else None,
        events=_events(trained, sessions, record),
        sessions=sessions,
        evaluation=_json(path / "evaluation.json"),
        results=_json(path / "results.json"),
        going=rundir.in_use(path),
    )


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Chooses items at even distances, the first and the last among them.

    Args:
      items: in order.
      most: how many at most, 2 or more.

    Returns:
      Some of them, in order.
    """
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _frames(folder: pathlib.Path) -> list[Frame]:
    """The samples in a folder; of a step with a picture and lines, the picture."""
    found: dict[int, pathlib.Path] = {}
    for path in sorted(folder.glob("step_*"), reverse=True):
        name = SAMPLE.fullmatch(path.name)
        if name and path.is_file() and path.stat().st_size <= MAX_BYTES:
            found[int(name[1])] = path
    frames = []
    for step in evenly(sorted(found), MAX_FRAMES):
        path = found[step]
        if path.suffix == ".png":
            frames.append(Frame(step, path, ()))
        else:
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()
            frames.append(Frame(step, None, tuple(line[:400] for line in text[:MAX_LINES])))
    return frames


def _table(lines: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Columns of the log: of each step the last line, of very many steps some."""
    by_step = {line["step"]: line for line in lines}
    chosen = [by_step[step] for step in evenly(sorted(by_step), MAX_POINTS)]
    names = dict.fromkeys(name for line in chosen for name in line)
    return {
        name: np.array([_number(line.get(name)) for line in chosen])
        for name in ("step", *names)
        if "/seed_" not in name and (name == "step" or any(is_number(x.get(name)) for x in chosen))
    }


def _scores(
    lines: Sequence[Mapping[str, Any]], trained: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Columns of the evaluations, at the times that the log of training has for their steps."""
    table = {name.removeprefix("eval/"): column for name, column in _table(lines).items()}
    for name in ("seconds", "epoch"):
        if name in trained and len(table["step"]):
            table[name] = np.interp(table["step"], trained["step"], trained[name])
    return table


def is_number(value: Any) -> bool:
    """Tells whether a value of a file is a number that can be drawn.

    Args:
      value: any.

    Returns:
      Whether it is one, finite and no truth value.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def _number(value: Any) -> float:
    return float(value) if is_number(value) else math.nan


def _events(
    lines: Sequence[Mapping[str, Any]],
    sessions: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
) -> list[Event]:
    """Alarms and dropped steps of the log, and what the history and the record tell."""
    found = _alarms(lines)
    for line in sessions:
        kind, step = str(line.get("event", "")), line["step"]
        text, at = str(line.get("why", "")), step
        if kind == "rollback":
            begun = re.match(r"step (\d{1,15})", text)
            at = int(begun[1]) if begun else step
            text = f"{text}; back to step {step}"
        elif kind == "start":
            text = f"{'resumed' if step else 'started'} on {line.get('devices', 'unknown devices')}"
        found.append(Event(kind, at, at, text, str(line.get("time", ""))))
    changes = record.get("changes", [])
    for change in changes if isinstance(changes, list) else []:
        if isinstance(change, dict):
            step = change.get("step", 0)
            names = {name: pair for name, pair in change.items() if name != "step"}
            text = ", ".join(f"{name} {_pair(pair)}" for name, pair in names.items())
            found.append(Event("settings", *(step if type(step) is int else 0,) * 2, text))
    return sorted(found, key=lambda event: (event.step, event.time))


def _pair(pair: Any) -> str:
    if isinstance(pair, list) and len(pair) == 2:
        return f"from {pair[0]} to {pair[1]}"
    return str(pair)


def _alarms(lines: Sequence[Mapping[str, Any]]) -> list[Event]:
    """The signs of collapse and the dropped steps of the log; those that last are one event."""
    found: list[Event] = []
    open_since, dropped = None, 0.0
    for line in lines:
        step, skipped = line["step"], _number(line.get("guard/skipped"))
        if _number(line.get("guard/alarms")) > 0:
            numbers = {name: float(x) for name, x in line.items() if is_number(x)}
            text = line.get("guard/signs") or "; ".join(summaries.alarms(numbers))
            text = str(text) or "signs of collapse"  # of older runs with several seeds
            if open_since is not None and found[-1].kind == "alarm":
                found[-1] = found[-1]._replace(until=step)
            else:
                found.append(Event("alarm", step, step, text))
            open_since = step
        else:
            open_since = None
        if skipped > dropped:
            found.append(Event("dropped", step, step, f"{skipped - dropped:g} steps were dropped"))
            dropped, open_since = skipped, None
    return found


def _json(path: pathlib.Path) -> dict[str, Any]:
    """A file of scores; empty where there is none that can be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _defaults(record: Mapping[str, Any], module: str) -> dict[str, Any] | None:
    """The settings that the experiment has by default, where it is installed."""
    name = module or record["experiment"]
    # A record is data: it may choose among the experiments, not import whatever it likes.
    if not module and not re.fullmatch(r"experiments\.[a-z]\w*", name):
        return None
    try:
        config = importlib.import_module(name).Config
    except (ImportError, AttributeError) as error:
        if module:
            raise UserError(f"--module={module} has no Config: {types.one_line(error)}") from error
        return None
    return {field.name: field.default for field in dataclasses.fields(config)}
