"""Samples from a finished or running experiment's generator.

    python -m experiments.sample --workdir=runs/quickstart --num=64 --out=grid.png

The generator is the moving average of the newest checkpoint, or with --checkpoint=best of the one
that scored best in training; everything else is found in the run directory. An output named .npz
holds the samples as arrays instead of a picture; sentences go into a .txt, one a line, with
--temperature, --top_k and --prompt. --per_class=100 --out=DIR writes a labelled set, a folder of
pictures for each class (or NAME.npz), without copies of training images: see its manifest.json.
Runs of an experiment of one's own need --module, the
importable name of the file that defines its Config and build.

    python -m experiments.sample --workdir=runs/quickstart --num=16 --out=walk.gif
    python -m experiments.sample --workdir=runs/quickstart --motion=training --out=training.gif

An output named .gif, .webp or .mp4 moves: --num walks through the latents side by side, each of one
label and back to where it began, or the pictures that training wrote into samples/, one a step.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments import _augmented, _motion, _trained
from jaxgan import images, sample
from jaxgan.data.spec import Spec
from jaxgan.data.vocabulary import Vocabulary
from jaxgan.run import cli, load
from jaxgan.types import UserError


@dataclasses.dataclass(frozen=True)
class Config(_trained.GeneratorFlags):
    """The flags of sampling."""

    num: int = cli.field(
        64, "Samples to make; with --interpolate, rounded to a full grid.", minimum=1
    )
    out: str = cli.field(
        "samples.png",
        "File to write: .png for a picture, .npz for arrays, .txt for lines of text; .gif, .webp "
        "or .mp4 for a moving picture.",
    )
    seed: int = cli.field(0, "Seed of the latents.", minimum=0)
    truncation: float = cli.field(
        0.0, "Standard deviations that latents stay within; 0 truncates nothing.", minimum=0
    )
    psi: float = cli.field(
        1.0,
        "Of StyleGAN2, how far from the mean of its latents w: 1 as trained, less for fewer odd "
        "images and less variety.",
        minimum=0,
    )
    interpolate: bool = cli.field(False, "Each row of the grid leads from one sample to another.")
    temperature: float = cli.field(
        1.0,
        "Of text: below 1 likelier words, and less variety; 0 the likeliest ones alone.",
        minimum=0,
    )
    top_k: int = cli.field(
        0, "Of text: how many of the likeliest words may follow; 0 for all.", minimum=0
    )
    prompt: str = cli.field("", "Of text: how each sample begins.")
    label: str = cli.field(
        "", "Label or class name to sample, of conditional runs; empty for all in turn."
    )
    per_class: int = cli.field(
        0, "Images of each class to write into the folder (or .npz) --out; 0 for a grid.", minimum=0
    )
    data_dir: str = cli.field("", "Of --per_class, the training data, where not as in training.")
    standing_batches: int = cli.field(
        0, "Batches to estimate the generator's batch statistics anew over; 0 for none.", minimum=0
    )
    motion: str = cli.field(
        "walk",
        "What moves in a .gif, .webp or .mp4: walks through the latents, or the samples of the "
        "steps of training.",
        choices=_motion.MOTIONS,
    )
    frames: int = cli.field(120, "Of --motion=walk: pictures of a round.", minimum=2)
    fps: float = cli.field(
        0.0, "Pictures a second; 0 for 20 of a walk and 2 of training.", minimum=0
    )
    batch_size: int = cli.field(256, "Samples made at a time; fewer need less memory.", minimum=1)


def run(config: Config) -> Mapping[str, np.ndarray]:
    """Samples and writes the file; returns the entries, images as [num, H, W, C] uint8.

    Of a moving picture they are those it begins with, and none where it shows training.
    """
    out = pathlib.Path(config.out).expanduser()
    if not config.per_class and out.suffix not in (".png", ".npz", ".txt", *_motion.SUFFIXES):
        raise UserError(
            f"--out={config.out} ends in none of .png, .npz, .txt, .gif, .webp and .mp4"
        )
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out={config.out}: {out.parent} is not a folder that can be written")
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of a run")
    if config.per_class:
        _augmented.check(config, out)
    moves = not config.per_class and out.suffix in _motion.SUFFIXES
    if moves:
        _motion.check(config)
    if moves and config.motion == "training":
        shown = _motion.training(config.workdir, out, fps=config.fps)
        print(f"wrote {shown} pictures of training to {out}")
        return {}
    trained = config.opened()
    if config.per_class:
        made = _augmented.write(config, trained, _of_labels(config, trained), out)
        print(f"wrote {len(made)} images of step {trained.step} to {out}")
        return {"image": made}
    if _is_text(trained) and out.suffix not in (".txt", ".npz"):
        raise UserError(f"--out={config.out}: these are sentences; name a .txt or .npz")
    if moves:
        return _walk(config, trained, out)
    entries = _entries(config, trained)
    if out.suffix == ".png":
        images.save_png(out, _picture(config, trained, entries))
    elif out.suffix == ".txt":
        shown = trained.experiment.show(entries)
        if not isinstance(shown, list):
            raise UserError(f"--out={config.out}: these are pictures; name a .png or .npz")
        out.write_text("\n".join([*shown, ""]), encoding="utf-8", errors="replace")
    else:
        np.savez_compressed(out, **entries)  # pyright: ignore[reportArgumentType]
    print(f"wrote {len(next(iter(entries.values())))} samples of step {trained.step} to {out}")
    return entries


def _picture(
    config: Config, trained: load.Trained, entries: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The samples in one picture: in rows with the names of their classes, where these are known.

    A picture of one class, of interpolations or of fewer than two samples a class is a plain grid.
    """
    names = trained.spec.class_names
    in_turn = not config.label and not config.interpolate and config.num >= 2 * len(names)
    if names and in_turn and "label" in entries and "image" in entries:
        return images.by_class(entries["image"], entries["label"], names)
    return trained.experiment.show(entries)  # pyright: ignore[reportReturnType]


