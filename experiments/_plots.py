"""A picture of accuracy against labels a class, with bands; drawn by Pillow alone."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan import images

SIZE, SCALE = (900, 460), 2  # drawn larger and scaled down: smooth lines
LEFT, TOP, RIGHT, BOTTOM = 60, 30, 250, 60  # of the frame; the names stand on its right
DODGE = 5  # pixels between the arms of one row
COLOURS = ("#555555", "#1f77b4", "#d62728", "#9467bd", "#ff7f0e", "#2ca02c", "#8c564b", "#17becf")

Line = Sequence[tuple[float, float, float]]  # x above 0, y, half of the band


def accuracies(
    path: str | os.PathLike, rows: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """Draws what the rows of `_summary.rows` say.

    Args:
      path: of the PNG file.
      rows: by name.
      names: of the arms.
    """
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows.values():
        classes = len(next(iter(row["arms"].values()))["recall"])
        for arm, numbers in row["arms"].items():
            mean, half = numbers["accuracy"]
            half = 0.0 if half is None or math.isnan(half) else half
            point = (row["examples"] / classes, 100 * mean, 100 * half)
            label = f"({arm}) {names[arm]}" if len(arm) == 1 else names[arm]
            lines.setdefault(label, []).append(point)
    ordered = {name: sorted(line) for name, line in lines.items()}
    picture = draw(ordered, x="labels a class", y="accuracy on the test split, %")
    images.save_png(pathlib.Path(path), picture)


class _Frame:
    """Where values stand in the picture."""

    def __init__(self, lines: Mapping[str, Line]):
        width, height = (SCALE * side for side in SIZE)
        self.xs = sorted({point[0] for line in lines.values() for point in line})
        self.ticks = ticks(*_ends(lines))
        self.box = SCALE * LEFT, SCALE * TOP, width - SCALE * RIGHT, height - SCALE * BOTTOM
        self._middle = (len(lines) - 1) / 2

    def place(self, at: float, value: float, number: float | None = None) -> tuple[float, float]:
        """Pixels of a value; those of several lines at one x stand beside each other."""
        left, top, right, bottom = self.box
        first, last = math.log(self.xs[0]), math.log(self.xs[-1])
        share = 0.5 if first == last else (math.log(at) - first) / (last - first)
        low, high = self.ticks[0], self.ticks[-1]
        up = (min(max(value, low), high) - low) / (high - low)
        aside = 0.0 if number is None else SCALE * DODGE * (number - self._middle)
        inner, margin = right - left - 60 * SCALE, 30 * SCALE
        return left + margin + share * inner + aside, bottom - up * (bottom - top)


def draw(lines: Mapping[str, Line], *, x: str, y: str) -> np.ndarray:
    """Draws lines over a logarithmic axis, each with its band.

    Args:
      lines: points by name, in the order of x.
      x: name of the horizontal axis.
      y: name of the vertical one.

    Returns:
      [460, 900, 3] uint8.
    """
    frame = _Frame(lines)
    picture = Image.new("RGBA", (SCALE * SIZE[0], SCALE * SIZE[1]), "white")
    _axes(ImageDraw.Draw(picture), frame, x, y)
    for number, line in enumerate(lines.values()):
        picture = Image.alpha_composite(picture, _band(picture.size, frame, number, line))
    canvas = ImageDraw.Draw(picture)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [frame.place(at, value, number) for at, value, _ in line]
        canvas.line(points, fill=colour, width=2 * SCALE)
        for px, py in points:
            canvas.ellipse([px - 6, py - 6, px + 6, py + 6], fill=colour)
        px, py = frame.box[2] + 16 * SCALE, frame.box[1] + SCALE * (10 + 20 * number)
        canvas.line([px, py, px + 18 * SCALE, py], fill=colour, width=3 * SCALE)
        canvas.text((px + 26 * SCALE, py), name, fill="black", font=_font(13), anchor="lm")
    return np.asarray(picture.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))


def _band(size: tuple[int, int], frame: _Frame, number: int, line: Line) -> Image.Image:
    """A line's band, and a bar at each of its points, half transparent."""
    layer, colour = Image.new("RGBA", size, (0, 0, 0, 0)), COLOURS[number % len(COLOURS)]
    canvas = ImageDraw.Draw(layer)
    upper = [frame.place(at, value + half, number) for at, value, half in line]
    lower = [frame.place(at, value - half, number) for at, value, half in line]
    if len(line) > 1:
        canvas.polygon([*upper, *reversed(lower)], fill=colour + "28")
    for above, below in zip(upper, lower, strict=True):
        canvas.line([above, below], fill=colour + "90", width=2 * SCALE)
    return layer


def _ends(lines: Mapping[str, Line]) -> tuple[float, float]:
    """The lowest and the highest end of a band, between 0 and 100."""
    every = [point for line in lines.values() for point in line]
    low, high = min(y - half for _, y, half in every), max(y + half for _, y, half in every)
    return max(0.0, low), min(100.0, high)


def ticks(low: float, high: float, *, most: int = 8) -> list[float]:
    """Chooses round numbers for an axis.

    Args:
      low: the smallest value.
      high: the largest.
      most: steps between them.

    Returns:
      Ascending, from `low` or below to `high` or above.
    """
    width = max(high - low, 1e-3) / most
    power = 10.0 ** math.floor(math.log10(width))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= width)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 9) for number in range(first, max(last, first + 1) + 1)]


def _axes(canvas: Any, frame: _Frame, x: str, y: str) -> None:
    """The frame, its numbers and what they are."""
    left, top, right, bottom = frame.box
    font = _font(13)
    for value in frame.ticks:
        _, py = frame.place(frame.xs[0], value)
        canvas.line([left, py, right, py], fill="#e5e5e5", width=SCALE)
        canvas.text((left - 14, py), f"{value:g}", fill="black", font=font, anchor="rm")
    for value in frame.xs:
        px, _ = frame.place(value, 0)
        canvas.line([px, bottom, px, bottom + 8], fill="#999999", width=SCALE)
        canvas.text((px, bottom + 14), f"{value:g}", fill="black", font=font, anchor="mt")
    canvas.rectangle(frame.box, outline="#999999", width=SCALE)
    middle = (left + right) / 2, bottom + 34 * SCALE
    canvas.text(middle, x, fill="black", font=font, anchor="mt")
    canvas.text((left, top - 8 * SCALE), y, fill="black", font=font, anchor="lb")


def _font(size: int) -> Any:
    return ImageFont.load_default(SCALE * size)
