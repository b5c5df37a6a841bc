"""The sets of `experiments.downstream`: what is labelled, what is added, and what is measured."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments import _generators
from experiments._trials import Arm, Classifiers, Classify, Part
from jaxgan.data import arrays, digests, partly, subsets
from jaxgan.data.registry import Source
from jaxgan.metrics import classification, neighbours
from jaxgan.types import UserError

ARMS = {
    "a": "real",
    "b": "real, classical augmentation",
    "c": "real and generated",
    "d": "all three",
    "e": "generated alone (CAS)",
    "oversampled": "real, oversampled",
    "weighted": "real, classes weighted",
    "smote": "real and SMOTE",
}
MOST = 500  # images of a class that choices are made on
MEASURED = 2000  # generated examples whose distances are measured
ALL = "all"


class Row(NamedTuple):
    """How many labels there are of each class; -1 for all, and those of thinned classes."""

    name: str
    labelled: int


class Data(NamedTuple):
    """Both splits, in memory; no image of the one is in the other.

    Attributes:
      train: the training split.
      test: the test split.
      train_numbers: uint64, see `digests.of_images`.
      test_numbers: those of the test split.
    """

    train: arrays.ArraySource
    test: arrays.ArraySource
    train_numbers: np.ndarray
    test_numbers: np.ndarray


@dataclasses.dataclass(frozen=True)
class Unit:
    """One labelled subset of the training images.

    Attributes:
      row: how many labels.
      subset: which choice of them.
      fit: int [n], what generator and candidates are trained on.
      choice: int [m], labelled too, on which the share of generated examples is chosen.
      rest: int [r], images whose labels nobody looks at.
    """

    row: Row
    subset: int
    fit: np.ndarray
    choice: np.ndarray
    rest: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """All that is labelled."""
        return np.concatenate([self.fit, self.choice])

    @property
    def name(self) -> str:
        """Of its results, and of its folder of generators."""
        return f"{self.row.name}/subset-{self.subset}"


def in_memory(source: Source) -> arrays.ArraySource:
    """Reads all of a source."""
    if isinstance(source, arrays.ArraySource):
        return source
    index = np.arange(len(source))
    parts = [source[part] for part in np.array_split(index, -(-len(source) // 1000))]
    return arrays.ArraySource(
        {name: np.concatenate([part[name] for part in parts]) for name in ("image", "label")},
        name=source.name,
        num_classes=source.num_classes,
        class_names=getattr(source, "class_names", ()),
    )


def checked(train: Source, test: Source) -> Data:
    """Reads both splits, and leaves out training images that are test images too.

    Args:
      train: the training split.
      test: the test split.

    Returns:
      Both, disjoint.

    Raises:
      UserError: there are no labels, a class has no images, or the splits differ in classes.
    """
    if not train.num_classes:
        raise UserError(f"{train.name}: has no labels; a classifier needs them")
    names = [tuple(getattr(part, "class_names", ())) for part in (train, test)]
    if train.num_classes != test.num_classes or names[0] != names[1]:
        raise UserError(f"{train.name}: training and test split have different classes")
    read = [in_memory(part) for part in (train, test)]
    subsets.of_each_class(read[0], -1, seed=0)  # refuses a class without images
    numbers = [digests.of_images(part.arrays["image"]) for part in read]
    apart = np.flatnonzero(~np.isin(*numbers))
    if len(apart) < len(read[0]):
        num = len(read[0]) - len(apart)
        print(f"note: {num} training images are test images too; they are left out")
        read[0] = subsets.subset(read[0], apart, "not in test")
    return Data(*read, numbers[0][apart], numbers[1])


def thinned(data: Data, text: str) -> dict[int, int]:
    """Reads --keep: how many images of which classes are kept."""
    names, found = list(data.train.class_names), {}
    for part in filter(None, text.split(",")):
        name, _, num = part.strip().rpartition(":")
        known = names.index(name) if name in names else int(name) if name.isdecimal() else -1
        if not 0 <= known < data.train.num_classes:
            listed = ", ".join(names[:20]) or f"0 to {data.train.num_classes - 1}"
            raise UserError(f"--keep={text}: no class is called {name}; there are {listed}")
        if not num.isdecimal() or int(num) < 1:
            raise UserError(f"--keep={text}: write CLASS:N with N of 1 or more")
        found[known] = int(num)
    return found


def rows(text: str) -> list[Row]:
    """Reads --labelled."""
    found = []
    for part in text.split(",") if text else [ALL]:
        part = part.strip()
        if part != ALL and not (part.isdecimal() and int(part)):
            raise UserError(f"--labelled={text} is not a list of numbers above 0 such as 5,10,all")
        found.append(Row(ALL, -1) if part == ALL else Row(f"labelled-{part}", int(part)))
    return found


def units(config: Any, data: Data, row: Row) -> Iterator[Unit]:
    """Chooses the labelled subsets of a row.

    Args:
      config: the flags.
      data: both splits.
      row: how many labels.

    Yields:
      Each subset; of all labels there is one.

    Raises:
      UserError: more labels are asked for than there are, or too few to choose with.
    """
    keep, label = thinned(data, config.keep), data.train.arrays["label"]
    wanted = [keep.get(number, row.labelled) for number in range(data.train.num_classes)]
    single = row.labelled < 0 and not keep
    for subset in range(config.seed, config.seed + (1 if single else config.subsets)):
        chosen = subsets.of_each_class(data.train, wanted, seed=subset)
        held = [0 if keep else _held_out(len(part), config.validation) for part in chosen]
        if not all(held) and not keep and len(config.shares) > 1:
            raise UserError(
                f"--labelled={row.labelled} leaves none to choose among --share={config.share};"
                " give one share"
            )
        fit = [part[: len(part) - num] for part, num in zip(chosen, held, strict=True)]
        choice = [part[len(part) - num :] for part, num in zip(chosen, held, strict=True)]
        labelled = np.concatenate(chosen)
        rest = np.setdiff1d(np.arange(len(label)), labelled)
        yield Unit(row, subset, np.concatenate(fit), np.concatenate(choice), rest)


def _held_out(num: int, share: float) -> int:
    """How many of a class's labelled examples choices are made on."""
    return min(max(1, round(num * share)), MOST, num - 1) if share else 0


