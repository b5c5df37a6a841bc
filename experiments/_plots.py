"""A picture of accuracy against labels a class, with bands; drawn by Pillow alone."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan import images

SIZE, SCALE = (720, 480), 2  # drawn larger and scaled down: smooth lines
LEFT, TOP, RIGHT, BOTTOM = 70, 20, 20, 60
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


def draw(lines: Mapping[str, Line], *, x: str, y: str) -> np.ndarray:
    """Draws lines over a logarithmic axis, each with its band.

    Args:
      lines: points by name, in the order of x.
      x: name of the horizontal axis.
      y: name of the vertical one.

    Returns:
      [480, 720, 3] uint8.
    """
    width, height = (SCALE * side for side in SIZE)
    low, high = _range(lines)
    xs = sorted({point[0] for line in lines.values() for point in line})
    first, last = math.log(xs[0]), math.log(xs[-1])
    box = SCALE * LEFT, SCALE * TOP, width - SCALE * RIGHT, height - SCALE * BOTTOM

    def place(at: float, value: float) -> tuple[float, float]:
        share = 0.5 if first == last else (math.log(at) - first) / (last - first)
        up = (min(max(value, low), high) - low) / (high - low)
        inner = box[2] - box[0] - 40 * SCALE
        return box[0] + 20 * SCALE + share * inner, box[3] - up * (box[3] - box[1])

    picture = Image.new("RGBA", (width, height), "white")
    for (_, line), colour in zip(lines.items(), COLOURS, strict=False):
        band = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        edge = [place(at, v + h) for at, v, h in line]
        edge += [place(at, v - h) for at, v, h in reversed(line)]
        canvas = ImageDraw.Draw(band)
        if len(line) > 1:
            canvas.polygon(edge, fill=colour + "30")
        for number in range(len(line)):  # a row by itself has a bar
            canvas.line([edge[number], edge[-1 - number]], fill=colour + "80", width=2 * SCALE)
        picture = Image.alpha_composite(picture, band)
    canvas = ImageDraw.Draw(picture)
    for (_, line), colour in zip(lines.items(), COLOURS, strict=False):
        points = [place(at, value) for at, value, _ in line]
        canvas.line(points, fill=colour, width=2 * SCALE)
        for px, py in points:
            canvas.ellipse([px - 6, py - 6, px + 6, py + 6], fill=colour)
    _axes(canvas, box, place, xs, (low, high), x, y)
    _legend(canvas, box, list(lines))
    return np.asarray(picture.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))


def _range(lines: Mapping[str, Line]) -> tuple[float, float]:
    """Limits of the vertical axis: those of the means and bands, to whole fives within 0..100."""
    ends = [
        value for line in lines.values() for _, y, half in line for value in (y - half, y + half)
    ]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    step = 5.0 if high - low > 10 else 1.0
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    return low, high if high > low else low + step


def _axes(canvas: Any, box: Any, place: Any, xs: Any, ends: Any, x: str, y: str) -> None:
    """The frame, its numbers and what they are."""
    font, low, high = _font(13), *ends
    canvas.rectangle(box, outline="#999999", width=SCALE)
    steps = 5
    for number in range(steps + 1):
        value = low + (high - low) * number / steps
        _, py = place(xs[0], value)
        canvas.line([box[0] - 8, py, box[0], py], fill="#999999", width=SCALE)
        canvas.text((box[0] - 14, py), f"{value:g}", fill="black", font=font, anchor="rm")
    for value in xs:
        px, _ = place(value, low)
        canvas.line([px, box[3], px, box[3] + 8], fill="#999999", width=SCALE)
        canvas.text((px, box[3] + 14), f"{value:g}", fill="black", font=font, anchor="mt")
    middle = (box[0] + box[2]) / 2
    canvas.text((middle, box[3] + 34 * SCALE), x, fill="black", font=font, anchor="mt")
    canvas.text((box[0] + 8 * SCALE, box[1] + 6 * SCALE), y, fill="black", font=font, anchor="lt")


def _legend(canvas: Any, box: Any, names: Sequence[str]) -> None:
    font = _font(12)
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        py = box[3] - SCALE * (12 + 17 * (len(names) - 1 - number))
        px = box[2] - SCALE * 230
        canvas.line([px, py, px + 18 * SCALE, py], fill=colour, width=3 * SCALE)
        canvas.text((px + 24 * SCALE, py), name, fill="black", font=font, anchor="lm")


def _font(size: int) -> Any:
    return ImageFont.load_default(SCALE * size)
