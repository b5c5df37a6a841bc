"""Scores a run's generator, or a set of samples, against real images; offline.

    python -m experiments.evaluate --workdir=runs/mnist
    python -m experiments.evaluate --samples=DIR_OR_NPZ --reference=mnist --data_dir=DIR
    python -m experiments.evaluate --samples=DIR_OR_NPZ --reference=DIR_OR_NPZ --weights=FILE
    python -m experiments.evaluate --samples=SAMPLES.txt --reference=TEST.txt

Compares --num samples with as many images of the test split, which the generator has not seen, and
prints every metric beside its floor: what as many training images get. All are chosen at random.
--reference_split=train compares with the training split instead, as many published protocols do,
and takes the floor from the test split. Where files given as reference have no test split, two
random halves take the place of the splits.

The features are those of the reference dataset's own classifier, which
`python -m experiments.classifier` trains. Without labels, use --features=autoencoder, which trains
an autoencoder on the training images first (about a minute), or --features=random, an untrained
network. --features=inception are those of the Inception-v3 that the FID is defined by.

A run whose experiment has a measure of its own, as mixtures, StackedMNIST, restorers, translators
and generators of text have, gets that; a restorer also of the pictures in --data_dir, and beside
other methods (--rivals=bm3d,nlm). Sentences, one a line, are compared with all lines of the
reference: BLEU, and self-BLEU beside that of as many lines of the reference. Of a run of several
seeds each is scored, and the table has the mean and its 95 % interval. All devices
take part. --checkpoint=best scores the checkpoint that scored best in training. Writes
evaluation.json into the run directory, or beside the samples.
"""

import dataclasses
import functools
import json
import os
import pathlib
import stat
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments import _trained
from jaxgan import data, images, parallel, sample, types
from jaxgan.data import sentences, words
from jaxgan.metrics import bleu, evaluate, intervals, modes
from jaxgan.metrics import reference as references
from jaxgan.metrics import text as texts
from jaxgan.run import cli, experiment, load, scoring
from jaxgan.types import UserError

TEXT = ".txt"


@dataclasses.dataclass(frozen=True)
class Config(_trained.RunFlags):
    """The flags of an evaluation."""

    even_labels: bool = cli.field(
        False, "Draws as many samples of each class, rather than as in the training data."
    )
    standing_batches: int = cli.field(
        0, "Batches to estimate the generator's batch statistics anew over; 0 for none.", minimum=0
    )
    samples: str = cli.field(
        "", "Samples to score instead: a folder of images, an .npz file or a .txt of sentences."
    )
    reference: str = cli.field(
        "",
        "Images to compare with: a dataset, a folder of images or an .npz file; empty for the "
        "run's dataset.",
    )
    reference_split: str = cli.field(
        "test", "Part of it that samples are compared with.", choices=references.SPLITS
    )
    data_dir: str = cli.field("", "Where that dataset is; empty for where the run had it.")
    rivals: str = cli.field(
        "",
        "Of restorers, methods without training to run beside: bm3d, nlm (non-local means), "
        "bicubic; several with commas.",
    )
    noise: str = cli.field(
        "",
        "Of restorers, the noise to test with; empty for the run's. One that was trained on a "
        "range is tested at each level by itself.",
    )
    image_size: int = cli.field(
        0, "Side that all images are brought to; 0 for the run's, or as they are.", minimum=0
    )
    channels: int = cli.field(
        0, "1 for grey, 3 for RGB; 0 for the run's, or as they are.", choices=(0, 1, 3)
    )
    num: int = cli.field(
        10_000, "Samples, and reference images at most.", minimum=references.MIN_IMAGES
    )
    features: str = cli.field(
        "classifier", "What images are compared by.", choices=references.KINDS
    )
    weights: str = cli.field(
        "", "File of the features' weights, or folder of classifiers, where not in its usual place."
    )
    out: str = cli.field(
        "", "File to write; empty for evaluation.json beside the samples or in the run directory."
    )
    seed: int = cli.field(
        0, "Seed of the latents, the images chosen and whatever the metrics draw.", minimum=0
    )
    batch_size: int = cli.field(500, "Images at a time; fewer need less memory.", minimum=1)
    cache: str = cli.field(
        references.CACHE, "Directory of reference features and autoencoders; empty for none."
    )

    def __post_init__(self):
        """Checks every field, and that they go together."""
        super().__post_init__()
        if bool(self.workdir) == bool(self.samples):
            raise UserError("give either --workdir or --samples")
        if self.samples and not self.reference:
            raise UserError("--samples needs --reference, the images to compare them with")
        if self.workdir and (self.image_size or self.channels):
            raise UserError("--image_size and --channels are those of the run with --workdir")
        if self.features == "inception" and not self.weights:
            raise UserError("--features=inception needs --weights=FILE, the Inception weights")


