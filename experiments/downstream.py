r"""Do generated examples help the classifier that is trained on them? Measured, with intervals.

    python -m experiments.downstream
    python -m experiments.downstream --dataset=mnist --data_dir=DIR --labelled=5,10,50 --plot
    python -m experiments.downstream --dataset=fashion_mnist --data_dir=DIR --keep=Shirt:20
    python -m experiments.downstream --workdir=RUN --num_generated=60000 --share=0.5

trains conditional generators (or takes a finished run), and classifiers on (a) the real examples,
(b) the same with classical augmentation, (c) real and generated ones, (d) all three, (e) generated
ones alone, (f) those with augmentation: what real examples reach in (b), the classification
accuracy score of Ravuri and Vinyals asks of generated ones (https://arxiv.org/abs/
1905.10887). All are tested on the test split, which neither generators nor any choice has seen: the
share of generated examples is chosen on a tenth of the labelled ones, which the generator does not
see either. --labelled takes so many labels of each class, --keep thins classes. Results and the
digests of all images used lie in WORKDIR/downstream.json (--out); the same command again goes on.
"""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import (
    _classifiers,
    _comparison,
    _generators,
    _labelled,
    _learners,
    _plots,
    _summary,
)
from jaxgan import parallel
from jaxgan.metrics import weights
from jaxgan.run import cli, disk
from jaxgan.types import UserError

