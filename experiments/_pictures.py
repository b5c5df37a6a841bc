"""The pictures that `experiments.restore` trains on, and those that it is tested with."""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _restoration
from jaxgan import images
from jaxgan.data import arrays, crops, degrade, pairs, pictures, subsets
from jaxgan.data.registry import Source
from jaxgan.types import UserError


class Held(NamedTuple):
    """Pictures to test with.

    Attributes:
      truth: [H, W, C] uint8 each.
      source: what they are to be made from, where the data have it.
    """

    truth: Sequence[np.ndarray]
    source: Sequence[np.ndarray] | None = None


def training(config: Any) -> Source:
    """Opens the training data: random crops of the pictures that are not held out, or pairs.

    Args:
      config: the flags.

    Returns:
      The source.
    """
    if config.task == "pairs":
        return _paired(config, "train")
    rest, _ = _pictures(*_place(config))
    return crops.CropSource(
        rest, crop=config.crop, turned=not _restoration.TASKS[config.task].upright
    )


def held_out(config: Any) -> Held:
    """Opens the pictures that are held out of training.

    Args:
      config: the flags.

    Returns:
      At most `eval_pictures` of them.
    """
    most = config.eval_pictures
    if config.task == "pairs":
        source = _paired(config, "test")
        some = source[subsets.choose(source, most)]
        return Held(list(some["image"]), list(some["source"]))
    _, chosen = _pictures(*_place(config))
    return Held(chosen.images[:most])


def folder(config: Any, data_dir: str) -> Held:
    """Opens a folder of other pictures to test with; its `test` where it has splits.

    Args:
      config: the flags of the run.
      data_dir: the folder.

    Returns:
      All of them; of --task=colorize those in colour.

    Raises:
      UserError: none of them is in colour.
    """
    for split in ("test", "train"):
        try:
            if config.task == "pairs":
                source = _open_pairs(config, data_dir, split)
                every = source[np.arange(len(source))]
                return Held(list(every["image"]), list(every["source"]))
            # In colour where they are, so that a grey network is tested on their luminance.
            found = pictures.read(data_dir, split=split, channels=0).images
            return Held(_in_colour(found, data_dir) if config.task == "colorize" else found)
        except arrays.MissingSplit:
            continue
    raise AssertionError("every folder has a split to train on")


def _in_colour(found: Sequence[np.ndarray], data_dir: str) -> list[np.ndarray]:
    """Those that colours can be taken from; of a grey one the input is the truth already."""
    kept = [x for x in found if (x != x[..., :1]).any()]
    if not kept:
        raise UserError(f"{data_dir} has no picture in colour to test --task=colorize with")
    if len(kept) < len(found):
        print(f"{data_dir}: {len(found) - len(kept)} of {len(found)} pictures are grey, left out")
    return kept


def _place(config: Any) -> tuple[str, int, float, int]:
    return config.data_dir, config.channels, config.holdout, config.max_bad_records


@functools.lru_cache(maxsize=1)
def _pictures(
    data_dir: str, channels: int, holdout: float, max_bad: int
) -> tuple[pictures.Pictures, pictures.Pictures]:
    """Pictures to train on and to test with, each read once."""
    if not data_dir:
        return _bundled(channels)
    options = {"channels": channels, "max_bad_records": max_bad}
    train = pictures.read(data_dir, split="train", **options)
    try:
        return train, pictures.read(data_dir, split="test", **options)
    except arrays.MissingSplit:
        return pictures.hold_out(train, share=holdout)


def _bundled(channels: int) -> tuple[pictures.Pictures, pictures.Pictures]:
    """The two photographs that come with scikit-learn: a temple, and a flower to test with."""
    from sklearn import datasets

    found = datasets.load_sample_images()
    photos = [np.asarray(photo, np.uint8) for photo in found.images]
    if channels == 1:
        photos = [images.to_uint8(degrade.grey(images.from_uint8(x[None])))[0] for x in photos]
    every = pictures.Pictures(
        "photographs of scikit-learn", tuple(map(os.path.basename, found.filenames)), tuple(photos)
    )
    return every.take([0]), every.take([1])


def _paired(config: Any, split: str) -> Any:
    """Pairs of one split, held out of the others where there is none."""
    try:
        return _open_pairs(config, config.data_dir, split)
    except arrays.MissingSplit:
        rest, test = subsets.hold_out(
            _open_pairs(config, config.data_dir, "train"), share=config.holdout
        )
        return test if split == "test" else rest


def _open_pairs(config: Any, data_dir: str, split: str) -> Any:
    if not config.data_dir or not config.source:
        raise UserError(
            "--task=pairs needs --data_dir=FOLDER of the images and --source, what they are made "
            "from: left, right, a suffix such as .png, or another folder"
        )
    return pairs.load(
        data_dir,
        source=config.source,
        split=split,
        image_size=config.image_size,
        channels=config.channels,
        max_bad_records=config.max_bad_records,
    )
