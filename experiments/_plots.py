"""Charts of measured numbers."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan.types import UserError

SIZE = 4.5  # inches a side of one chart
DPI = 110


class Line(NamedTuple):
    """One line of a chart, or with `joined=False` points.

    Attributes:
      x: [N].
      y: [N].
      half: [N] half widths of intervals of y, drawn as a band; None for none.
      names: [N] written beside the points; none for none.
      joined: whether a line joins them.
    """

    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] | None = None
    names: Sequence[str] = ()
    joined: bool = True


class Chart(NamedTuple):
    """One chart.

    Attributes:
      x: what the horizontal axis shows, with its unit.
      y: what the vertical one shows.
      lines: by the names of the legend.
      log_x: whether the horizontal axis is logarithmic.
    """

    x: str
    y: str
    lines: Mapping[str, Line]
    log_x: bool = False


def accuracies(
    path: pathlib.Path, rows: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """Draws accuracy against labels a class, a line for each way to train.

    Args:
      path: the picture to write.
      rows: what `_summary.rows` says, by name.
      names: of the ways.
    """
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows.values():
        classes = len(next(iter(row["arms"].values()))["recall"])
        for arm, numbers in row["arms"].items():
            mean, half = numbers["accuracy"]
            half = 0.0 if half is None or math.isnan(half) else half  # of one run: not known
            name = f"({arm}) {names[arm]}" if len(arm) == 1 else names[arm]
            at = row["examples"] / classes
            points.setdefault(name, []).append((at, 100 * mean, 100 * half))
    lines = {
        name: Line(*zip(*sorted(each), strict=True))  # pyright: ignore[reportArgumentType]
        for name, each in points.items()
    }
    draw(path, [Chart("labels a class", "accuracy on the test split, %", lines, log_x=True)])


def check() -> None:
    """Says now whether charts can be drawn, before the time is spent.

    Raises:
      UserError: the package for it is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            'a chart needs the package matplotlib: pip install "jaxgan[plots]"'
        ) from error


def draw(path: pathlib.Path, charts: Sequence[Chart]) -> None:
    """Draws charts side by side.

    Args:
      path: the picture to write, .png or another form that matplotlib knows.
      charts: from left to right.
    """
    check()
    from matplotlib import figure

    drawing = figure.Figure(figsize=(SIZE * len(charts), SIZE), dpi=DPI, layout="constrained")
    for axes, chart in zip(drawing.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        for number, (name, line) in enumerate(chart.lines.items()):
            shape, colour = ("o-" if line.joined else "s"), f"C{number % 10}"
            axes.plot(line.x, line.y, shape, color=colour, markersize=4, label=name)
            if line.half is not None:
                y, half = np.asarray(line.y), np.asarray(line.half)
                axes.fill_between(line.x, y - half, y + half, color=colour, alpha=0.2, linewidth=0)
            for text, x, y in zip(line.names, line.x, line.y, strict=False):
                axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set(xlabel=chart.x, ylabel=chart.y, **({"xscale": "log"} if chart.log_x else {}))
        if chart.log_x:
            at = sorted({x for line in chart.lines.values() for x in line.x})
            axes.set_xticks(at, [f"{x:g}" for x in at])
            axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    drawing.savefig(path)
