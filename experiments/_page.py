"""The page of `experiments.report`: one HTML file that needs nothing else, not even a network.

Whatever a run directory holds is data: it is escaped, its numbers go into a block of JSON, and the
page's own policy lets no other script run and nothing be fetched.
"""

import base64
import hashlib
import html
import importlib.metadata
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import _curves, _facts, _uris
from experiments._exhibits import Exhibits
from experiments._runs import Story
from jaxgan import __version__
from jaxgan.types import UserError

FOLDER = pathlib.Path(__file__).parent / "page"
LIBRARY = "uplot-python"  # carries uPlot, 120 kB
BYTES = 2_000_000  # of all pictures


def library() -> tuple[str, str]:
    """Reads the plotting library.

    Returns:
      Its script, and its style.

    Raises:
      UserError: it is not installed.
    """
    try:
        files = importlib.metadata.distribution(LIBRARY)
        folder = pathlib.Path(str(files.locate_file("uplot/static")))
        scripts = [folder / name for name in ("uPlot.iife.min.js", "uPlot.iife.js")]
        script = next(path for path in scripts if path.is_file())
        return script.read_text("utf-8"), (folder / "uPlot.min.css").read_text("utf-8")
    except (importlib.metadata.PackageNotFoundError, OSError, StopIteration) as error:
        raise UserError(
            f"the curves need {LIBRARY}, which is not installed: pip install 'jaxgan[report]'"
        ) from error


