"""Labelled sets of generated images: what `experiments.sample --per_class` writes."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from experiments import _summary, evaluate
from jaxgan import data, images, sample, types
from jaxgan.data import arrays
from jaxgan.data.registry import Source
from jaxgan.metrics import neighbours
from jaxgan.run import disk, driver, load
from jaxgan.types import UserError

MANIFEST = "manifest.json"
MADE_BY = "jaxgan experiments.sample --per_class"
ROUNDS = 10  # of drawing anew what was a copy, before a class is left with fewer
MEASURED = 2000  # images whose distances are measured for the memorisation test
WRITTEN = re.compile(r"\d{5,}\.png")

Generate = Callable[[jax.Array, np.ndarray], np.ndarray]  # key, labels [N] -> [N, H, W, C] uint8


def check(config: Any, out: pathlib.Path) -> None:
    """Refuses flags of a grid, and to write where anything lies that is not of this command.

    Args:
      config: the flags of `experiments.sample`.
      out: the folder, or file NAME.npz.

    Raises:
      UserError: it cannot be written there, or not so.
    """
    if out.suffix in (".png", ".txt"):
        raise UserError(f"--out={config.out}: --per_class writes a folder, or NAME.npz")
    if config.interpolate or config.label:
        raise UserError("--per_class makes all classes; leave out --interpolate and --label")
    check_out(out)


def conditional(config: Any, trained: load.Trained) -> sample.Sampler:
    """Takes the sampler of a run with labels.

    Args:
      config: the flags.
      trained: the run.

    Returns:
      Its sampler.

    Raises:
      UserError: it has no labels.
    """
    sampler = trained.experiment.sample
    if not isinstance(sampler, sample.Sampler) or not sampler.label_counts:
        raise UserError(
            f"--per_class={config.per_class}: the run has no labels; train with --conditional"
            " (experiments.mnist) or --condition=projection (experiments.images)"
        )
    return sampler


def check_out(path: pathlib.Path) -> None:
    """Refuses to write where anything lies that this command has not written.

    Args:
      path: the folder, or file NAME.npz.

    Raises:
      UserError: something else is there.
    """
    if path.suffix == ".npz":
        there = next((each for each in (path, _beside(path)) if each.exists()), None)
        if there and not _is_ours(_beside(path)):
            raise UserError(
                f"--out={path}: {there} is there, and not of this command; name another file"
            )
        return
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"--out={path}: is a file; name a folder, or NAME.npz")
    inside = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in inside if name != MANIFEST and not _is_class(path / name)]
    if inside and (foreign or not _is_ours(path / MANIFEST)):
        raise UserError(
            f"--out={path}: holds {foreign[0] if foreign else inside[0]}, which this command has"
            " not written; name another folder"
        )


def _is_class(path: pathlib.Path) -> bool:
    """Whether a folder holds nothing but numbered pictures."""
    return path.is_dir() and all(WRITTEN.fullmatch(entry.name) for entry in path.iterdir())


def _is_ours(manifest: pathlib.Path) -> bool:
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["made_by"] == MADE_BY
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _beside(path: pathlib.Path) -> pathlib.Path:
    """The manifest of an archive."""
    return path.with_suffix(".json")


def write(config: Any, trained: load.Trained, generate: Generate, out: pathlib.Path) -> np.ndarray:
    """Draws as many images of each class, leaves out copies of training images, writes the rest.

    Args:
      config: the flags of `experiments.sample`.
      trained: the run.
      generate: makes images of labels.
      out: the folder, or file NAME.npz.

    Returns:
      The images written, [N, H, W, C] uint8.

    Raises:
      UserError: the run's classes are called otherwise than those of the data, or every image is a
        copy.
    """
    spec = trained.spec
    train, test = _data(config, trained)
    flat = _flat(train[np.arange(len(train))]["image"])
    distance = neighbours.own_distance(flat)
    image, label, left_out = _drawn(config, spec.num_classes, generate, flat, distance)
    if not len(image):
        raise UserError(f"all {left_out} images drawn are copies of training images; none is kept")
    numbers: dict[str, Any] = {"copies": left_out / (left_out + len(image))}
    if test is not None:
        chosen = np.random.default_rng(config.seed).permutation(len(image))[:MEASURED]
        unseen = _flat(test[np.arange(len(test))]["image"])
        numbers |= neighbours.memorisation(_flat(image[chosen]), flat, unseen)
    names = folders(spec.class_names, spec.num_classes)
    manifest = {
        "made_by": MADE_BY,
        "step": trained.step,
        "settings": dataclasses.asdict(config),
        "dataset": trained.config.dataset,
        "trained_on": spec.fingerprint,
        "compared_with": train.fingerprint,
        "class_names": list(spec.class_names or map(str, range(spec.num_classes))),
        "images": {name: int((label == k).sum()) for k, name in enumerate(names)},
        "left_out": left_out,
        "copy_below": distance,
        "memorisation": numbers,
    }
    if out.suffix == ".npz":
        _archive(out, image, label, manifest)
    else:
        _folder(out.resolve(), image, label, names, manifest)
    print(_summary.memorised(numbers))
    print(f"{left_out} copies of training images left out (nearer than {distance:.4g} in pixels)")
    return image


def _data(config: Any, trained: load.Trained) -> tuple[Source, Source | None]:
    """The training data of the run, and what it has not seen."""
    own, spec = trained.config, trained.spec
    place = config.data_dir or evaluate.recorded_place(own)
    own = dataclasses.replace(own, data_dir=place)
    train = driver.load_source(own)
    check_classes(trained, train)
    if train.fingerprint != spec.fingerprint:
        print(f"note: the run was trained on other images than {train.name}, or on a part of them")
    height, width, channels = train.image_shape
    size = {"image_size": (height, width), "channels": channels, "holdout": own.holdout}
    try:
        return train, data.load(own.dataset, data_dir=place, split="test", **size)
    except arrays.MissingSplit:
        return train, None


def check_classes(trained: load.Trained, train: Source) -> None:
    """Refuses data whose classes are not those of the run.

    Args:
      trained: the run.
      train: the data.

    Raises:
      UserError: there are more or fewer, or they are called otherwise.
    """
    known, names = trained.spec.class_names, tuple(getattr(train, "class_names", ()))
    num = trained.spec.num_classes
    if num != train.num_classes or (known and names != known):
        had, has = (
            types.one_line(", ".join(each), limit=60) or f"{count} without names"
            for each, count in ((known, num), (names, train.num_classes))
        )
        raise UserError(f"the run's classes are {had}; those of {train.name} are {has}")


def _drawn(
    config: Any, classes: int, generate: Generate, train: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Images and labels, as many of each class, and how many copies were left out."""
    missing = np.full(classes, config.per_class)
    kept, left_out, key = [], 0, jax.random.key(config.seed)
    total = classes * config.per_class
    with tqdm.tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as bar:
        for number in range(ROUNDS):
            label = np.repeat(np.arange(classes), missing).astype(np.int32)
            image = generate(jax.random.fold_in(key, number), label)
            new = ~neighbours.copies(_flat(image), train, distance=distance)
            kept.append((image[new], label[new]))
            left_out += int((~new).sum())
            missing = missing - np.bincount(label[new], minlength=classes)
            bar.update(int(new.sum()))
            if not missing.any():
                break
    if missing.any():
        print(f"note: {missing.sum()} images of {total} were copies every time; there are fewer")
    image, label = (np.concatenate(part) for part in zip(*kept, strict=True))
    order = np.argsort(label, kind="stable")
    return image[order], label[order], left_out


