"""Applies a trained restorer or translator to photos of any size, one or a folder of them.

    python -m experiments.apply --workdir=runs/denoise --input=photo.jpg --out=clean.png
    python -m experiments.apply --workdir=runs/denoise --input=photos --out=clean

The run is one whose generator makes images from images, such as those of `experiments.restore`. Its
generator is the moving average of the newest checkpoint, or with --checkpoint=best of the one that
scored best; everything else is found in the run directory. Large photos are cut into tiles that
overlap by as much as the network sees, so that the result is that of the whole and memory stays
bounded: --tile=256 needs less of it, --tile=1024 less time.

What is read: PNG, JPEG, TIFF, WebP, BMP, PPM, and of a GIF the first frame. What is written: the
kind that --out ends in; of a folder each file keeps its name and kind, but a GIF, which becomes a
PNG. A JPEG is written at quality 95 with colours at full resolution, all others without loss. A
photo keeps its transparency, its 16 bits a channel (PNG and TIFF), its colour profile and its EXIF;
the EXIF rotation is applied. CMYK and palettes become RGB.

A folder is done with the folders in it, and --out mirrors it. Files that are there already are left
as they are, so that the same command goes on where it was stopped; for new ones, remove them or
name another folder. A photo that cannot be read is named and skipped; then the exit code is 1.

--compare writes each photo, enlarged if need be, side by side with what was made of it. --mask, for
runs that fill in holes, is a picture of the photo's size, white where something is to be filled in;
all else is copied from the photo. For a folder it is a folder with the same names, of any kind.

--direction=ba applies the way back of a run that has learned both, such as a CycleGAN.

A network of greys works on the luminance of a photo in colour and leaves its colours; one that
makes colours of greys takes the luminance. A network of colours leaves a grey photo grey. Where the
photo grows, transparency and untouched colours are enlarged bicubically.
"""

import contextlib
import dataclasses
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tqdm

from experiments import _files, _trained
from jaxgan import retouch, types
from jaxgan.data import photos
from jaxgan.run import cli, experiment
from jaxgan.translate import Translator
from jaxgan.types import PyTree, UserError


@dataclasses.dataclass(frozen=True)
class Config(_trained.GeneratorFlags):
    """The flags of applying a run to photos."""

    input: str = cli.field("", "Photo to read, or folder of photos.")
    out: str = cli.field("", "File to write, or folder; of a folder of photos a folder.")
    direction: str = cli.field(
        "", "Of a run that translates both ways: ab or ba; empty for the first."
    )
    mask: str = cli.field("", "White where to fill in: a picture, or a folder of them.")
    tile: int = cli.field(
        0,
        "Pixels a side of a photo done at a time; fewer need less memory and more time. 0 for 512, "
        "or for as many as make 768, and for all where the network cannot be cut into tiles.",
        minimum=0,
    )
    compare: bool = cli.field(False, "Write each photo side by side with what was made of it.")


class Incomplete(UserError):
    """Not all photos of a folder were done."""

    exit_code = 1


def run(config: Config) -> list[pathlib.Path]:
    """Applies the run; returns the files written."""
    jobs = _files.jobs(config.input, config.mask, config.out)
    translator, variables = _translator(config)
    said = set()

    def apply(job: _files.Job, *, show: bool) -> float:
        """Does one photo; returns its megapixels."""
        photo = photos.read(job.photo)
        mask = _holes(job.mask) if job.mask else None
        scale = translator.scale
        photos.check(job.out, photo, times=(scale, scale * (1 + config.compare)))
        try:
            retouch.check(translator, photo, mask)
        except UserError as error:
            raise UserError(f"{job.photo}: {error}") from error
        for note in sorted(set(_notes(translator, photo, mask)) - said):
            tqdm.tqdm.write(f"note: {note}")
            said.add(note)
        pixels = photo.size[0] * photo.size[1]
        bar = tqdm.tqdm(
            total=pixels, unit="px", unit_scale=True, leave=False, disable=None if show else True
        )
        with bar, _memory(config.tile or translator.tile):
            made = retouch.retouch(
                translator, variables, photo, mask=mask, tile=config.tile, done=bar.update
            )
            made = retouch.beside(photo, made) if config.compare else made
        try:
            photos.write(job.out, made)
        except OSError as error:
            raise Unwritable(f"{job.out}: cannot be written ({error.strerror or error})") from error
        return pixels / 1e6

    if pathlib.Path(config.input).expanduser().is_dir():
        return _many(jobs, apply)
    start = time.perf_counter()
    with _stopped(lambda: "nothing is written"):
        megapixels = apply(jobs[0], show=True)
    print(f"wrote {jobs[0].out}: {_rate(megapixels, time.perf_counter() - start)}")
    return [jobs[0].out]


