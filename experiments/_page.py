"""The page of `experiments.report`: one HTML file that needs nothing else, not even a network.

Whatever a run directory holds is data: it is escaped, its numbers go into a block of JSON, and the
page's own policy lets no other script run and nothing be fetched.
"""

import base64
import hashlib
import html
import importlib.metadata
import pathlib
import string
from collections.abc import Sequence
from typing import Any

from experiments import _curves, _facts, _frames, _gallery, _markup, _scored
from experiments._exhibits import Exhibits
from experiments._runs import Story
from jaxgan import __version__
from jaxgan.types import UserError

FOLDER = pathlib.Path(__file__).parent / "page"
LIBRARY = "uplot-python"  # carries uPlot, 120 kB
# Nothing is fetched, and no script runs but those that are named after this by their digests.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; script-src "
)
BYTES = 2_000_000  # of all pictures
SHARES = {"samples": 0.55, "real": 0.08, "pairs": 0.2, "interpolations": 0.08, "neighbours": 0.09}
GALLERIES = {
    "pairs": ("Before and after", _gallery.pairs),
    "interpolations": ("Interpolations", _gallery.interpolations),
    "neighbours": ("Nearest training examples", _gallery.neighbours),
}


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
        self._frames = [
            _frames.shown(story, label, most=int(SHARES["samples"] * self._most))
            for story, label in zip(stories, self._labels, strict=True)
        ]
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
        template, own_style, own_script = (
            (FOLDER / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
        )
        scripts = [script, own_script]
        sections = [section for section in self._sections(smoothing) if section[2]]
        names = html.escape(", ".join(self._labels))
        page = string.Template(template).substitute(
            policy=POLICY + " ".join(map(_digest, scripts)),
            title=f"{names} - jaxgan report",
            style=f"{style}\n{own_style}",
            heading=names,
            lead=self._lead(),
            links="".join(f'<li><a href="#{name}">{what}</a></li>' for name, what, _ in sections),
            body="".join(
                f'<section id="{name}"><h2>{what}</h2>{content}</section>'
                for name, what, content in sections
            ),
            foot=self._foot(reload),
            data=_markup.as_json(self._data(reload)),
            scripts="\n".join(f"<script>{each}</script>" for each in scripts),
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
        labels = self._labels
        return [
            ("summary", "What was trained", self._summary()),
            (
                "samples",
                "Samples",
                _frames.gallery(
                    self._stories, labels, self._frames, most=int(SHARES["real"] * self._most)
                ),
            ),
            *(
                (name, title, make(self._exhibits, labels, most=int(SHARES[name] * self._most)))
                for name, (title, make) in GALLERIES.items()
            ),
            ("scores", "Scores", self._scores()),
            ("curves", "Curves", self._curves(smoothing)),
            ("events", "What happened", self._events()),
            ("settings", "Settings", self._settings()),
            ("reproduce", "Reproduce", self._reproduce()),
        ]

    def _summary(self) -> str:
        return _markup.table(_facts.overview(self._stories, self._exhibits), self._labels)

    def _scores(self) -> str:
        tables = _scored.tables(self._stories)
        return "".join(
            f"<h3>{html.escape(title)}</h3>{_markup.table(rows, self._labels, number=True)}"
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
        shown = _markup.table(chosen, self._labels, mark=len(self._labels) > 1) if chosen else ""
        others = ""
        if rest:
            others = (
                f'<details id="others"><summary>{len(rest)} more settings</summary>'
                f"{_markup.table(rest, self._labels)}</details>"
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
            "steps": _frames.all_steps(self._frames),
            "charts": [{k: chart[k] for k in ("kind", "names")} for chart in self._charts],
            "runs": [
                {
                    "label": label,
                    "frames": [frame.for_script(here=frame is frames[-1]) for frame in frames],
                    "train": _curves.columns(story.lines),
                    "eval": _curves.columns(story.scores),
                    "floors": _scored.floors(story),
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


def _digest(script: str) -> str:
    """The name of a script in the page's policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
