"""Pictures that move, for `experiments.sample`: walks through latents, and a run's training."""

import contextlib
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from PIL import Image

from jaxgan import images, sample, types
from jaxgan.run.experiment import Show
from jaxgan.types import PyTree, UserError

SUFFIXES = (".gif", ".webp", ".mp4")
MOTIONS = ("walk", "training")
FASTEST = 50  # pictures a second of a GIF: browsers slow down what claims more
HELD = 2.0  # seconds that the last picture of training stays at least
Entries = dict[str, np.ndarray]


def check(config: Any) -> None:
    """Refuses what cannot be written, before anything is sampled.

    Args:
      config: the flags of `experiments.sample`.

    Raises:
      UserError: too many pictures a second for the kind of file, or the library for it is missing.
    """
    suffix = pathlib.Path(config.out).suffix
    if suffix == ".gif" and config.fps > FASTEST:
        raise UserError(f"--fps={config.fps:g}: a GIF shows {FASTEST} pictures a second at most")
    if config.interpolate:
        raise UserError(f"--interpolate is of a still picture; --out={config.out} moves by itself")
    if suffix == ".mp4" and not importlib.util.find_spec("imageio_ffmpeg"):
        raise UserError(
            f"--out={config.out} needs imageio-ffmpeg: pip install imageio-ffmpeg, or name a .webp"
        )


def frames(
    sampler: sample.Sampler, variables: PyTree, z: jax.Array, label: np.ndarray | None
) -> Iterator[Entries]:
    """Generates what walks show, some steps at a time.

    Args:
      sampler: of the generator.
      variables: of the generator.
      z: [num, steps, dim].
      label: [num] int32 where conditional, the same at every step.

    Yields:
      The entries of each step, [num, ...].
    """
    num, steps, dim = z.shape
    by_step = np.asarray(z).swapaxes(0, 1)
    at_once = max(1, min(steps, sampler.batch_size // num))
    for start in range(0, steps, at_once):
        first = min(start, steps - at_once)  # the last ones reach back: one shape
        some = by_step[first : first + at_once].reshape(-1, dim)
        labels = None if label is None else np.tile(label, at_once)
        made = sampler.generate(variables, some, labels)
        for step in range(start - first, at_once):
            yield {name: x[step * num : (step + 1) * num] for name, x in made.items()}


def write(
    path: pathlib.Path, entries: Iterable[Entries], steps: int, *, show: Show, fps: float
) -> Entries:
    """Writes walks as a picture that moves, without end where the kind of file can say so.

    Args:
      path: the file.
      entries: of each step.
      steps: how many there are, for the bar.
      show: entries -> picture.
      fps: steps a second.

    Returns:
      The entries of the first step.
    """
    entries = iter(tqdm.tqdm(entries, total=steps, unit="frame", leave=False, disable=None))
    first = next(entries)
    pictures = (_picture(show(each)) for each in itertools.chain([first], entries))
    _save(path, pictures, fps=fps, held=0.0)
    return _as_bytes(first)


def training(workdir: str, path: pathlib.Path, *, fps: float) -> int:
    """Writes the pictures of a run's samples one after the other, and holds the last one.

    Args:
      workdir: the run directory.
      path: the file.
      fps: pictures a second; 0 for 2.

    Returns:
      How many there were.

    Raises:
      UserError: there are none.
    """
    fps = fps or 2.0
    folder = pathlib.Path(workdir).expanduser() / "samples"
    found = {path: re.fullmatch(r"step_(\d+)\.png", path.name) for path in folder.glob("*")}
    steps = sorted((int(match[1]), path) for path, match in found.items() if match)
    if not steps:
        raise UserError(f"{folder} has no pictures; train with --sample_every, past that step")
    pictures = [_read(path) for _, path in steps]
    size = max(x.shape[0] for x in pictures), max(x.shape[1] for x in pictures)
    _save(path, (_padded(x, size) for x in pictures), fps=fps, held=HELD)
    return len(pictures)


def _read(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return _picture(np.asarray(picture.convert("L" if picture.mode == "L" else "RGB")))
    except OSError as error:
        raise UserError(f"{path} is no picture, or a damaged one; remove it") from error


def _padded(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """White below and to the right: of a run whose grid has grown, all pictures have one size."""
    below, right = (n - side for n, side in zip(size, x.shape[:2], strict=True))
    return np.pad(x, ((0, below), (0, right), (0, 0)), constant_values=255)


def _picture(shown: Any) -> np.ndarray:
    """[H, W, 1 or 3] uint8."""
    shown = np.asarray(shown)
    return shown[..., None] if shown.ndim == 2 else shown[..., :3]


def _as_bytes(entries: Mapping[str, np.ndarray]) -> Entries:
    return {name: images.to_uint8(x) if x.ndim == 4 else x for name, x in entries.items()}


def _save(path: pathlib.Path, pictures: Iterable[np.ndarray], *, fps: float, held: float) -> None:
    """Writes a file that is whole or not there; the last picture stays so many seconds longer."""
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        if path.suffix == ".mp4":
            _save_video(unfinished, pictures, fps=fps, held=held)
        else:
            _save_animation(unfinished, pictures, fps=fps, held=held)
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--out={path}: cannot be written ({reason}); name another") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _save_animation(
    path: pathlib.Path, pictures: Iterable[np.ndarray], *, fps: float, held: float
) -> None:
    """A GIF or WebP, which plays without end."""
    # A GIF counts in hundredths of a second; greys are its palette, colours get one a picture.
    each = [Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in pictures]
    time = max(10, round(1000 / fps / 10) * 10) if path.suffix == ".gif" else round(1000 / fps)
    times = [time] * (len(each) - 1) + [time + round(1000 * held)]
    options = {"quality": 90, "method": 4} if path.suffix == ".webp" else {"optimize": False}
    each[0].save(path, save_all=True, append_images=each[1:], duration=times, loop=0, **options)


def _save_video(
    path: pathlib.Path, pictures: Iterable[np.ndarray], *, fps: float, held: float
) -> None:
    """H.264 that every browser plays: sides are even, and what is missing is white."""
    import imageio_ffmpeg  # of the extra "video"

    pictures = iter(pictures)
    first = _even(next(pictures))
    size = f"{first.shape[1]}x{first.shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-"]
    made = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    # Its own function forks, which a process with JAX's threads must not.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *made, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stderr
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            for picture in itertools.chain([first], map(_even, pictures)):
                stream.write(picture.tobytes())
            for _ in range(round(held * fps)):
                stream.write(picture.tobytes())
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise OSError(types.one_line(said, limit=200) or "ffmpeg failed")


def _even(picture: np.ndarray) -> np.ndarray:
    """RGB of even sides."""
    height, width, _ = picture.shape
    padded = _padded(picture, (height + height % 2, width + width % 2))
    return np.broadcast_to(padded, (*padded.shape[:2], 3))