class Unwritable(UserError):
    """A file cannot be written, and the next one could not either."""

    exit_code = 1


def _many(jobs: Sequence[_files.Job], apply: Callable[[_files.Job], float]) -> list[pathlib.Path]:
    """Does the photos of a folder that are not done yet; names those that cannot be."""
    missing = [job for job in jobs if not job.out.exists()]
    there = len(jobs) - len(missing)
    written, skipped, megapixels, start = [], [], 0.0, time.perf_counter()

    def told() -> str:
        return f"{there + len(written)} of {len(jobs)} photos are done; the same command goes on"

    try:
        with _stopped(told):
            for job in tqdm.tqdm(missing, unit="photo", disable=None, dynamic_ncols=True):
                try:
                    _make_folder(job.out.parent)
                    megapixels += apply(job, show=False)
                    written.append(job.out)
                except Unwritable:
                    raise
                except UserError as error:
                    skipped.append(job.name)
                    tqdm.tqdm.write(f"skipped: {types.one_line(error)}", file=sys.stderr)
    except Unwritable as error:
        raise Unwritable(f"{error}; {told()}") from error
    before = f"; {there} were there already" if there else ""
    rate = f": {_rate(megapixels, time.perf_counter() - start)}" if written else ""
    print(f"wrote {len(written)} of {len(jobs)} photos{before}{rate}")
    if skipped:
        names = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        raise Incomplete(f"{len(skipped)} of {len(jobs)} photos could not be done: {names}")
    return written


def _translator(config: Config) -> tuple[Translator, PyTree]:
    """What the run applies, and the variables of its generator; checks the flags against it."""
    trained = config.opened()
    translator = _directed(config, trained.experiment)
    if translator is None:
        raise UserError(
            f"--workdir={config.workdir}: its generator makes no images from images; this is for "
            "runs that restore or translate pictures, such as those of experiments.restore. Of "
            "other runs, experiments.sample makes samples"
        )
    variables = config.variables(trained)
    if translator.masked and not config.mask:
        raise UserError(
            "--mask is empty; this run fills in holes: name a picture that is white where they are"
        )
    if config.mask and not translator.masked:
        raise UserError(f"--mask={config.mask}: this run fills in no holes; leave it away")
    if config.tile and not translator.tiled:
        raise UserError(
            f"--tile={config.tile}: the network of this run sees whole photos, as it normalises "
            "over them; leave it away"
        )
    return translator, variables


def _directed(config: Config, made: experiment.Experiment) -> Translator | None:
    """The translator of the direction asked for."""
    if not config.direction or config.direction in made.directions:
        return made.directions.get(config.direction, made.translator)
    if not made.directions:
        raise UserError(f"--direction={config.direction}: the run has one direction; leave it away")
    known = ", ".join(made.directions)
    raise UserError(f"--direction={config.direction} is not one of {known}, those of the run")


def _holes(path: pathlib.Path) -> np.ndarray:
    """Where a mask is white and not transparent, [H, W] bool."""
    mask = photos.read(path)
    white = mask.pixels.mean(-1) > mask.largest / 2
    return white if mask.alpha is None else white & (mask.alpha[..., 0] > mask.largest / 2)


def _notes(translator: Translator, photo: photos.Photo, mask: np.ndarray | None) -> list[str]:
    """What a person may not expect of this photo."""
    notes = []
    if retouch.on_luminance(translator, photo):
        notes.append("the network is one of greys: it changes the luminance and keeps the colours")
    if not translator.tiled:
        notes.append("the network sees whole photos, not tiles: large ones need much memory")
    if mask is not None and not mask.any():
        notes.append("a mask without white: nothing is filled in")
    return notes


@contextlib.contextmanager
def _memory(tile: int) -> Iterator[None]:
    """Turns the lack of memory into one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remedy = f"give less than --tile={tile}, or a smaller photo"
        raise UserError(f"out of memory; {remedy}") from error


@contextlib.contextmanager
def _stopped(told: Callable[[], str]) -> Iterator[None]:
    """Turns an interrupt into one line that says what is done."""
    try:
        yield
    except KeyboardInterrupt as error:
        stopped = Incomplete(f"interrupted; {told()}")
        stopped.exit_code = getattr(error, "exit_code", 128 + signal.SIGINT)
        raise stopped from error


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(f"{path}: cannot be made ({error.strerror})") from error


def _rate(megapixels: float, seconds: float) -> str:
    speed = megapixels / seconds
    return f"{megapixels:.2f} megapixels in {seconds:.1f} s, {speed:.2f} megapixels/s"


if __name__ == "__main__":
    cli.main(Config, run)
