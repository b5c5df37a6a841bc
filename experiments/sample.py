"""Images from a finished or running experiment's generator.

    python -m experiments.sample --workdir=runs/quickstart --num=64 --out=grid.png

The generator is the moving average of the newest checkpoint, or with --checkpoint=best of the one
that scored best in training; everything else is found in the run directory. An output named .npz
holds the images as an array instead of a picture.
"""

import dataclasses
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import images, sample
from jaxgan.run import cli, load
from jaxgan.types import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of sampling."""

    workdir: str = cli.field("", "Directory of the run to sample from.")
    checkpoint: str = cli.field(
        "newest", "Checkpoint to sample: newest, best (of a run with --eval_every), or a step."
    )
    num: int = cli.field(
        64, "Images to make; with --interpolate, rounded to a full grid.", minimum=1
    )
    out: str = cli.field("samples.png", "File to write: .png for a grid, .npz for an array.")
    seed: int = cli.field(0, "Seed of the latents.", minimum=0)
    truncation: float = cli.field(
        0.0, "Standard deviations that latents stay within; 0 truncates nothing.", minimum=0
    )
    interpolate: bool = cli.field(False, "Each row of the grid leads from one image to another.")
    label: int = cli.field(
        -1, "Label to sample, of conditional runs; -1 for all in turn.", minimum=-1
    )
    batch_size: int = cli.field(256, "Images made at a time; fewer need less memory.", minimum=1)

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)


def run(config: Config) -> np.ndarray:
    """Samples and writes the file; returns the images, [num, H, W, C] uint8."""
    out = pathlib.Path(config.out).expanduser()
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"--out={config.out} ends in neither .png nor .npz")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out={config.out}: {out.parent} is not a folder that can be written")
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of a run")
    gen, variables, settings, step = load.load_generator(config.workdir, which=config.checkpoint)

    columns = math.ceil(math.sqrt(config.num))
    key = jax.random.key(config.seed)
    if config.interpolate:
        rows = math.ceil(config.num / columns)
        z = sample.interpolations(key, rows, columns, settings.latent_dim)
    else:
        z = sample.draw(key, config.num, settings.latent_dim, truncation=config.truncation)
    label = _labels(config, len(z), gen.num_classes)
    made = sample.generate(gen, variables, z, label, batch_size=config.batch_size)
    pixels = images.to_uint8(made)
    if out.suffix == ".png":
        images.save_png(out, images.grid(pixels, columns=columns))
    else:
        arrays = {"image": pixels} if label is None else {"image": pixels, "label": label}
        np.savez_compressed(out, **arrays)
    print(f"wrote {len(pixels)} images of step {step} to {out}")
    return pixels


def _labels(config: Config, num: int, num_classes: int) -> jax.Array | None:
    if config.label >= 0 and config.label >= num_classes:
        known = f"labels 0 to {num_classes - 1}" if num_classes else "no labels"
        raise UserError(f"--label={config.label}: the run has {known}")
    if not num_classes:
        return None
    return jnp.full(num, config.label) if config.label >= 0 else jnp.arange(num) % num_classes


if __name__ == "__main__":
    cli.main(Config, run)
