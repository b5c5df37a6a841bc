"""Samples from a finished or running experiment's generator.

    python -m experiments.sample --workdir=runs/quickstart --num=64 --out=grid.png

The generator is the moving average of the newest checkpoint, or with --checkpoint=best of the one
that scored best in training; everything else is found in the run directory. An output named .npz
holds the samples as arrays instead of a picture; sentences go into a .txt, one a line, with
--temperature, --top_k and --prompt. --per_class=100 --out=DIR writes a labelled set, a folder of
pictures for each class (or NAME.npz), without copies of training images: see its manifest.json.
Runs of an experiment of one's own need --module, the importable name of the file that defines its
Config and build.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments import _augmented
from jaxgan import images, sample
from jaxgan.data.spec import Spec
from jaxgan.data.vocabulary import Vocabulary
from jaxgan.run import cli, load
from jaxgan.types import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of sampling."""

    workdir: str = cli.field("", "Directory of the run to sample from.")
    checkpoint: str = cli.field(
        "newest", "Checkpoint to sample: newest, best (of a run with --eval_every), or a step."
    )
    module: str = cli.field("", "Module of the run's experiment, where it is not a bundled one.")
    member: int = cli.field(0, "Which GAN of a run with --seeds, from 0.", minimum=0)
    num: int = cli.field(
        64, "Samples to make; with --interpolate, rounded to a full grid.", minimum=1
    )
    out: str = cli.field(
        "samples.png", "File to write: .png for a picture, .npz for arrays, .txt for lines of text."
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
    batch_size: int = cli.field(256, "Samples made at a time; fewer need less memory.", minimum=1)

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)


def run(config: Config) -> Mapping[str, np.ndarray]:
    """Samples and writes the file; returns the entries, images as [num, H, W, C] uint8."""
    out = pathlib.Path(config.out).expanduser()
    if not config.per_class and out.suffix not in (".png", ".npz", ".txt"):
        raise UserError(f"--out={config.out} ends in none of .png, .npz and .txt")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out={config.out}: {out.parent} is not a folder that can be written")
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of a run")
    if config.per_class:
        _augmented.check(config, out)
    trained = load.load(config.workdir, which=config.checkpoint, module=config.module)
    if config.per_class:
        made = _augmented.write(config, trained, _of_labels(config, trained), out)
        print(f"wrote {len(made)} images of step {trained.step} to {out}")
        return {"image": made}
    if _is_text(trained) and out.suffix == ".png":
        raise UserError(f"--out={config.out}: these are sentences; name a .txt or .npz")
    entries = _entries(config, trained)
    if out.suffix == ".png":
        images.save_png(out, trained.experiment.show(entries))  # pyright: ignore[reportArgumentType]
    elif out.suffix == ".txt":
        shown = trained.experiment.show(entries)
        if not isinstance(shown, list):
            raise UserError(f"--out={config.out}: these are pictures; name a .png or .npz")
        out.write_text("\n".join([*shown, ""]), encoding="utf-8", errors="replace")
    else:
        np.savez_compressed(out, **entries)  # pyright: ignore[reportArgumentType]
    print(f"wrote {len(next(iter(entries.values())))} samples of step {trained.step} to {out}")
    return entries


def _of_labels(config: Config, trained: load.Trained) -> _augmented.Generate:
    """Makes images of labels, with the flags of the sampler."""
    given = _augmented.conditional(config, trained), _member(config, trained)
    sampler, variables = _prepared(config, *given)

    def generate(key: jax.Array, label: np.ndarray) -> np.ndarray:
        z = sampler.draw(key, len(label), truncation=config.truncation)
        return images.to_uint8(sampler.generate(variables, z, label)["image"])

    return generate


def _member(config: Config, trained: load.Trained) -> Any:
    """The variables of the generator that is asked for."""
    members = trained.members()
    if config.member >= len(members):
        raise UserError(f"--member={config.member}: the run has {len(members)}, counted from 0")
    return members[config.member]


def _entries(config: Config, trained: load.Trained) -> dict[str, np.ndarray]:
    """Samples as asked for; images as bytes."""
    variables = _member(config, trained)
    sampler, key = trained.experiment.sample, jax.random.key(config.seed)
    if not _is_text(trained) and (config.temperature != 1 or config.top_k or config.prompt):
        raise UserError("--temperature, --top_k, --prompt: not a generator of text")
    if _is_text(trained):
        entries = _sentences(config, trained, variables, key)
    elif isinstance(sampler, sample.Sampler):
        entries = _chosen(config, trained.spec, sampler, variables, key)
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
        label = _label(config.label, spec, conditional=conditional)
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


def _chosen(
    config: Config, spec: Spec, sampler: sample.Sampler, variables: Any, key: jax.Array
) -> dict[str, np.ndarray]:
    """Samples of the latents and labels that the flags choose."""
    if config.standing_batches:
        key, _ = jax.random.split(key)  # the other one is for the statistics
    sampler, variables = _prepared(config, sampler, variables)
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
        label = np.full(num, _label(config.label, spec, conditional=label is not None), np.int32)
    return sampler.generate(variables, z, label)


def _prepared(
    config: Config, sampler: sample.Sampler, variables: Any
) -> tuple[sample.Sampler, Any]:
    """The sampler and its variables as the flags ask for."""
    sampler = dataclasses.replace(sampler, batch_size=config.batch_size)
    if config.psi != 1:
        sampler = sampler.truncated(config.psi)
    if config.standing_batches:
        _, key = jax.random.split(jax.random.key(config.seed))
        variables = sampler.standing(key, variables, num_batches=config.standing_batches)
    return sampler, variables


def _label(text: str, spec: Spec, *, conditional: bool) -> int:
    """The number of a label, or of the class of a name."""
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
