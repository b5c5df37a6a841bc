"""What the page of `experiments.report` says of runs in words and numbers."""

import datetime
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from experiments._exhibits import Exhibits
from experiments._runs import Story

Row = tuple[str, list[str]]  # what, and of each run
UNKNOWN = "not recorded"
OF_THIS_MACHINE = ("workdir", "process_id", "num_processes", "coordinator_address", "dry_run")


def labels(paths: Sequence[pathlib.Path]) -> list[str]:
    """Names runs by as much of the end of their paths as tells them apart.

    Args:
      paths: of the run directories.

    Returns:
      A name each.
    """
    whole = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number + 1})" for number, path in enumerate(paths)]


def today() -> str:
    """The date and the time.

    Returns:
      "2026-11-28 17:05".
    """
    return datetime.datetime.now().strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Writes a time for people.

    Args:
      seconds: how long.

    Returns:
      "2 h 05 min", "4 min 10 s" or "7.2 s".
    """
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def sentence(story: Story) -> str:
    """Says what a run is, and how far.

    Args:
      story: of the run.

    Returns:
      A sentence or two.
    """
    config, task = story.record["config"], story.record["experiment"].rpartition(".")[2]
    about = config.get("dataset") or config.get("mixture") or config.get("task")
    what = f"{task} on {about}" if about and about != task else task
    seeds = config.get("seeds", 1)
    several = f", {seeds} seeds at once" if isinstance(seeds, int) and seeds > 1 else ""
    return f"{what}{several}: {state(story)}."


def state(story: Story) -> str:
    """Says how far a run is.

    Args:
      story: of the run.

    Returns:
      Such as "still training, step 500 of 2,000".
    """
    reached = f"step {story.step:,}"
    if story.num_steps and story.step >= story.num_steps:
        return f"finished at {reached}"
    of = f"{reached} of {story.num_steps:,}" if story.num_steps else reached
    return f"still training, {of}" if story.going else f"ended before its last step, {of}"


def overview(stories: Sequence[Story], exhibits: Sequence[Exhibits]) -> list[Row]:
    """What was trained, on what, how long and how fast.

    Args:
      stories: of the runs.
      exhibits: of their checkpoints.

    Returns:
      A row a fact.
    """
    each = [_overview(*pair) for pair in zip(stories, exhibits, strict=True)]
    rows = [(name, [of[name] for of in each]) for name in each[0]]
    lost = [name for name, values in rows if set(values) == {UNKNOWN}]
    found = [row for row in rows if row[0] not in lost]
    if lost:
        found.append((UNKNOWN, [", ".join(lost)] * len(each)))  # of runs of older versions
    return found


def _overview(story: Story, made: Exhibits) -> dict[str, str]:
    """The facts of one run."""
    record, starts = story.record, [x for x in story.sessions if x.get("event") == "start"]
    ends = [line for line in story.sessions if line.get("event") == "end"]
    machine = starts[-1] if starts else {}
    versions = machine.get("versions")
    versions = versions if isinstance(versions, dict) else {"jaxgan": record.get("jaxgan", "?")}
    processes = machine.get("processes", 1)
    devices = str(machine.get("devices", UNKNOWN))
    return {
        "experiment": record["experiment"],
        "state": state(story),
        "data": _data(record["data"]),
        "generator": f"{made.parameters:,} parameters" if made.parameters else "not loaded",
        "devices": devices + (f", {processes} processes" if processes != 1 else ""),
        "training time": duration(story.seconds),
        "speed (median)": _speed(story),
        "peak memory": _memory(ends),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "system": str(machine.get("system", UNKNOWN)),
        "started": str(starts[0].get("time", UNKNOWN))[:16].replace("T", " ")
        if starts
        else UNKNOWN,
        "checkpoint shown": f"step {made.step:,}" if made.step >= 0 else "none",
    }


def _speed(story: Story) -> str:
    """Examples a second."""
    if not math.isfinite(story.rate):
        return UNKNOWN
    shapes = story.record["data"].get("shapes")
    of_text = isinstance(shapes, dict) and "text" in shapes
    number = f"{story.rate:,.0f}" if story.rate >= 100 else f"{story.rate:.3g}"
    return f"{number} {'texts' if of_text else 'images'}/s"


def _data(record: Mapping[str, Any]) -> str:
    """The training data in words."""
    num, classes = record.get("num_examples"), record.get("num_classes")
    shapes = record.get("shapes")
    parts = [f"{num:,} examples"] if isinstance(num, int) and num else []
    if isinstance(shapes, dict):
        parts += [
            f"{k} {' x '.join(map(str, v))}" for k, v in shapes.items() if v and isinstance(v, list)
        ]
    parts += [f"{classes} classes"] if isinstance(classes, int) and classes else []
    return ", ".join([*parts, f"fingerprint {record.get('fingerprint', '?')}"])


def _memory(ends: Sequence[Mapping[str, Any]]) -> str:
    """The most memory of a run's processes, as its ends noted it."""
    parts = []
    for name, what in (("device_bytes", "of the device"), ("host_bytes", "of the host")):
        found = [line[name] for line in ends if isinstance(line.get(name), int)]
        if found:
            parts.append(f"{max(found) / 2**20:,.0f} MiB {what}")
    return ", ".join(parts) or UNKNOWN