def _of_labels(config: Config, trained: load.Trained) -> _augmented.Generate:
    """Makes images of labels, with the flags of the sampler."""
    given = _augmented.conditional(config, trained), config.variables(trained)
    sampler, variables, _ = _adjusted(config, *given, jax.random.key(config.seed))

    def generate(key: jax.Array, label: np.ndarray) -> np.ndarray:
        z = sampler.draw(key, len(label), truncation=config.truncation)
        return images.to_uint8(sampler.generate(variables, z, label)["image"])

    return generate


def _entries(config: Config, trained: load.Trained) -> dict[str, np.ndarray]:
    """Samples as asked for; images as bytes."""
    variables = config.variables(trained)
    sampler, key = trained.experiment.sample, jax.random.key(config.seed)
    if not _is_text(trained) and (config.temperature != 1 or config.top_k or config.prompt):
        raise UserError("--temperature, --top_k, --prompt: not a generator of text")
    if _is_text(trained):
        entries = _sentences(config, trained, variables, key)
    elif isinstance(sampler, sample.Sampler):
        entries = chosen(config, trained.spec, sampler, variables, key)
    elif (
        config.truncation
        or config.interpolate
        or config.label
        or config.standing_batches
        or config.psi != 1
    ):
        raise UserError(
            "--truncation, --psi, --interpolate, --label, --standing_batches: not a generator of "
            "latents"
        )
    else:
        entries = trained.sample(key, config.num, member=config.member)
    found = {name: np.asarray(value) for name, value in entries.items()}
    pictures = {name: images.to_uint8(x) for name, x in found.items() if x.ndim == 4}
    return {**found, **pictures}


