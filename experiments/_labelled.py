"""Which examples of `experiments.downstream` are labelled, and which are seen by what."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments import _generators, evaluate
from jaxgan import data
from jaxgan.data import arrays, digests, partly, subsets
from jaxgan.data.registry import Source
from jaxgan.run import driver
from jaxgan.types import UserError

MOST = 500  # images of a class that choices are made on
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


def open_data(config: Any, trained: Any) -> tuple[Any, Data]:
    """Opens both splits, as the run saw them where there is one.

    Args:
      config: the flags.
      trained: a finished run, or None.

    Returns:
      The config with the names of the data, and the data.

    Raises:
      UserError: they are not what the run was trained on.
    """
    if trained is None:
        config = dataclasses.replace(config, dataset=config.dataset or "digits")
        train, test = (_load(config, split) for split in ("train", "test"))
        return config, checked(train, test)
    own = trained.config
    if config.dataset not in ("", own.dataset):
        raise UserError(f"--dataset={config.dataset}: the run was trained on {own.dataset}")
    place = config.data_dir or evaluate.recorded_place(own)
    own = dataclasses.replace(own, data_dir=place)
    train = driver.load_source(own)
    _generators.check_fit(trained, train, place)
    height, width, channels = train.image_shape
    size = {"image_size": (height, width), "channels": channels, "holdout": own.holdout}
    test = data.load(own.dataset, data_dir=place, split="test", **size)
    config = dataclasses.replace(config, dataset=own.dataset, data_dir=place)
    config = dataclasses.replace(config, generators=len(trained.members()))
    return config, checked(train, test, seen=True)


def _load(config: Any, split: str) -> Any:
    return data.load(
        config.dataset,
        data_dir=config.data_dir,
        split=split,
        image_size=config.image_size,
        channels=config.channels,
        holdout=config.holdout,
    )


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


def checked(train: Source, test: Source, *, seen: bool = False) -> Data:
    """Reads both splits, and leaves out images that are in both.

    Args:
      train: the training split.
      test: the test split.
      seen: whether a generator has been trained on the first one: then they are left out of the
        second.

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
    which, what = (1, "test") if seen else (0, "training")
    apart = np.flatnonzero(~np.isin(numbers[which], numbers[1 - which]))
    if len(apart) < len(read[which]):
        num = len(read[which]) - len(apart)
        print(f"note: {num} images are in both splits; they are left out of the {what} images")
        read[which] = subsets.subset(read[which], apart, "not in both splits")
        numbers[which] = numbers[which][apart]
    return Data(*read, *numbers)


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
    if "smote" in config.rivals and 1 in wanted:
        raise UserError("smote needs two images of every class; keep more, or leave it out of"
                        " --baselines")  # fmt: skip
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
    """What a unit's generator is trained on; of thinned classes images are repeated."""
    fit = unit.fit
    if config.keep:  # else a batch would hardly ever have one of a rare class
        fit = fit[subsets.evened(data.train.arrays["label"][fit])]
    if config.generator_sees == ALL and len(unit.rest):
        return partly.partly_labelled(data.train, fit, unit.rest)
    return subsets.subset(data.train, fit, f"{unit.name}, to generate from")


def places(unit: Unit, config: Any) -> list[pathlib.Path]:
    """The run directories of a unit's generators."""
    workdir = pathlib.Path(config.workdir).expanduser()
    folder = workdir if unit.row.labelled < 0 and not config.keep else workdir / unit.name
    return [folder / f"generator-{number}" for number in range(config.generators)]