def settings(stories: Sequence[Story]) -> tuple[list[Row], list[Row], str]:
    """Divides the settings of runs into those that say something and the others.

    Args:
      stories: of the runs.

    Returns:
      Of several runs those in which they differ, of one those that are not the experiment's
      defaults; the others; and a sentence.
    """
    configs = [story.record["config"] for story in stories]
    names = [name for name in dict.fromkeys(n for c in configs for n in c) if name != "workdir"]
    rows = [(name, [_written(c[name]) if name in c else "-" for c in configs]) for name in names]
    if len(stories) > 1:
        differ = [row for row in rows if len(set(row[1])) > 1]
        same = [row for row in rows if len(set(row[1])) == 1]
        if not differ:
            return [], rows, "All settings of these runs are the same."
        return differ, same, "The runs differ in:"
    defaults = stories[0].defaults
    if defaults is None:
        return (
            rows,
            [],
            "All settings; the experiment is not installed, so its defaults are unknown.",
        )
    own = [name for name in names if name not in defaults or configs[0][name] != defaults[name]]
    lead = "Set for this run; the others are the experiment's defaults."
    return [r for r in rows if r[0] in own], [r for r in rows if r[0] not in own], lead


def command(story: Story) -> tuple[str, list[str]]:
    """Writes the command that reproduces a run.

    Args:
      story: of the run.

    Returns:
      The command with every setting that is not a default, and what else must be known.
    """
    config, defaults = story.record["config"], story.defaults or {}
    flags = [
        f"--{name}={_written(value)}"
        for name, value in config.items()
        if name not in OF_THIS_MACHINE and (name not in defaults or value != defaults[name])
    ]
    module = story.record["experiment"]
    words = [f"python -m {shlex.quote(module)}", *map(shlex.quote, flags), "--workdir=DIRECTORY"]
    version = story.record.get("jaxgan", "?")
    notes = [
        f"With jaxgan {version} and data of the fingerprint "
        f"{story.record['data'].get('fingerprint', '?')}; the same devices and versions give the "
        "same bits, others the same up to rounding. run.flags in the run directory holds every "
        "setting: --flagfile=run.flags."
    ]
    if any(event.kind == "settings" for event in story.events):
        notes.append("Settings were changed on the way; see What happened for the steps.")
    for name in ("fork_from", "init_from"):
        if config.get(name):
            notes.append(f"It begins with another run: {config[name]}.")
    return " \\\n    ".join(words), notes


def _written(value: Any) -> str:
    return str(value)