def _walk(config: Config, trained: load.Trained, out: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes walks through the latents; returns what they begin with."""
    sampler, key = trained.experiment.sample, jax.random.key(config.seed)
    variables = config.variables(trained)
    if not isinstance(sampler, sample.Sampler):
        raise UserError(f"--out={config.out}: not a generator of latents; name a .png or .npz")
    sampler, variables, key = _adjusted(config, sampler, variables, key)
    z = sampler.loops(key, config.num, config.frames, truncation=config.truncation)
    label = sampler.labels(config.num, even=True)
    if config.label:
        number = label_number(config.label, trained.spec, conditional=label is not None)
        label = np.full(config.num, number, np.int32)
    frames = _motion.frames(sampler, variables, z, label)
    first = _motion.write(
        out, frames, config.frames, show=trained.experiment.show, fps=config.fps or 20
    )
    print(f"wrote {config.num} walks of {config.frames} pictures of step {trained.step} to {out}")
    return first


def _is_text(trained: load.Trained) -> bool:
    return "text" in trained.spec.shapes


def _sentences(
    config: Config, trained: load.Trained, variables: Any, key: jax.Array
) -> Mapping[str, np.ndarray]:
    """Sentences as asked for."""
    for name in ("truncation", "interpolate", "standing_batches"):
        if getattr(config, name):
            raise UserError(f"--{name}: not a generator of latents")
    spec, options = trained.spec, {}
    if config.label:
        conditional = bool(spec.label_counts)
        label = label_number(config.label, spec, conditional=conditional)
        options["label"] = np.full(config.num, label, np.int32)
    if config.prompt:
        options["prompt"] = _prompt(config.prompt, spec)
    if config.temperature != 1:
        options["temperature"] = config.temperature
    sampler: Any = trained.experiment.sample
    return sampler(variables, key, config.num, top_k=config.top_k or None, **options)


def _prompt(text: str, spec: Spec) -> np.ndarray:
    """The words that sentences begin with, by number."""
    if not spec.vocabulary:
        raise UserError(f"--prompt={text}: the run has no words, only numbers")
    known = Vocabulary(spec.vocabulary, spec.unit)
    unknown = known.unknown(text)
    if unknown:
        words = ", ".join(unknown[:5])
        raise UserError(f"--prompt={text}: the run does not know {words}; leave it out")
    (length,), tokens = spec.shapes["text"], known.tokenize(text)
    if len(tokens) >= length:
        raise UserError(f"--prompt={text}: has {len(tokens)} words; samples have {length} at most")
    numbers, _ = known.encode_tokens([tokens], max_length=len(tokens), end=False)
    return numbers[0]


def chosen(
    config: Config, spec: Spec, sampler: sample.Sampler, variables: Any, key: jax.Array
) -> dict[str, np.ndarray]:
    """Makes samples of the latents and labels that the flags choose.

    Args:
      config: the flags.
      spec: of the run's data.
      sampler: of its experiment.
      variables: of the generator.
      key: consumed.

    Returns:
      Entries, as the sampler makes them.
    """
    sampler, variables, key = _adjusted(config, sampler, variables, key)
    columns = math.ceil(math.sqrt(config.num))
    rows, num = math.ceil(config.num / columns), config.num
    if config.interpolate:
        num = rows * columns
        z = sampler.interpolations(key, rows, columns, truncation=config.truncation)
    else:
        z = sampler.draw(key, num, truncation=config.truncation)
    label = sampler.labels(rows if config.interpolate else num, even=True)
    if label is not None and config.interpolate:
        label = np.repeat(label, columns)  # each row stays within its class
    if config.label:
        label = np.full(
            num, label_number(config.label, spec, conditional=label is not None), np.int32
        )
    return sampler.generate(variables, z, label)


def _adjusted(
    config: Config, sampler: sample.Sampler, variables: Any, key: jax.Array
) -> tuple[sample.Sampler, Any, jax.Array]:
    """The sampler and the variables as the flags want them, and the key that is left."""
    sampler = dataclasses.replace(sampler, batch_size=config.batch_size)
    if config.psi != 1:
        sampler = sampler.truncated(config.psi)
    if config.standing_batches:
        key, own_key = jax.random.split(key)
        variables = sampler.standing(own_key, variables, num_batches=config.standing_batches)
    return sampler, variables, key


def label_number(text: str, spec: Spec, *, conditional: bool) -> int:
    """Reads a label: its number, or the name of its class.

    Args:
      text: as given.
      spec: of the run's data.
      conditional: whether its generator takes labels.

    Returns:
      The number.

    Raises:
      UserError: there is no such label, or there are none.
    """
    if not conditional:
        raise UserError(f"--label={text}: the run has no labels")
    if text in spec.class_names:
        return spec.class_names.index(text)
    if text.isdecimal() and int(text) < spec.num_classes:
        return int(text)
    names = f", or {', '.join(spec.class_names[:20])}" if spec.class_names else ""
    raise UserError(f"--label={text}: the run has labels 0 to {spec.num_classes - 1}{names}")


if __name__ == "__main__":
    cli.main(Config, run)
