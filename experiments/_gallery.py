"""What was made of checkpoints, as figures for the page of `experiments.report`."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

from experiments import _markup, _uris
from experiments._exhibits import Exhibits, Neighbours


def pairs(made: Sequence[Exhibits], labels: Sequence[str], *, most: int) -> str:
    """Lays out images before and after, each with a slider between the two.

    Args:
      made: of each run.
      labels: their names.
      most: bytes of a run's, about.

    Returns:
      HTML; empty where there are none.
    """
    figures = [
        _pair(pair, labels, number, row, most // (len(pair) * len(of.pairs)))
        for number, of in enumerate(made)
        for row, pair in enumerate(of.pairs)
    ]
    if not figures:
        return ""
    lead = "<p>Drag a slider, or use the arrow keys, to uncover what the generator made.</p>"
    return lead + f'<div class="pairs">{"".join(figures)}</div>'


def _pair(
    pair: Mapping[str, np.ndarray], labels: Sequence[str], number: int, row: int, most: int
) -> str:
    """One image before and after, and what else there is of it."""
    images = {
        name: _markup.image(
            _uris.of_array(image, most=most),
            f"{name}, picture {row + 1}",
            more="after" if place == 1 else "",
            fine=64,
        )
        for place, (name, image) in enumerate(pair.items())
    }
    (before, first), (after, second), *rest = images.items()
    what = html.escape(f"Picture {row + 1}: {before} on the left, {after} on the right")
    other = "".join(
        f'<div>{image}<span class="soft">{html.escape(name)}</span></div>' for name, image in rest
    )
    return (
        f"<figure>{_markup.caption(labels, number, what)}"
        f'<div class="row"><div><div class="compare">{first}{second}</div>'
        f'<input type="range" class="cut" id="cut-{number}-{row}" min="0" max="100" value="50" '
        f'aria-label="{what}"></div>{other}</div></figure>'
    )


def interpolations(made: Sequence[Exhibits], labels: Sequence[str], *, most: int) -> str:
    """Shows pictures whose rows lead from one sample to another.

    Args:
      made: of each run.
      labels: their names.
      most: bytes of a run's, about.

    Returns:
      HTML; empty where there are none.
    """
    figures = []
    for number, of in enumerate(made):
        if of.interpolations is not None:
            what = f"Each row leads from one sample to another; step {of.step:,}"
            picture = _uris.of_array(of.interpolations, most=most)
            image = _markup.image(picture, f"Grid of samples of {labels[number]}. {what}")
            figures.append(f"<figure>{_markup.caption(labels, number, what)}{image}</figure>")
    return f'<div class="runs">{"".join(figures)}</div>' if figures else ""


def neighbours(made: Sequence[Exhibits], labels: Sequence[str], *, most: int) -> str:
    """Shows samples beside the training examples nearest to them, and what could not be made.

    Args:
      made: of each run.
      labels: their names.
      most: bytes of a run's, about.

    Returns:
      HTML; empty where there is neither.
    """
    parts = []
    for number, of in enumerate(made):
        notes = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in of.notes)
        content = (_near(of.near, most) if of.near else "") + notes
        heading = f"<h3>{html.escape(labels[number])}</h3>" if len(labels) > 1 else ""
        parts.append(heading + content if content else "")
    return "".join(parts)


def _near(near: Neighbours, most: int) -> str:
    """Samples, each beside the training examples nearest to it."""
    lead = (
        "<p>A generator that copies its training data shows itself here: the first of each row is "
        f"a sample, the others the training examples nearest to it. {html.escape(near.text)}</p>"
    )
    if not isinstance(near.samples, np.ndarray):
        return lead + _near_lines(near)
    num, k = near.distance.shape
    each, sets = max(2000, most // (num * (k + 1))), []
    for sample, nearest, distance in zip(near.samples, near.nearest, near.distance, strict=True):
        cells = [_cell(sample, "sample", f"Sample {len(sets) + 1}", each)]
        cells += [
            _cell(x, f"{d:.1f}", f"Training example at distance {d:.1f}", each)
            for x, d in zip(nearest, distance, strict=True)
        ]
        sets.append(f'<div class="set">{"".join(cells)}</div>')
    return f'{lead}<div class="near">{"".join(sets)}</div>'


def _cell(image: np.ndarray, text: str, alt: str, most: int) -> str:
    return f"<div>{_markup.image(_uris.of_array(image, most=most), alt)}{text}</div>"


def _near_lines(near: Neighbours) -> str:
    """Sentences, each beside the nearest one."""
    rows = [
        f"<tr><td>{html.escape(line)}</td><td>{html.escape(lines[0])}</td>"
        f'<td class="number">{distance[0]:g}</td></tr>'
        for line, lines, distance in zip(near.samples, near.nearest, near.distance, strict=True)
    ]
    head = '<th>sample</th><th>nearest training example</th><th class="number">differ</th>'
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