BASELINES = ("oversampled", "oversampled_augmented", "weighted", "smote")
MIRRORED = ("fashion_mnist",)  # of grey images, those that a mirror leaves what they are
FEW = 20_000  # labelled images, below which classifiers are small
LEAST_STEPS, LEAST_GENERATED = 300, 5000
# What a finished unit does not depend on.
FREE = ("workdir", "out", "labelled", "subsets", "plot")


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of the comparison."""

    dataset: str = cli.field("", "Dataset with labels; empty for the run's, or digits.")
    data_dir: str = cli.field("", "Folder of the data; empty for where the run had it.")
    image_size: int = cli.field(0, "Side of the images; 0 for as they are.", minimum=0)
    channels: int = cli.field(0, "1 grey, 3 RGB; 0 for as the images are.", choices=(0, 1, 3))
    holdout: float = cli.field(
        0.1, "Share kept for testing where the data have no test split.", above=0, below=1
    )
    workdir: str = cli.field(
        "runs/downstream",
        "Directory of generators and results; or of a finished conditional run, whose generators "
        "are then used.",
    )
    out: str = cli.field("", "File of the results; empty for downstream.json in the directory.")
    module: str = cli.field("", "Module of that run's experiment, where it is not a bundled one.")
    recipe: str = cli.field("auto", "Flagfile of the generators; auto for one that suits.")
    gen_steps: int = cli.field(0, "Steps of a generator; 0 for the recipe's.", minimum=0)
    gen_augment: str = cli.field(
        "auto",
        "How discriminators see images; auto for DiffAugment where few are seen 100 times or more, "
        "but none of grey squares.",
        choices=("auto", "none", "diffaug", "ada", "ramp"),
    )
    generators: int = cli.field(1, "Generators of each labelled subset.", minimum=1)
    labelled: str = cli.field(
        "", "Labels a class, a row of the table for each: 5,10,all. Empty for all."
    )
    subsets: int = cli.field(5, "Labelled subsets, chosen by seed, of each such row.", minimum=1)
    generator_sees: str = cli.field(
        "labelled",
        "What generators are trained on: labelled images, or the unlabelled ones too.",
        choices=("labelled", "all"),
    )
    keep: str = cli.field("", "Thins classes: CLASS:N,... keeps N images of each such class.")
    baselines: str = cli.field(
        ",".join(BASELINES), "With --keep, what else is tried; empty for nothing."
    )
    arms: str = cli.field("a,b,c,d,e,f", "Which of (a) to (f) are trained: f alone is the CAS.")
    share: str = cli.field(
        "0.25,0.5,0.75",
        "Shares of generated examples in a batch that (c) and (d) choose among; with --keep they "
        "fill classes up instead.",
    )
    validation: float = cli.field(
        0.1, "Share of the labelled examples that the choice is made on.", minimum=0, below=1
    )
    num_generated: int = cli.field(
        0, "Generated examples; 0 for as many as labelled ones, 5,000 at least.", minimum=0
    )
    min_confidence: float = cli.field(
        0.0,
        "Keeps generated examples whose class a classifier of the real ones gives this "
        "probability; 0 keeps all.",
        minimum=0,
        below=1,
    )
    classifier: str = cli.field("cnn", "What is trained on them.", choices=("cnn", "linear", "knn"))
    seeds: int = cli.field(3, "Classifiers of each kind, trained side by side.", minimum=1)
    steps: int = cli.field(0, "Steps of a classifier; 0 for as many as suit.", minimum=0)
    batch_size: int = cli.field(0, "Examples a step; 0 for 64, or 256 of many.", minimum=0)
    width: int = cli.field(0, "Width of the small network; 0 for 16, or 32 of many.", minimum=0)
    max_shift: int = cli.field(-1, "Largest shift in pixels; -1 for the network's.", minimum=-1)
    flip: int = cli.field(
        -1, "1 mirrors images, 0 does not; -1 by the dataset.", choices=(-1, 0, 1)
    )
    seed: int = cli.field(0, "Seed of everything random.", minimum=0)
    plot: bool = cli.field(False, "Draws accuracy against labels a class: downstream.png.")

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)
        cli.floats(self, "share")
        if not all(share < 1 for share in self.shares):
            raise UserError(f"--share={self.share}: shares lie between 0 and 1")
        if len(self.shares) > 1 and not self.validation and not self.keep:
            raise UserError("--validation=0 leaves none to choose a share with; give one --share")
        for flag, known in (("baselines", BASELINES), ("arms", tuple("abcdef"))):
            for name in filter(None, getattr(self, flag).split(",")):
                if name not in known:
                    raise UserError(
                        f"--{flag}={getattr(self, flag)}: {name} is not one of {', '.join(known)}"
                    )
        if not self.arms:
            raise UserError("--arms is empty; name some of a, b, c, d, e, f")
        _labelled.rows(self.labelled)

    @property
    def shares(self) -> tuple[float, ...]:
        """The candidates."""
        return cli.floats(self, "share")

    @property
    def rivals(self) -> tuple[str, ...]:
        """The baselines of thinned classes."""
        return tuple(filter(None, self.baselines.split(","))) if self.keep else ()


def run(config: Config) -> dict[str, Any]:
    """Trains, tests, prints the table; returns what downstream.json holds."""
    parallel.initialize(compilation_cache="~/.cache/jaxgan")
    workdir = pathlib.Path(config.workdir).expanduser()
    if not config.workdir:
        raise UserError("--workdir is empty; name a directory for generators and results")
    _check_libraries(config)
    is_run = (workdir / "config.json").exists()
    trained = _generators.finished(workdir, config.module) if is_run else None
    config, found = _labelled.open_data(config, trained)
    chosen = [
        unit
        for row in _labelled.rows(config.labelled)
        for unit in _labelled.units(config, found, row)
    ]
    for unit in [] if trained else chosen:
        _comparison.generator_settings(config, found, unit)  # a mistake is said before all else
    place = pathlib.Path(config.out).expanduser() if config.out else workdir / "downstream.json"
    weights.check_writable(place)
    most = max(len(unit.labelled) for unit in chosen)
    num = config.num_generated or max(LEAST_GENERATED, most)
    config = dataclasses.replace(config, num_generated=num)
    classifiers = _learners.Classifiers(recipe(config, most, found.train.image_shape))
    record = _record(config, classifiers.recipe, found, place)
    if trained and (config.labelled or config.keep or config.validation):
        print("note: the run has seen every training image and its label, also those that are not")
        print("  labelled, thinned out or chosen with here; a generator trained here has not")
    for number, unit in enumerate(chosen):
        if unit.name not in record["units"]:
            since = time.perf_counter()
            print(f"set {number + 1} of {len(chosen)}: {unit.name}", flush=True)
            measured = _comparison.measure(config, found, unit, classifiers, trained)
            spent = time.perf_counter() - since
            record["units"][unit.name] = {**measured, "seconds": round(spent, 1)}
            _write(place, record)
            if number + 1 < len(chosen):
                left = math.ceil(spent * (len(chosen) - number - 1) / 60)
                print(f"about {left} min left", flush=True)
    return _finished(config, found, record, [unit.name for unit in chosen], place)


def _finished(
    config: Config,
    found: _labelled.Data,
    record: dict[str, Any],
    names: Sequence[str],
    place: pathlib.Path,
) -> dict[str, Any]:
    """Sums the units of these names up, in the file, on the console and in a picture."""
    units = {name: record["units"][name] for name in names}
    seconds = round(sum(unit["seconds"] for unit in units.values()), 1)
    record = {**record, "rows": _summary.rows(units), "seconds": seconds}
    _write(place, record)
    thin = sorted(_labelled.thinned(found, config.keep))
    print(_summary.table(record, _comparison.ARMS, thin, found.train.class_names))
    if config.plot:
        picture = place.with_suffix(".png")
        _plots.accuracies(picture, record["rows"], _comparison.ARMS)
        print(f"wrote {picture}")
    print(f"wrote {place}")
    return record


def recipe(config: Config, num_examples: int, shape: tuple[int, ...]) -> _learners.Recipe:
    """Fills in what the flags leave open of the classifiers' training.

    Args:
      config: the flags.
      num_examples: the most that are labelled.
      shape: of an image.

    Returns:
      The recipe; of all sets the same, so that they share one program.
    """
    many = num_examples >= FEW
    kind = {"cnn": "digits" if shape[2] == 1 else "colour"}.get(config.classifier)
    kind = kind or config.classifier
    own: dict[str, Any] = dict(_classifiers.RECIPES["linear" if kind == "knn" else kind])
    size = config.batch_size or (own["batch_size"] if many else 64)
    steps = config.steps or max(LEAST_STEPS, own["epochs"] * num_examples // size)
    flip = own["flip"] or int(config.dataset in MIRRORED)
    decay = own["decay"] if many else 0.98
    names = ("learning_rate", "weight_decay", "smoothing")
    return _learners.Recipe(
        kind,
        num_steps=steps,
        batch_size=size,
        seeds=config.seeds,
        max_shift=own["max_shift"] if config.max_shift < 0 else config.max_shift,
        flip=flip if config.flip < 0 else config.flip,
        width=config.width or (32 if many else 16),
        decay=decay,
        seed=config.seed,
        **{name: own[name] for name in names},
    )


def _check_libraries(config: Config) -> None:
    """Refuses SMOTE where its library is missing, before the time is spent."""
    if "smote" in config.rivals:
        try:
            import imblearn  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError(
                "smote needs imbalanced-learn: pip install jaxgan[downstream], or leave it out: "
                "--baselines=oversampled,weighted"
            ) from None
    if config.plot:
        _plots.check()


def _record(
    config: Config, training: _learners.Recipe, found: _labelled.Data, place: pathlib.Path
) -> dict[str, Any]:
    """Begins the record, with the units of an earlier command of the same settings."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in FREE}
    record = {
        "settings": settings,
        "classifiers": dataclasses.asdict(training),
        "data": {
            "train": found.train.fingerprint,
            "test": found.test.fingerprint,
            "test_images": len(found.test),
            "num_classes": found.train.num_classes,
            "class_names": list(found.train.class_names),
        },
    }
    try:
        before = json.loads(place.read_text(encoding="utf-8"))
        same = all(before[name] == record[name] for name in record)
        return {**record, "units": before["units"] if same else {}}
    except (OSError, ValueError, LookupError, TypeError):
        return {**record, "units": {}}


def _write(place: pathlib.Path, record: Mapping[str, Any]) -> None:
    disk.replace(place, json.dumps(_summary.finite(record), indent=2) + "\n")


if __name__ == "__main__":
    cli.main(Config, run)
