"""Scores a run's generator, or a set of samples, against real images; offline.

    python -m experiments.evaluate --workdir=runs/mnist
    python -m experiments.evaluate --samples=DIR_OR_NPZ --dataset=mnist --data_dir=DIR

Compares --num samples with as many images of the test split, which the generator has not seen, and
prints every metric beside its floor: what as many training images get. For digits the features are
those of the classifier that `python -m experiments.classifier` trains; with --features=inception,
those of the Inception-v3 that the FID is defined by. Writes evaluation.json into the run directory.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from jaxgan import cli, data, experiment, images, parallel, sample
from jaxgan.data.registry import Source
from jaxgan.metrics import evaluate, features, weights
from jaxgan.types import UserError

METRICS = {  # of the table: name -> what is better
    "score": "higher",
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "sliced_wasserstein": "lower",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of an evaluation."""

    workdir: str = cli.field("", "Directory of the run to score.")
    samples: str = cli.field("", "Samples to score instead: a folder of images or an .npz file.")
    dataset: str = cli.field("", "Reference dataset; empty for the run's own.")
    data_dir: str = cli.field("", "Where the reference data are; empty for where the run had them.")
    num: int = cli.field(10_000, "Samples, and reference images at most.", minimum=2)
    features: str = cli.field(
        "classifier", "What images are compared by.", choices=("classifier", "inception")
    )
    weights: str = cli.field("", "File of the features' weights, where not in its usual place.")
    out: str = cli.field("", "File to write; empty for evaluation.json in the run directory.")
    seed: int = cli.field(0, "Seed of the latents and of whatever the metrics draw.", minimum=0)
    batch_size: int = cli.field(500, "Images at a time; fewer need less memory.", minimum=1)
    cache: str = cli.field(
        "~/.cache/jaxgan/features", "Directory of reference features; empty for none."
    )

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)
        if bool(self.workdir) == bool(self.samples):
            raise UserError("give either --workdir or --samples")
        if self.samples and not self.dataset:
            raise UserError("--samples needs --dataset, the images to compare them with")
        if self.samples and not self.out:
            raise UserError("--samples needs --out=FILE.json to write the result to")


def run(config: Config) -> dict[str, Any]:
    """Evaluates; prints the table and returns what evaluation.json holds."""
    parallel.initialize(compilation_cache="~/.cache/jaxgan")
    started = time.perf_counter()
    if config.workdir:
        fake, reference, step = _from_run(config)
    else:
        fake, reference, step = (
            _from_files(config),
            _Reference(config.dataset, config.data_dir),
            None,
        )
    feature_fn, record = _feature_fn(config, reference)
    real, train = (reference.load(split) for split in ("test", "train"))
    known = {
        name: _reference_features(config, source, name, feature_fn, str(record["sha256"]))
        for name, source in (("real", real), ("train", train))
    }
    result = evaluate.evaluate(
        _first(real, config.num),
        fake,
        feature_fn,
        train=_first(train, config.num),
        known=known,
        seed=config.seed,
        batch_size=config.batch_size,
        progress=True,
    )
    result = {
        "step": step,
        "reference": {"dataset": reference.dataset, "split": "test", "data": real.fingerprint},
        "features": {"name": config.features, **record},
        "seconds": round(time.perf_counter() - started, 1),
        **result,
    }
    out = pathlib.Path(config.out or pathlib.Path(config.workdir) / "evaluation.json").expanduser()
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"wrote {out}")
    return result


def table(result: dict[str, Any]) -> str:
    """Lays the metrics out beside their floor, one a line."""
    floor = result["floor"]
    lines = [f"{'metric':20} {'samples':>10} {'floor':>10}"]
    for name, better in METRICS.items():
        if name in result:
            lines.append(f"{name:20} {result[name]:10.4f} {floor[name]:10.4f}  {better} is better")
    counts = f"{result['num_fake']} samples, {result['num_real']} test, {result['num_train']} train"
    copies = f"{result['nearer_to_train']:.3f} of the samples are nearer to train than to test"
    return "\n".join([*lines, counts, copies])


@dataclasses.dataclass(frozen=True)
class _Reference:
    """The real images that samples are compared with."""

    dataset: str
    data_dir: str
    image_size: int = 0
    channels: int = 0

    def load(self, split: str) -> Source:
        return data.load(
            self.dataset,
            data_dir=self.data_dir,
            split=split,
            image_size=self.image_size,
            channels=self.channels,
        )


def _from_run(config: Config) -> tuple[np.ndarray, _Reference, int]:
    """Samples of a run's moving average, what it was trained on, and its step."""
    gen, variables, settings, step = experiment.load_generator(config.workdir)
    z = sample.draw(jax.random.key(config.seed), config.num, settings.latent_dim)
    label = np.arange(config.num) % gen.num_classes if gen.num_classes else None
    made = sample.generate(gen, variables, z, label, batch_size=config.batch_size)
    reference = _Reference(
        config.dataset or settings.dataset,
        config.data_dir or settings.data_dir,
        settings.image_size,
        settings.channels,
    )
    # As bytes: what a viewer of the samples would see.
    return images.to_uint8(made), reference, step


def _from_files(config: Config) -> np.ndarray:
    """Samples from a folder of images or an .npz file."""
    kind = "arrays" if config.samples.endswith(".npz") else "folder"
    return _first(data.load(kind, data_dir=config.samples), config.num)


def _first(source: Source, num: int) -> np.ndarray:
    """The first images of a source, in its own order."""
    return source[np.arange(min(num, len(source)))]["image"]


def _feature_fn(
    config: Config, reference: _Reference
) -> tuple[features.FeatureFn, dict[str, object]]:
    """What images are compared by, and the record of its weights."""
    if config.features == "inception":
        if not config.weights:
            raise UserError("--features=inception needs --weights=FILE, the Inception weights")
        params, record = weights.load_inception(config.weights)
        return features.inception_features(params), record
    params, record = weights.load_classifier(
        reference.dataset, data_dir=reference.data_dir, path=config.weights
    )
    return features.digit_features(params), {"sha256": record["sha256"]}


def _reference_features(
    config: Config, source: Source, name: str, feature_fn: features.FeatureFn, digest: str
) -> dict[str, np.ndarray]:
    """Features of reference images, kept by the digests of data and weights."""
    if not config.cache:
        return features.extract(feature_fn, _first(source, config.num), progress=True)
    content = f"{source.fingerprint}-{config.num}-{name}-{digest}"
    folder = pathlib.Path(config.cache).expanduser()
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    out = features.extract(
        feature_fn, _first(source, config.num), batch_size=config.batch_size, progress=True
    )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
    np.savez(unfinished, **out)  # pyright: ignore[reportArgumentType]
    unfinished.replace(path)
    return out


if __name__ == "__main__":
    cli.main(Config, run)