def run(config: Config) -> dict[str, Any]:
    """Evaluates; prints the table and returns what evaluation.json holds."""
    parallel.initialize(compilation_cache="~/.cache/jaxgan")
    started = time.perf_counter()
    out = _out_file(config)
    trained = None
    if config.workdir:
        trained = config.opened()
    if trained and trained.experiment.score:
        result = _by_task(config, trained, _score(config, trained.experiment.score))
    elif config.samples.endswith(TEXT):
        result = _by_sentences(config)
    elif config.rivals or config.noise:
        raise UserError("--rivals and --noise are of restorers: --workdir of experiments.restore")
    else:
        result = _by_images(config, trained)
    result["seconds"] = round(time.perf_counter() - started, 1)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(modes.table_row(result) if "protocol" in result else table(result))
    print(f"wrote {out}")
    return result


def _score(config: Config, score: experiment.Score) -> experiment.Score:
    """The run's own measure, of the data and beside the rivals that were asked for."""
    rivals = tuple(filter(None, config.rivals.split(",")))
    if score.of:
        return score.of(config.data_dir, rivals, config.noise)
    if rivals or config.noise:
        raise UserError(f"--rivals and --noise: there are none for {score.protocol}")
    return score


def _by_task(config: Config, trained: load.Trained, score: experiment.Score) -> dict[str, Any]:
    """The run's own measure, of each seed."""
    draws = _draws(config, trained, score.draw)
    each = [score.measure(draw(jax.random.key(config.seed), score.num)) for draw in draws]
    return {
        "step": trained.step,
        "protocol": score.protocol,
        "seeds": len(each),
        **{name: [one[name] for one in each] for name in each[0]},
        "floor": dict(score.floor),
        "num_samples": score.num,
    }


def _by_sentences(config: Config) -> dict[str, Any]:
    """What samples and real sentences say by themselves, each a line of a file."""
    samples, references = (
        [words.split(line) for line in sentences.lines_of(pathlib.Path(place).expanduser())]
        for place in (config.samples, config.reference)
    )
    samples = samples[: config.num]
    found = texts.compare(samples, references)
    real = bleu.self_bleu(references[: len(samples)])
    return {
        "protocol": f"{config.samples} against {config.reference}",
        "seeds": 1,
        **{name: [value] for name, value in found.items()},
        "floor": {f"self_bleu{n}": value for n, value in real.items()},
        "num_samples": len(samples),
        "num_references": len(references),
    }