def _flat(image: np.ndarray) -> np.ndarray:
    """Pixels [N, D] in bytes' units."""
    image = image if image.dtype == np.uint8 else images.to_uint8(image)
    return image.reshape(len(image), -1).astype(np.float32)


def folders(class_names: Sequence[str], num_classes: int) -> list[str]:
    """Names the folders of classes.

    Args:
      class_names: names by class, or none.
      num_classes: number of classes.

    Returns:
      The names, with _ for what no folder can be called; numbers where there are none, or where two
      would be the same.
    """
    numbers = [str(number) for number in range(num_classes)]
    names = [re.sub(r"[^\w .,()+-]", "_", name).strip(" .") for name in class_names]
    if len({name.casefold() for name in names}) != num_classes or not all(names):
        return numbers
    return names


def _folder(
    out: pathlib.Path,
    image: np.ndarray,
    label: np.ndarray,
    names: Sequence[str],
    manifest: Mapping[str, Any],
) -> None:
    """Writes pictures under another name, then renames the folder: it is whole, or not there."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for number, name in enumerate(names):
        (unfinished / name).mkdir(parents=True)
        for count, one in enumerate(image[label == number]):
            images.save_png(unfinished / name / f"{count:05d}.png", one)
    disk.replace(unfinished / MANIFEST, json.dumps(_summary.finite(manifest), indent=2) + "\n")
    check_out(out)
    if out.exists():
        disk.remove_tree(out)
    unfinished.rename(out)
    disk.sync_folder(out.parent)


def _archive(
    out: pathlib.Path, image: np.ndarray, label: np.ndarray, manifest: Mapping[str, Any]
) -> None:
    """Writes arrays that `--dataset=arrays` reads, and the manifest beside them."""
    unfinished = out.with_name(f".{os.getpid()}.{out.stem}.npz")
    names = np.asarray(manifest["class_names"])
    try:
        np.savez_compressed(unfinished, image=image, label=label, class_names=names)
        disk.replace(_beside(out), json.dumps(_summary.finite(manifest), indent=2) + "\n")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
