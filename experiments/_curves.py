"""Which curves the page of `experiments.report` draws, and their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import _scored
from experiments._runs import Story

NOT_DRAWN = {"step", "seconds", "epoch"}
TOGETHER = {  # metrics of a scale, in one chart
    "losses": ("disc/loss", "gen/loss"),
    "D's outputs for real and generated examples": ("disc/real", "disc/fake"),
}
FIRST = (*TOGETHER, "disc/accuracy", "gen/diversity")  # open as the page opens


def charts(stories: Sequence[Story], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Chooses the charts.

    Args:
      stories: of the runs.
      labels: their names.

    Returns:
      Of each chart "title", "kind" ("train" or "eval"), the "names" of its metrics, "alt": what it
      shows in words, and "first": whether it is open at once. Scores come first.
    """
    found = []
    for kind, tables in (
        ("eval", [story.scores for story in stories]),
        ("train", [story.lines for story in stories]),
    ):
        names = dict.fromkeys(name for table in tables for name in table)
        left = [name for name in names if name not in NOT_DRAWN and not name.endswith("/interval")]
        groups = _with_input(left)
        if kind == "train":
            together = {title: tuple(x for x in of if x in left) for title, of in TOGETHER.items()}
            taken = {name for of in together.values() for name in of}
            groups = {title: of for title, of in together.items() if of}
            groups |= {name: (name,) for name in left if name not in taken}
        found += [
            {
                "title": title,
                "kind": kind,
                "names": list(of),
                "alt": _told(title, of, tables, labels),
                "first": title in FIRST or kind == "eval" and number < 6,
            }
            for number, (title, of) in enumerate(groups.items())
        ]
    return found


def _with_input(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Scores, each in a chart with that of the input; floors are lines of their own."""
    companions = {
        _scored.beside(name, what, names) for name in names for what in _scored.COMPANIONS
    }
    return {
        name: tuple(filter(None, (name, _scored.beside(name, "input", names))))
        for name in names
        if name not in companions
    }


def columns(table: Mapping[str, np.ndarray]) -> dict[str, list[float | int]]:
    """Writes columns of a log for the page, with five digits.

    Args:
      table: by name, [N] each.

    Returns:
      The same as lists; empty where there are no lines.
    """
    if not len(table["step"]):
        return {}
    found: dict[str, list[float | int]] = {"step": [int(step) for step in table["step"]]}
    for name, column in table.items():
        if name != "step":
            found[name] = [float(f"{x:.5g}") for x in column]
    return found


def _told(
    title: str,
    names: Sequence[str],
    tables: Sequence[Mapping[str, np.ndarray]],
    labels: Sequence[str],
) -> str:
    """What a chart shows, for those who do not see it."""
    told = []
    for table, label in zip(tables, labels, strict=True):
        for name in names:
            values = table.get(name, np.empty(0))
            known = np.flatnonzero(np.isfinite(values)) if len(values) else []
            if not len(known):
                continue
            first, last = known[0], known[-1]
            of = f"{label} " if len(labels) > 1 else ""
            step = table["step"]
            told.append(
                f"{of}{name} from {values[first]:.4g} at step {step[first]:.0f} to "
                f"{values[last]:.4g} at step {step[last]:.0f}, lowest {np.nanmin(values):.4g}, "
                f"highest {np.nanmax(values):.4g}"
            )
    return f"Chart of {title}: {'; '.join(told)}." if told else f"Chart of {title}."