def _by_images(config: Config, trained: load.Trained | None) -> dict[str, Any]:
    """Every metric of samples, of each seed of a run, against a dataset's images."""
    dataset, data_dir = _named(config, trained.config if trained else None)
    size: dict[str, Any] = {"image_size": config.image_size, "channels": config.channels}
    if trained:
        height, width, channels = _image_shape(trained)
        size = {"image_size": (height, width), "channels": channels}
        if not config.reference:
            size["holdout"] = trained.config.holdout
    reference = references.open_reference(
        functools.partial(data.load, dataset, data_dir=data_dir, **size),
        split=config.reference_split,
        num=config.num,
        seed=config.seed,
        divide=bool(config.reference),  # what a run was trained on is no test of it
    )
    feature_fn, record = references.open_features(
        config.features,
        dataset=dataset,
        train=reference.train,
        data_dir=data_dir,
        path=config.weights,
        cache=config.cache,
    )
    references.check_fit(reference.real, feature_fn)
    sets = {
        name: references.take(source, config.num, seed=config.seed)
        for name, source in (("real", reference.real), ("floor", reference.floor))
        if source is not None
    }
    options = {"batch_size": config.batch_size, "place": parallel.spread(), "progress": True}
    kept = {"digest": str(record["sha256"]), "cache": config.cache, **options}
    known = {name: references.extract(images, feature_fn, **kept) for name, images in sets.items()}
    compare = functools.partial(
        evaluate.evaluate,
        **sets,
        feature_fn=feature_fn,
        trained_on=reference.trained_on,
        known=known,
        seed=config.seed,
        **options,
    )
    each = []
    for fake in _generated(config, trained) if trained else [_from_files(config, size)]:
        evaluate.check_sets({**sets, "fake": fake}, least=references.MIN_IMAGES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", evaluate.FewSamples)  # the table has its own words
            each.append(compare(fake=fake))
    return {
        "step": trained.step if trained else None,
        "reference": {
            "dataset": dataset,
            "reference_split": config.reference_split,
            "split": reference.split,
            "floor_split": reference.floor_split if "floor" in sets else None,
            "data": reference.real.fingerprint,
        },
        "features": record,
        **_over_seeds(each),
        "warnings": [*references.feature_warnings(record), *each[0]["warnings"]],
    }


def _over_seeds(each: list[dict[str, Any]]) -> dict[str, Any]:
    """One result of those of several seeds: means, with intervals and all numbers beside them."""
    if len(each) == 1:
        return each[0]
    names = [name for name in (*evaluate.BETTER, "nyquist_ratio") if name in each[0]]
    found = {name: [one[name] for one in each] for name in names}
    means = {name: intervals.interval(values) for name, values in found.items()}
    return {
        **each[0],
        **{name: mean for name, (mean, _) in means.items()},
        "interval": {name: half for name, (_, half) in means.items()},
        "seeds": found,
    }


def table(result: dict[str, Any]) -> str:
    """Lays the metrics out beside their floor, one a line, with what they were computed from."""
    floor, used, parts = result.get("floor", {}), result["features"], result["reference"]
    lines = [f"{'metric':20} {'samples':>10} {'floor':>10}"]
    for name, better in evaluate.BETTER.items():
        if name in result:
            beside = f"{floor[name]:10.4f}" if floor else f"{'-':>10}"
            error = result.get(f"{name}_error")
            spread = f", standard error {error:.2g}" if error is not None else ""
            if "interval" in result:  # over seeds
                spread = f", +- {result['interval'][name]:.2g}"
            lines.append(f"{name:20} {result[name]:10.4f} {beside}  {better} is better{spread}")
    beside = f"{floor['nyquist_ratio']:10.4f}" if floor else f"{'-':>10}"
    nyquist = f"{'nyquist_ratio':20} {result['nyquist_ratio']:10.4f} {beside}"
    lines.append(f"{nyquist}  near 1 is better: above 2 are checkerboards, below 1/2 is blur")
    lines.append(f"{result['num_fake']} samples against {result['num_real']} of {parts['split']}")
    if floor:
        lines.append(f"floor: {result['num_floor']} of {parts['floor_split']} against the same")
    else:
        lines.append("no floor: the reference holds all real images; lower --num to leave some out")
    if "nearer_to_train" in result:
        share = result["nearer_to_train"]
        lines.append(f"{share:.3f} of the samples are nearer to train than to test")
    lines.append(f"features of the {_described(used)}, sha256 {used['sha256'][:12]}")
    return "\n".join([*lines, *(f"note: {text}" for text in result["warnings"])])


def _described(used: Mapping[str, Any]) -> str:
    """What computed the features, in words."""
    if used["name"] == "autoencoder":
        return f"autoencoder trained on {used['images']} images of {used['dataset']}"
    if used["name"] == "random":
        return f"random network (untrained, seed {used['seed']})"
    what = used.get("weights") or f"classifier of {used.get('dataset', 'unknown images')}"
    accuracy = used.get("test_accuracy")
    return what if accuracy is None else f"{what} ({accuracy:.2%} of its test images)"


def _out_file(config: Config) -> pathlib.Path:
    """The file to write, checked before the time is spent."""
    if config.workdir and not config.out:
        return _own_file(pathlib.Path(config.workdir).expanduser() / "evaluation.json")
    samples = pathlib.Path(config.samples).expanduser()
    is_file = _is_archive(config.samples) or config.samples.endswith(TEXT)
    beside = samples.parent if is_file else samples
    out = pathlib.Path(config.out).expanduser() if config.out else beside / "evaluation.json"
    if out.parent.is_dir() and os.access(out.parent, os.W_OK):
        return out
    if config.out or out.parent.is_dir():
        raise UserError(
            f"--out={config.out}: {out.parent} is not a folder that can be written; name a file"
        )
    return out  # what is wrong with the samples is said when they are read


def _own_file(path: pathlib.Path) -> pathlib.Path:
    """Refuses a file in a run directory, perhaps of a stranger, that stands for one elsewhere."""
    if os.path.lexists(path):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise UserError(f"{path} is a link, or not a file; remove it, or name one: --out=FILE")
    return path


def _is_archive(place: str) -> bool:
    return place.endswith(".npz")


def _named(config: Config, settings: Any) -> tuple[str, str]:
    """The reference's dataset, and where it lies; a path stands for the images there."""
    place = config.reference
    if not place:
        return settings.dataset, config.data_dir or recorded_place(settings)
    if _is_archive(place):
        return "arrays", place
    if place[0] in "/~." or os.path.isdir(place):  # TensorFlow Datasets' names may have a slash
        return "folder", place
    return place, config.data_dir or (settings.data_dir if settings else "")


def recorded_place(settings: Any) -> str:
    """Tells where a run's record says that its data are: read, but never prepared there.

    Args:
      settings: of the run.

    Returns:
      Its `data_dir`.

    Raises:
      UserError: TensorFlow Datasets would prepare them.
    """
    name, place = settings.dataset, settings.data_dir
    if data.needs_tfds(name, place) and (place or ":" in name):
        raise UserError(
            f"the run's {types.one_line(name, limit=80)} would be prepared by TensorFlow Datasets"
            f" in {place or 'its own folder'}, as its config.json says; if that is yours, repeat"
            " it: --data_dir=DIR"
        )
    return place


def _image_shape(trained: load.Trained) -> tuple[int, ...]:
    """Height, width and channels of what a run makes."""
    key = jax.random.key(0)
    return np.shape(trained.sample(key, 1)["image"])[1:]


def _draws(
    config: Config, trained: load.Trained, draw: experiment.Sample | None = None
) -> list[scoring.Draw]:
    """Draws samples of a run's moving average, one function for each seed."""
    sampler = draw or trained.experiment.sample
    variables = trained.members()
    if isinstance(sampler, sample.Sampler):
        if config.even_labels and sampler.label_counts:
            sampler = dataclasses.replace(sampler, label_counts=(1,) * len(sampler.label_counts))
        if config.standing_batches:
            key, num = jax.random.key(config.seed), config.standing_batches
            variables = [sampler.standing(key, each, num_batches=num) for each in variables]
    elif config.even_labels or config.standing_batches:
        raise UserError("--even_labels and --standing_batches need a generator of latents")
    return [functools.partial(sampler, each) for each in variables]


def _generated(config: Config, trained: load.Trained) -> Iterator[np.ndarray]:
    """Samples of each seed of a run; as bytes: what a viewer of the samples would see."""
    for draw in _draws(config, trained):
        yield images.to_uint8(draw(jax.random.key(config.seed), config.num)["image"])


def _from_files(config: Config, size: Mapping[str, Any]) -> np.ndarray:
    """Samples from a folder of images or an .npz file."""
    kind = "arrays" if _is_archive(config.samples) else "folder"
    source = data.load(kind, data_dir=config.samples, **size)
    return references.take(source, config.num, seed=config.seed)


if __name__ == "__main__":
    cli.main(Config, run)