class Page:
    """A page of some runs, in parts."""

    def __init__(self, stories: Sequence[Story], exhibits: Sequence[Exhibits]):
        """Takes what there is to show.

        Args:
          stories: of the runs.
          exhibits: of their checkpoints, as many.
        """
        self._stories, self._exhibits = stories, exhibits
        self._labels = _facts.labels([story.path for story in stories])
        self._most = BYTES // len(stories)
        self._frames = [self._of_steps(*pair) for pair in enumerate(stories)]
        self._charts = _curves.charts(stories, self._labels)

    def text(self, *, smoothing: float, reload: float) -> str:
        """Writes the page.

        Args:
          smoothing: of the curves as the page opens, in [0, 1).
          reload: seconds after which the page reads itself anew; 0 for never.

        Returns:
          HTML.
        """
        script, style = library()
        own = [(FOLDER / name).read_text("utf-8") for name in ("page.css", "page.js")]
        sections = [section for section in self._sections(smoothing) if section[2]]
        title = f"{', '.join(self._labels)} - jaxgan report"
        links = "".join(f'<li><a href="#{name}">{what}</a></li>' for name, what, _ in sections)
        body = "".join(
            f'<section id="{name}"><h2>{what}</h2>{content}</section>'
            for name, what, content in sections
        )
        scripts = [script, own[1]]
        policy = "; ".join(
            [
                "default-src 'none'",
                "img-src data:",
                "style-src 'unsafe-inline'",
                f"script-src {' '.join(map(_digest, scripts))}",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        )
        page = "\n".join(
            [
                '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{html.escape(title)}</title>",
                f"<style>{style}\n{own[0]}</style>\n</head>\n<body>",
                f"<header><h1>{html.escape(', '.join(self._labels))}</h1>{self._lead()}</header>",
                f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
                f"<main>{body}</main>",
                f"<footer>{self._foot(reload)}</footer>",
                '<noscript><p class="soft">Curves and sliders need JavaScript, which is in this '
                "file.</p></noscript>",
                f'<script type="application/json" id="data">{as_json(self._data(reload))}</script>',
                *(f"<script>{each}</script>" for each in scripts),
                "</body>\n</html>\n",
            ]
        )
        return page.encode("utf-8", "replace").decode()  # a path may hold bytes that are no text

    def _lead(self) -> str:
        lines = []
        for story, label in zip(self._stories, self._labels, strict=True):
            named = f"{label}: " if len(self._labels) > 1 else ""
            lines.append(f"<p>{html.escape(named + _facts.sentence(story))}</p>")
        return "".join(lines)

    def _foot(self, reload: float) -> str:
        again = f" The page reads itself anew every {reload:g} seconds." if reload else ""
        return f"Written by jaxgan {__version__}, {_facts.today()}. Charts: uPlot (MIT).{again}"

    def _sections(self, smoothing: float) -> list[tuple[str, str, str]]:
        """(name, title, content) of each; what there is nothing of is empty."""
        return [
            ("summary", "What was trained", _table(_facts.overview(*self._zipped()), self._labels)),
            ("samples", "Samples", self._samples()),
            ("pairs", "Before and after", self._pairs()),
            ("interpolations", "Interpolations", self._interpolations()),
            ("neighbours", "Nearest training examples", self._neighbours()),
            ("scores", "Scores", self._scores()),
            ("curves", "Curves", self._curves(smoothing)),
            ("events", "What happened", self._events()),
            ("settings", "Settings", self._settings()),
            ("reproduce", "Reproduce", self._reproduce()),
        ]

    def _zipped(self) -> tuple[Sequence[Story], Sequence[Exhibits]]:
        return self._stories, self._exhibits

    def _named(self, number: int, more: str = "") -> str:
        """The caption of a run's figure; of a single run only what is more."""
        if len(self._labels) == 1:
            return f"<figcaption>{more}</figcaption>" if more else ""
        swatch = f'<span class="swatch" style="background:var(--c{number % 6})"></span>'
        label = html.escape(self._labels[number])
        return f"<figcaption>{swatch}<b>{label}</b> {more}</figcaption>"

    # ---- samples over time

    def _samples(self) -> str:
        figures = [self._of_run(n, story) for n, story in enumerate(self._stories)]
        steps = self._steps()
        if not steps:
            return "<p>There are no samples yet; they come every --sample_every steps.</p>"
        hidden = "" if len(steps) > 1 else " hidden"
        bar = (
            f'<div class="bar"{hidden}><label class="wide" for="step">Step'
            f'<input type="range" id="step" min="0" max="{len(steps) - 1}" '
            f'value="{len(steps) - 1}"></label><output id="step-out" for="step">'
            f'step {steps[-1]:,}</output><button type="button" id="play">Play</button></div>'
        )
        return bar + f'<div class="runs">{"".join(figures)}</div>'

    def _steps(self) -> list[int]:
        return sorted({frame["step"] for frames in self._frames for frame in frames})

    def _of_steps(self, number: int, story: Story) -> list[dict[str, Any]]:
        """The samples of a run for the script: "step", "alt", and "lines" or a "picture"."""
        most = int(0.6 * self._most / max(1, len(story.frames)))
        frames = []
        for frame in story.frames:
            entry: dict[str, Any] = {"step": frame.step}
            entry["alt"] = f"Samples of {self._labels[number]} at step {frame.step:,}"
            if frame.picture is None:
                entry["lines"] = list(frame.lines)
            else:
                try:
                    entry["picture"] = _uris.of_file(frame.picture, most=min(most, 400_000))
                except UserError:
                    continue  # damaged, or gone meanwhile
            frames.append(entry)
        return frames

    def _of_run(self, number: int, story: Story) -> str:
        """The samples of a run, the newest shown, beside real examples."""
        frames = self._frames[number]
        if not frames:
            return f"<figure>{self._named(number)}<p>No samples yet.</p></figure>"
        last, shown = frames[-1], ""
        pictures = [frame for frame in frames if "picture" in frame]
        if pictures:
            shown += _image(pictures[-1]["picture"], pictures[-1]["alt"])
        if any("lines" in frame for frame in frames):
            items = "".join(f"<li>{html.escape(line)}</li>" for line in last.get("lines", ()))
            shown += f'<ol class="lines" aria-label="{html.escape(last["alt"])}">{items}</ol>'
        at = f'<span class="at soft">step {last["step"]:,}</span>'
        figure = f'<figure data-frames="{number}">{self._named(number, at)}{shown}</figure>'
        figures = figure + self._real(number, story)
        return figures if len(self._labels) == 1 else f'<div class="cell">{figures}</div>'

    def _real(self, number: int, story: Story) -> str:
        if story.real is None:
            return ""
        try:
            picture = _uris.of_file(story.real, most=min(150_000, self._most // 10))
        except UserError:
            return ""
        alt = f"Training examples of {self._labels[number]}"
        image = _image(picture, alt)
        return f"<figure>{self._named(number, 'Real examples, to compare with')}{image}</figure>"

    # ---- what was made of a checkpoint

    def _pairs(self) -> str:
        figures = []
        for number, made in enumerate(self._exhibits):
            rows = made.pairs
            most = int(0.25 * self._most / max(1, 3 * len(rows)))
            figures += [self._pair(number, row, pair, most) for row, pair in enumerate(rows)]
        if not figures:
            return ""
        lead = "<p>Drag a slider, or use the arrow keys, to uncover what the generator made.</p>"
        return lead + f'<div class="pairs">{"".join(figures)}</div>'

    def _pair(self, number: int, row: int, pair: Any, most: int) -> str:
        """One image before and after, with a slider, and what else there is of it."""
        names = list(pair)
        shown = [_uris.of_array(pair[name], most=most) for name in names]
        alts = [f"{name}, picture {row + 1}" for name in names]
        first, second, *rest = [
            _image(x, alt, more=more, fine=64)
            for x, alt, more in zip(shown, alts, ["before", "after", *names], strict=False)
        ]
        what = f"{names[0]} on the left, {names[1]} on the right"
        other = "".join(
            f"<div>{image}<span class='soft'>{html.escape(name)}</span></div>"
            for image, name in zip(rest, names[2:], strict=True)
        )
        return (
            f"<figure>{self._named(number, f'Picture {row + 1}: {what}')}"
            f'<div class="row"><div><div class="compare">{first}{second}</div>'
            f'<input type="range" class="cut" id="cut-{number}-{row}" min="0" max="100" value="50" '
            f'aria-label="Picture {row + 1}: {what}"></div>{other}</div></figure>'
        )

    def _interpolations(self) -> str:
        figures = []
        for number, made in enumerate(self._exhibits):
            if made.interpolations is None:
                continue
            picture = _uris.of_array(made.interpolations, most=int(0.1 * self._most))
            alt = f"Grid: each row leads from one sample to another, step {made.step:,}"
            image = _image(picture, alt)
            more = f"Each row leads from one sample to another; step {made.step:,}"
            figures.append(f"<figure>{self._named(number, more)}{image}</figure>")
        return f'<div class="runs">{"".join(figures)}</div>' if figures else ""

    def _neighbours(self) -> str:
        parts = []
        for number, made in enumerate(self._exhibits):
            notes = "".join(f"<p class='soft'>{html.escape(note)}</p>" for note in made.notes)
            heading = ""
            if len(self._labels) > 1 and (made.near or notes):
                heading = f"<h3>{html.escape(self._labels[number])}</h3>"
            parts.append(heading + (self._near(made.near) if made.near else "") + notes)
        return "".join(parts)

    def _near(self, near: Any) -> str:
        """Samples, each beside the training examples nearest to it."""
        lead = (
            "<p>A generator that copies its training data shows itself here: the first of each "
            f"row is a sample, the others the training examples nearest to it. {near.text}</p>"
        )
        if not isinstance(near.samples, np.ndarray):
            return lead + self._near_lines(near)
        each = int(0.1 * self._most / near.nearest[:, :, 0, 0, 0].size)
        sets = []
        for sample, nearest, distance in zip(
            near.samples, near.nearest, near.distance, strict=True
        ):
            cells = [_cell(sample, "sample", f"Sample {len(sets) + 1}", each)]
            cells += [
                _cell(x, f"{d:.1f}", f"Training example at distance {d:.1f}", each)
                for x, d in zip(nearest, distance, strict=True)
            ]
            sets.append(f'<div class="set">{"".join(cells)}</div>')
        return f'{lead}<div class="near">{"".join(sets)}</div>'

    def _near_lines(self, near: Any) -> str:
        rows = [
            f"<tr><td>{html.escape(line)}</td><td>{html.escape(lines[0])}</td>"
            f'<td class="number">{distance[0]:g}</td></tr>'
            for line, lines, distance in zip(near.samples, near.nearest, near.distance, strict=True)
        ]
        head = "<th>sample</th><th>nearest training example</th><th class='number'>differ</th>"
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    # ---- numbers

    def _scores(self) -> str:
        tables = _facts.scores(self._stories)
        return "".join(
            f"<h3>{html.escape(title)}</h3>{_table(rows, self._labels, number=True)}"
            for title, rows in tables
        )

    def _curves(self, smoothing: float) -> str:
        if not self._charts:
            return ""
        axes = "".join(
            f'<option value="{axis}">{name}</option>'
            for axis, name in (("step", "steps"), ("seconds", "hours"), ("epoch", "epochs"))
            if axis == "step" or any(axis in story.lines for story in self._stories)
        )
        bar = (
            '<div class="bar"><label class="wide" for="smooth">Smoothing<input type="range" '
            f'id="smooth" min="0" max="0.99" step="0.01" value="{smoothing:g}"></label>'
            '<output id="smooth-out" for="smooth"></output>'
            f'<label>Along <select id="axis">{axes}</select></label>'
            '<label><input type="checkbox" id="log-x">logarithmic steps</label>'
            '<label><input type="checkbox" id="log-y">logarithmic values</label></div>'
            '<p class="soft">Point at a curve, or focus it and use the arrow keys, for its '
            "numbers; drag to enlarge a part, double-click to see all. Dotted: floors, what "
            "perfect samples would get. Bands: 95 % intervals of the mean over seeds. Vertical "
            'lines: <span class="alarm">alarms (dashed)</span> and <span class="rollback">'
            "rollbacks</span>.</p>"
        )
        first = [self._chart(i) for i, chart in enumerate(self._charts) if chart["first"]]
        more = [self._chart(i) for i, chart in enumerate(self._charts) if not chart["first"]]
        rest = ""
        if more:
            rest = (
                f'<details id="more"><summary>{len(more)} more curves</summary>'
                f'<div class="charts">{"".join(more)}</div></details>'
            )
        return f'{bar}<div class="charts">{"".join(first)}</div>{rest}'

    def _chart(self, number: int) -> str:
        chart = self._charts[number]
        alt = html.escape(chart["alt"])
        return (
            f'<figure class="chart" data-chart="{number}" tabindex="0" role="group" '
            f'aria-label="{alt}"><figcaption>{html.escape(chart["title"])}</figcaption>'
            '<div class="plot"></div><div class="told hidden" aria-live="polite"></div></figure>'
        )

    def _events(self) -> str:
        rows = []
        for story, label in zip(self._stories, self._labels, strict=True):
            for event in story.events:
                steps = f"{event.step:,}"
                if event.until > event.step:
                    steps += f" to {event.until:,}"
                cells = [label] if len(self._labels) > 1 else []
                time = event.time[:19].replace("T", " ")
                cells += [steps, event.kind, event.text, time]
                kind = event.kind if event.kind in ("alarm", "rollback") else ""
                inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
                rows.append(f'<tr class="{kind}">{inside}</tr>')
        if not rows:
            return ""
        head = ["run"] if len(self._labels) > 1 else []
        head += ["step", "what", "", "time (UTC)"]
        inside = "".join(f"<th>{name}</th>" for name in head)
        table = (
            f"<table><thead><tr>{inside}</tr></thead><tbody>{''.join(rows[:200])}</tbody></table>"
        )
        more = f"<p class='soft'>{len(rows) - 200} more.</p>" if len(rows) > 200 else ""
        return f'<div class="scroll">{table}</div>{more}'

    def _settings(self) -> str:
        chosen, rest, lead = _facts.settings(self._stories)
        shown = _table(chosen, self._labels, mark=len(self._labels) > 1) if chosen else ""
        others = ""
        if rest:
            others = (
                f'<details id="others"><summary>{len(rest)} more settings</summary>'
                f"{_table(rest, self._labels)}</details>"
            )
        return f"<p>{lead}</p>{shown}{others}"

    def _reproduce(self) -> str:
        parts = []
        for story, label in zip(self._stories, self._labels, strict=True):
            heading = f"<h3>{html.escape(label)}</h3>" if len(self._labels) > 1 else ""
            command, notes = _facts.command(story)
            told = "".join(f"<p class='soft'>{html.escape(note)}</p>" for note in notes)
            parts.append(f'{heading}<pre tabindex="0">{html.escape(command)}</pre>{told}')
        return "".join(parts)

    def _data(self, reload: float) -> dict[str, Any]:
        """What the script needs: frames, columns of the logs, charts."""
        return {
            "id": "|".join(map(str, (story.path for story in self._stories))),
            "reload": reload,
            "steps": self._steps(),
            "charts": [{k: chart[k] for k in ("kind", "names")} for chart in self._charts],
            "runs": [
                {
                    "label": label,
                    "frames": [_for_script(frame, frame is frames[-1]) for frame in frames],
                    "train": _curves.columns(story.lines),
                    "eval": _curves.columns(story.scores),
                    "floors": _facts.floors(story),
                    "events": [
                        {"kind": event.kind, "step": event.step, "until": event.until}
                        for event in story.events
                        if event.kind in ("alarm", "rollback", "dropped")
                    ],
                }
                for story, label, frames in zip(
                    self._stories, self._labels, self._frames, strict=True
                )
            ],
        }


def _for_script(frame: Mapping[str, Any], shown: bool) -> dict[str, Any]:
    """A frame as the script takes it; the picture that is shown stands in the page once."""
    found = {name: value for name, value in frame.items() if name != "picture"}
    if "picture" in frame and not shown:
        found["uri"] = frame["picture"].uri
    return found


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


def _digest(script: str) -> str:
    """The name of a script in the page's policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _image(picture: _uris.Picture, alt: str, *, more: str = "", fine: int = 400) -> str:
    """An image; those of so many pixels a side or fewer are enlarged pixel by pixel."""
    width, height = picture.width, picture.height
    names = ["shown", *(["fine"] if max(width, height) <= fine else []), *([more] if more else [])]
    return (
        f'<img class="{" ".join(names)}" src="{picture.uri}" width="{width}" height="{height}" '
        f'alt="{html.escape(alt)}">'
    )


def _cell(image: np.ndarray, text: str, alt: str, most: int) -> str:
    picture = _uris.of_array(image, most=max(2000, most))
    return f"<div>{_image(picture, alt)}{text}</div>"


def _table(
    rows: Sequence[tuple[str, Sequence[str]]],
    labels: Sequence[str],
    *,
    mark: bool = True,
    number: bool = False,
) -> str:
    """A row a fact, a column a run; rows in which runs differ are marked."""
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
