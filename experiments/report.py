"""One page of a run, or of several side by side: settings, samples, curves, scores, neighbours.

    python -m experiments.report --workdir=runs/quickstart
    python -m experiments.report --workdir=runs/a,runs/b --out=both.html --watch=30

writes one HTML file that needs nothing else, not even a network: what was trained and where runs
differ, the samples over time, rows before and after of generators of images from images,
interpolations, the training examples nearest to samples, curves, scores beside their floors,
alarms and rollbacks, and the command that reproduces it. It works from the run directory alone; a
run that still trains shows what there is, and --watch writes the page again until it is finished.
The curves need `pip install 'jaxgan[report]'`. Everything is made on the CPU, so that a run that
trains on an accelerator of this machine keeps its memory.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence

import jax

from experiments import _exhibits, _page, _runs
from jaxgan.run import cli, disk
from jaxgan.run.trouble import reason
from jaxgan.types import UserError

MOST_RUNS = 6  # colours


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of a report."""

    workdir: str = cli.field("", "Directory of the run; several with commas, side by side.")
    out: str = cli.field(
        "", "File to write, .html; empty for report.html in the directory of the first run."
    )
    checkpoint: str = cli.field(
        "newest",
        "Checkpoint that new samples are drawn of: newest, best, a step, or none to leave out "
        "what needs one.",
    )
    module: str = cli.field("", "Module of the run's experiment, where it is not a bundled one.")
    data_dir: str = cli.field(
        "", "Where the training data are, for nearest neighbours; empty for where the run had them."
    )
    smoothing: float = cli.field(
        0.5, "Smoothing of the curves as the page opens: 0 for none.", minimum=0, below=1
    )
    watch: float = cli.field(
        0.0,
        "Seconds after which the page is written again, and reads itself anew, until the runs are "
        "finished; 0 for once.",
        minimum=0,
    )

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)
        if 0 < self.watch < 1:
            raise UserError(f"--watch={self.watch:g} is less than a second; give 1 or more")


def run(config: Config) -> pathlib.Path:
    """Writes the page, with --watch again and again; returns its path."""
    places, out = _places(config), _out_file(config)
    _page.library()  # before anything takes time
    known: dict[str, tuple[int, _exhibits.Exhibits]] = {}
    while True:
        stories = [_runs.read(place, module=config.module) for place in places]
        finished = all(story.num_steps and story.step >= story.num_steps for story in stories)
        again = config.watch if config.watch and not finished else 0.0
        _write(config, out, places, stories, known, again)
        if not again:
            return out
        try:
            time.sleep(again)
        except KeyboardInterrupt:
            _write(config, out, places, stories, known, 0.0)  # a page that stays as it is
            return out


def _write(
    config: Config,
    out: pathlib.Path,
    places: Sequence[str],
    stories: Sequence[_runs.Story],
    known: dict[str, tuple[int, _exhibits.Exhibits]],
    again: float,
) -> None:
    """Writes the page once; what was made of a checkpoint is kept until there is a newer one."""
    for place, story in zip(places, stories, strict=True):
        newest = _exhibits.newest(story.path)
        if place in known and known[place][0] == newest:
            continue
        if config.checkpoint == "none":
            known[place] = newest, _exhibits.Exhibits()
            continue
        known[place] = (
            newest,
            _exhibits.gather(
                story.path, module=config.module, data_dir=config.data_dir, which=config.checkpoint
            ),
        )
        for note in known[place][1].notes:
            print(f"note: {place}: {note}", flush=True)
    page = _page.Page(stories, [known[place][1] for place in places])
    text = page.text(smoothing=config.smoothing, reload=again)
    try:
        disk.replace(out, text)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {reason(error)}") from error
    size = disk.megabytes(len(text.encode()))
    steps = ", ".join(f"step {story.step}" for story in stories)
    then = f"; again in {again:g} s" if again else ""
    print(f"wrote {out}, {size}: {steps}{then}", flush=True)


def _places(config: Config) -> list[str]:
    """The run directories."""
    places = [place.strip() for place in config.workdir.split(",") if place.strip()]
    if not places:
        raise UserError("--workdir is empty; name the directory of a run, or several with commas")
    if len(places) > MOST_RUNS:
        raise UserError(f"--workdir names {len(places)} runs; a page holds {MOST_RUNS} at most")
    twice = [place for place in places if places.count(place) > 1]
    if twice:
        raise UserError(f"--workdir names {twice[0]} twice; leave one out")
    return places


def _out_file(config: Config) -> pathlib.Path:
    """The file to write, checked before the time is spent."""
    first = pathlib.Path(_places(config)[0]).expanduser()
    out = pathlib.Path(config.out).expanduser() if config.out else first / "report.html"
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out={config.out} is no page; name a file that ends in .html")
    if not config.out and not first.is_dir():
        raise UserError(f"{first} holds no run: there is no such directory")
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(
            f"--out={config.out or out} cannot be written: {out.parent} is not a folder that can "
            "be written; name a file elsewhere: --out=FILE.html"
        )
    return out


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    cli.main(Config, run)
