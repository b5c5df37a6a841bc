"""The samples of runs over time, for the page of `experiments.report`."""

import dataclasses
import functools
import html
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments import _markup, _uris
from experiments._runs import Story
from jaxgan.types import UserError

LARGEST = 400_000  # bytes of one grid


@dataclasses.dataclass(frozen=True)
class Shown:
    """Samples of one step as the page shows them.

    Attributes:
      step: of training.
      alt: what is seen, in words.
      picture: of them, or None.
      lines: the samples, where they are text.
    """

    step: int
    alt: str
    picture: _uris.Picture | None = None
    lines: tuple[str, ...] = ()

    def for_script(self, *, here: bool) -> dict[str, Any]:
        """Makes what the page's script takes.

        Args:
          here: whether its picture stands in the page already.

        Returns:
          "step", "alt", and "lines" or a "uri".
        """
        found: dict[str, Any] = {"step": self.step, "alt": self.alt}
        if self.picture is None:
            found["lines"] = list(self.lines)
        elif not here:
            found["uri"] = self.picture.uri
        return found


def shown(story: Story, label: str, *, most: int) -> list[Shown]:
    """Reads the samples of a run.

    Args:
      story: of the run.
      label: its name.
      most: bytes of all of them, about.

    Returns:
      Those that can be read, oldest first.
    """
    each = min(LARGEST, most // max(1, len(story.frames)))
    found = []
    for frame in story.frames:
        alt = f"Samples of {label} at step {frame.step:,}"
        if frame.picture is None:
            found.append(Shown(frame.step, alt, lines=frame.lines))
        elif picture := _picture(frame.picture, each):
            found.append(Shown(frame.step, alt, picture))
    return found


def gallery(
    stories: Sequence[Story], labels: Sequence[str], frames: Sequence[Sequence[Shown]], *, most: int
) -> str:
    """Lays the newest samples of each run beside real examples, under a slider over the steps.

    Args:
      stories: of the runs.
      labels: their names.
      frames: of each run, from `shown`.
      most: bytes of the real examples, about.

    Returns:
      HTML.
    """
    steps = all_steps(frames)
    if not steps:
        return "<p>There are no samples yet; they come every --sample_every steps.</p>"
    last = len(steps) - 1
    bar = (
        f'<div class="bar"{"" if last else " hidden"}><label class="wide" for="step">Step'
        f'<input type="range" id="step" min="0" max="{last}" value="{last}"></label>'
        f'<output id="step-out" for="step">step {steps[-1]:,}</output>'
        '<button type="button" id="play">Play</button></div>'
    )
    figures = [
        _newest(of, labels, number) + _real(story, labels, number, most)
        for number, (of, story) in enumerate(zip(frames, stories, strict=True))
    ]
    if len(labels) > 1:
        figures = [f'<div class="cell">{each}</div>' for each in figures]
    return bar + f'<div class="runs">{"".join(figures)}</div>'


def all_steps(frames: Sequence[Sequence[Shown]]) -> list[int]:
    """Lists the steps that the slider has.

    Args:
      frames: of each run.

    Returns:
      Those of any run, in order.
    """
    return sorted({frame.step for of in frames for frame in of})


def _newest(frames: Sequence[Shown], labels: Sequence[str], number: int) -> str:
    """The last samples of a run, which the script changes."""
    if not frames:
        return f"<figure>{_markup.caption(labels, number)}<p>No samples yet.</p></figure>"
    last, content = frames[-1], ""
    pictures = [frame for frame in frames if frame.picture]
    if pictures:
        content += _markup.image(pictures[-1].picture, pictures[-1].alt)
    if len(pictures) < len(frames):
        items = "".join(f"<li>{html.escape(line)}</li>" for line in last.lines)
        content += f'<ol class="lines" aria-label="{html.escape(last.alt)}">{items}</ol>'
    at = f'<span class="at soft">step {last.step:,}</span>'
    named = _markup.caption(labels, number, at)
    return f'<figure data-frames="{number}">{named}{content}</figure>'


def _real(story: Story, labels: Sequence[str], number: int, most: int) -> str:
    picture = _picture(story.real, min(LARGEST, most)) if story.real else None
    if picture is None:
        return ""
    image = _markup.image(picture, f"Training examples of {labels[number]}")
    named = _markup.caption(labels, number, "Real examples, to compare with")
    return f"<figure>{named}{image}</figure>"


def _picture(path: pathlib.Path, most: int) -> _uris.Picture | None:
    """A picture of a file; None where it is damaged, or gone meanwhile."""
    try:
        return _kept(path, path.stat().st_mtime_ns, most)
    except (UserError, OSError):
        return None


@functools.lru_cache(maxsize=256)
def _kept(path: pathlib.Path, changed: int, most: int) -> _uris.Picture:
    """The picture of a file as it was at a time: --watch writes a page many times."""
    del changed
    return _uris.of_file(path, most=most)