def generator_source(config: Any, data: Data, unit: Unit) -> arrays.ArraySource:
    """What a unit's generator is trained on."""
    if config.generator_sees == ALL and len(unit.rest):
        return partly.partly_labelled(data.train, unit.fit, unit.rest)
    return subsets.subset(data.train, unit.fit, f"{unit.name}, to generate from")


class Trial:
    """The classifiers of one unit, and their scores."""

    def __init__(
        self,
        config: Any,
        data: Data,
        unit: Unit,
        classifiers: Classifiers,
        ledger: digests.Ledger,
        num_generated: int,
    ):
        """Begins with real examples alone.

        Args:
          config: the flags.
          data: both splits.
          unit: the labelled subset.
          classifiers: what trains them.
          ledger: where the images they see are noted.
          num_generated: places of the pool for generated examples.
        """
        self._config, self._data, self._unit, self._ledger = config, data, unit, ledger
        self._classifiers, self._classes = classifiers, data.train.num_classes
        self._extra = self._smote() if "smote" in config.rivals else (np.zeros(0, np.int32), None)
        self._num = num_generated
        shape = (num_generated, *data.train.image_shape)
        blank = _generators.Made(np.zeros(shape, np.uint8), np.zeros(num_generated, np.int32))
        self._fill(blank)
        begin = subsets.subset(data.train, unit.fit, "labelled")
        classifiers.begin(begin)

    def _fill(self, made: _generators.Made) -> None:
        """Puts generated examples into the pool: real ones, generated ones, those of SMOTE."""
        real = self._data.train.arrays
        extra_label, extra = self._extra
        image = [real["image"], made.image, *([] if extra is None else [extra])]
        self._label = np.concatenate([real["label"], made.label, extra_label])
        self._made_at = len(real["label"])
        self._pool = jnp.asarray(np.concatenate(image))
        self._labels = jnp.asarray(self._label)

    def real(self) -> dict[str, list[dict[str, Any]]]:
        """Scores what needs no generator, one report a seed."""
        whole = Part(self._unit.labelled)
        arms = {"a": Arm([whole]), "b": Arm([whole], augment=True)}
        label, extra = self._label[self._unit.labelled], self._label[self._made_at + self._num :]
        at = self._made_at + self._num + np.arange(len(extra))
        for name in self._config.rivals:
            if name == "oversampled":
                arms[name] = Arm([Part(self._evened(label))])
            elif name == "weighted":
                count = np.bincount(label, minlength=self._classes)
                arms[name] = Arm([whole], weights=len(label) / (self._classes * count))
            else:
                arms[name] = Arm([Part(np.concatenate([self._unit.labelled, at]))])
        return {name: self._score(arm) for name, arm in arms.items()}

    def generated(self, made: _generators.Made) -> dict[str, Any]:
        """Scores what one generator's examples do.

        Args:
          made: its examples, as many as there are places.

        Returns:
          {"scores": of c, d and e, "share": the share chosen for c and d, "kept": examples that
          passed the filter, "tried": accuracy of each candidate on the images of choices}.
        """
        self._fill(made)
        kept = self._confident(made)
        alone = self._made_at + kept
        found: dict[str, Any] = {"kept": len(kept), "share": {}, "tried": {}, "scores": {}}
        for name in ("c", "d"):
            augment = name == "d"
            if self._config.keep:
                parts = [Part(np.concatenate([self._unit.labelled, self._fills(made, kept)]))]
                found["scores"][name] = self._score(Arm(parts, augment))
                continue
            found["share"][name], found["tried"][name] = self._chosen(alone, augment)
            parts = self._mixed(self._unit.labelled, alone, found["share"][name])
            found["scores"][name] = self._score(Arm(parts, augment))
        found["scores"]["e"] = self._score(Arm([Part(alone)]))
        return found

    def memorisation(self, made: _generators.Made, source: arrays.ArraySource) -> dict[str, float]:
        """Distances of generated examples to those the generator saw, and to test images."""
        train = _flat(np.unique(source.arrays["image"], axis=0))
        fake = _flat(made.image[:MEASURED])
        distance = neighbours.own_distance(train)
        return {
            **neighbours.memorisation(fake, train, _flat(self._data.test.arrays["image"])),
            "copies": float(neighbours.copies(fake, train, distance=distance).mean()),
        }

    def _fit(self, arm: Arm) -> Classify:
        real = np.concatenate([part.index[part.index < self._made_at] for part in arm.parts])
        self._ledger.use("classifiers", self._data.train_numbers[np.unique(real)])
        return self._classifiers.fit(arm, self._pool, self._labels, self._classes)

    def _score(self, arm: Arm) -> list[dict[str, Any]]:
        test = self._data.test.arrays
        probs = self._fit(arm)(test["image"])
        return [classification.report(one, test["label"]) for one in probs]

    def _chosen(self, alone: np.ndarray, augment: bool) -> tuple[float, dict[str, float]]:
        """The share that does best on the images of choices, and what each one does there."""
        shares = self._config.shares
        if len(shares) == 1:
            return shares[0], {}
        images = self._data.train.arrays["image"][self._unit.choice]
        label = self._data.train.arrays["label"][self._unit.choice]
        self._ledger.use("choice", self._data.train_numbers[self._unit.choice])
        scores = {}
        for share in shares:
            parts = self._mixed(self._unit.fit, alone, share)
            probs = self._fit(Arm(parts, augment))(images)
            right = np.mean(probs.argmax(2) == label)
            likely = np.log(np.maximum(probs[:, np.arange(len(label)), label], 1e-6)).mean()
            scores[share] = (float(right), float(likely))
        best = max(shares, key=lambda share: (*scores[share], -share))
        return best, {str(share): right for share, (right, _) in scores.items()}

    def _mixed(self, real: np.ndarray, alone: np.ndarray, share: float) -> Sequence[Part]:
        return [Part(real, 1 - share), Part(alone, share)]

    def _confident(self, made: _generators.Made) -> np.ndarray:
        """Generated examples whose label a classifier of real examples agrees with."""
        least = self._config.min_confidence
        if not least:
            return np.arange(self._num)
        probs = self._fit(Arm([Part(self._unit.fit)], augment=True))(made.image).mean(0)
        kept = np.flatnonzero(probs[np.arange(self._num), made.label] >= least)
        lacking = set(range(self._classes)) - set(made.label[kept].tolist())
        if lacking:
            raise UserError(
                f"--min_confidence={least} leaves no generated example of class {min(lacking)};"
                " lower it, or train the generator longer (--gen_steps)"
            )
        return kept

    def _evened(self, label: np.ndarray) -> np.ndarray:
        """The labelled examples, those of small classes repeated until all classes are alike."""
        most = np.bincount(label).max()
        groups = [self._unit.labelled[label == k] for k in range(self._classes)]
        return np.concatenate([np.resize(group, most) for group in groups])

    def _fills(self, made: _generators.Made, kept: np.ndarray) -> np.ndarray:
        """Generated examples that make all classes as large as the largest."""
        count = np.bincount(self._label[self._unit.labelled], minlength=self._classes)
        groups = [self._made_at + kept[made.label[kept] == k] for k in range(self._classes)]
        lacking = count.max() - count
        return np.concatenate([np.resize(g, n) for g, n in zip(groups, lacking, strict=True)])

    def _smote(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and images that SMOTE makes of the labelled ones."""
        from imblearn.over_sampling import SMOTE  # pyright: ignore[reportMissingImports]

        some = self._data.train[self._unit.labelled]
        least = np.bincount(some["label"]).min()
        if least < 2:
            raise UserError(
                "smote needs two images of every class; leave it out of --baselines, or keep more"
            )
        method: Any = SMOTE(k_neighbors=min(5, least - 1), random_state=self._unit.subset)
        flat, label = method.fit_resample(_flat(some["image"]), some["label"])
        new = flat[len(some["label"]) :].reshape(-1, *self._data.train.image_shape)
        return label[len(some["label"]) :].astype(np.int32), np.rint(new).astype(np.uint8)


def _flat(image: np.ndarray) -> np.ndarray:
    """Pixels [N, D] as float32."""
    return image.reshape(len(image), -1).astype(np.float32)


def num_fits(config: Any) -> int:
    """How many times classifiers are trained for a unit."""
    chosen = 0 if config.keep or len(config.shares) == 1 else 2 * len(config.shares)
    filtered = 1 if config.min_confidence else 0
    return 2 + len(config.rivals) + config.generators * (3 + chosen + filtered)


def places(unit: Unit, config: Any) -> list[pathlib.Path]:
    """The run directories of a unit's generators."""
    workdir = pathlib.Path(config.workdir).expanduser()
    folder = workdir if unit.row.labelled < 0 and not config.keep else workdir / unit.name
    return [folder / f"generator-{number}" for number in range(config.generators)]
