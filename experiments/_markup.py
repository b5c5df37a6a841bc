"""Pieces of HTML for the page of `experiments.report`; what they are given is escaped."""

import html
import json
import math
from collections.abc import Sequence
from typing import Any

from experiments import _uris


def as_json(value: Any) -> str:
    """Writes data for a script block of a page, which it cannot end.

    Args:
      value: of dicts, lists, text and numbers.

    Returns:
      JSON; numbers that are not finite are null.
    """
    text = json.dumps(_finite(value), separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def image(picture: _uris.Picture, alt: str, *, more: str = "", fine: int = 400) -> str:
    """Makes an image.

    Args:
      picture: what it shows.
      alt: that in words.
      more: further classes.
      fine: pixels a side up to which it is enlarged pixel by pixel.

    Returns:
      HTML.
    """
    width, height = picture.width, picture.height
    names = ["shown", *(["fine"] if max(width, height) <= fine else []), *([more] if more else [])]
    return (
        f'<img class="{" ".join(names)}" src="{picture.uri}" width="{width}" height="{height}" '
        f'alt="{html.escape(alt)}">'
    )


def table(
    rows: Sequence[tuple[str, Sequence[str]]],
    labels: Sequence[str],
    *,
    mark: bool = True,
    number: bool = False,
) -> str:
    """Makes a table of a row a fact and a column a run.

    Args:
      rows: (fact, its value in each run).
      labels: of the runs; those of a single one are left out, but over numbers.
      mark: whether rows in which runs differ are marked.
      number: whether these are numbers, to be set in columns.

    Returns:
      HTML.
    """
    kind = ' class="number"' if number else ""
    head = ""
    if len(labels) > 1 or number:
        names = "".join(f"<th scope='col'{kind}>{html.escape(label)}</th>" for label in labels)
        head = f"<thead><tr><td></td>{names}</tr></thead>"
    lines = []
    for name, values in rows:
        differs = ' class="differs"' if mark and not number and len(set(values)) > 1 else ""
        cells = "".join(f"<td{kind}>{html.escape(value)}</td>" for value in values)
        lines.append(f"<tr{differs}><th scope='row'>{html.escape(name)}</th>{cells}</tr>")
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def caption(labels: Sequence[str], number: int, more: str = "") -> str:
    """Makes the caption of a figure: the run's name and colour, where there are several.

    Args:
      labels: of the runs.
      number: which one it is of.
      more: what else it says, HTML.

    Returns:
      HTML.
    """
    if len(labels) == 1:
        return f"<figcaption>{more}</figcaption>" if more else ""
    swatch = f'<span class="swatch" style="background:var(--c{number % 6})"></span>'
    return f"<figcaption>{swatch}<b>{html.escape(labels[number])}</b> {more}</figcaption>"
