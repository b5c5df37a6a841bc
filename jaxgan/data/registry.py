"""From a dataset's name to its source."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from jaxgan.data import arrays, cifar, digits, idx, pixels, stacked, subsets
from jaxgan.types import UserError

SPLITS = ("train", "test")
IDX_FAMILY = ("mnist", "fashion_mnist", "kmnist")


class Source(Protocol):
    """What every dataset is: examples by number, and what they look like."""

    name: str
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of the content."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> dict[str, np.ndarray]: ...


def load(
    name: str,
    *,
    data_dir: str = "",
    split: str = "train",
    image_size: pixels.Size = 0,
    channels: int = 0,
    max_bad_records: int = -1,
    holdout: float = 0.0,
) -> Source:
    """Opens a dataset.

    Args:
      name: `digits` (bundled, no download), `mnist`, `fashion_mnist`, `kmnist`, `stacked_mnist`
        (made of MNIST), `cifar10`, `arrays` (data_dir is an .npz file), `folder` (data_dir is a
        folder of images), or any name that TensorFlow Datasets knows.
      data_dir: where the data are. For the MNIST family a folder with the idx files, or one with a
        folder of the dataset's name with them; for CIFAR-10 see `cifar.find`; otherwise TensorFlow
        Datasets' own folder.
      split: "train" or "test".
      image_size: side in pixels, or (height, width), that every image is cropped and resized
        to; 0 for as it is.
      channels: 1 (grey) or 3 (RGB); 0 for as they are, of a folder 3 if any image is in colour.
      max_bad_records: unreadable files of a folder of images skipped before it is an error; -1 for
        10 or 0.1 % of all, whichever is more.
      holdout: share of a dataset without a test split that becomes one, chosen at random, always
        the same; the rest is then "train". 0 for none.

    Returns:
      The source.

    Raises:
      MissingSplit: the data are there, but have no such split.
      UserError: unknown name, missing or damaged data, no network.
    """
    if split not in SPLITS:
        raise UserError(f'split "{split}" is not one of {", ".join(SPLITS)}')
    pixels.check_image_options(image_size, channels)
    arrays.check_place(os.path.expanduser(data_dir))
    loader = LOADERS.get(name, functools.partial(_tfds, name))
    if loader is _folder:
        loader = functools.partial(_folder, max_bad_records=max_bad_records)
    options = {"image_size": image_size, "channels": channels}
    opened = functools.partial(loader, data_dir=os.path.expanduser(data_dir), **options)
    if holdout:
        try:
            opened(split="test")
        except arrays.MissingSplit:
            rest, test = subsets.hold_out(conform(opened(split="train"), **options), share=holdout)
            return rest if split == "train" else test
    return conform(opened(split=split), **options)


def needs_tfds(name: str, data_dir: str) -> bool:
    """Says whether TensorFlow Datasets opens a dataset, which may download and write.

    Args:
      name: of the dataset.
      data_dir: as for `load`.

    Returns:
      False for those that are read from files as they are.
    """
    if name == cifar.NAME:
        return not data_dir or cifar.find(os.path.expanduser(data_dir)) is None
    family = "mnist" if name == "stacked_mnist" else name
    if family in IDX_FAMILY:
        return not data_dir or idx.find(os.path.expanduser(data_dir), family) is None
    return name not in LOADERS


def conform(source: Source, *, image_size: pixels.Size = 0, channels: int = 0) -> Source:
    """Resizes and recolours a source in memory; a streamed one does so itself.

    What is lost, by cropping, scaling or dropping colours, is logged once.

    Args:
      source: any source.
      image_size: side in pixels, or (height, width); 0 for as it is.
      channels: 1 or 3; 0 for as they are.

    Returns:
      The source, or a changed one.
    """
    if not isinstance(source, arrays.ArraySource):
        return source
    images = source.arrays["image"]
    pixels.log_changes(
        source.name,
        [images.shape[1:3]],
        colour=images.shape[-1] == 3,
        image_size=image_size,
        channels=channels,
    )
    image = pixels.conform(images, image_size=image_size, channels=channels)
    if image is images:
        return source
    changed = {**source.arrays, "image": image}
    return arrays.ArraySource(
        changed,
        name=source.name,
        num_classes=source.num_classes,
        class_names=source.class_names,
    )


def _digits(*, data_dir: str, split: str, image_size: pixels.Size, channels: int) -> Source:
    del data_dir, image_size, channels
    return digits.load(split=split)


def _idx(name: str, *, data_dir: str, split: str, image_size: pixels.Size, channels: int) -> Source:
    folder = idx.find(data_dir, name) if data_dir else None
    if folder is None:
        return _tfds(name, data_dir=data_dir, split=split, image_size=image_size, channels=channels)
    return idx.load(folder, name=name, split=split)


def _cifar(*, data_dir: str, split: str, image_size: pixels.Size, channels: int) -> Source:
    place = cifar.find(data_dir) if data_dir else None
    if place is not None:
        return cifar.load(place, split=split)
    options = {"image_size": image_size, "channels": channels}
    return _tfds(cifar.NAME, data_dir=data_dir, split=split, **options)


def _stacked(*, data_dir: str, split: str, image_size: pixels.Size, channels: int) -> Source:
    del image_size, channels
    if split != "train":
        raise arrays.MissingSplit(
            "stacked_mnist is drawn from all of MNIST; it has only the split train"
        )
    train, test = (load("mnist", data_dir=data_dir, split=part) for part in SPLITS)
    assert isinstance(train, arrays.ArraySource) and isinstance(test, arrays.ArraySource)
    return stacked.stack(stacked.join(train, test))


def _arrays(*, data_dir: str, split: str, image_size: pixels.Size, channels: int) -> Source:
    del image_size, channels
    if not data_dir:
        raise UserError("dataset arrays needs --data_dir=FILE.npz")
    return arrays.load_npz(data_dir, split=split)


def _folder(
    *, data_dir: str, split: str, image_size: pixels.Size, channels: int, max_bad_records: int = -1
) -> Source:
    from jaxgan.data import folder

    if not data_dir:
        raise UserError("dataset folder needs --data_dir=FOLDER with images in it")
    return folder.load(
        data_dir,
        split=split,
        image_size=image_size,
        channels=channels,
        max_bad_records=max_bad_records,
    )


def _tfds(
    name: str, *, data_dir: str, split: str, image_size: pixels.Size, channels: int
) -> Source:
    from jaxgan.data import tfds

    return tfds.load(name, data_dir=data_dir, split=split, image_size=image_size, channels=channels)


# Each takes data_dir, split, image_size and channels; `load` does the last two to a set in memory.
LOADERS: Mapping[str, Callable[..., Source]] = {
    "digits": _digits,
    **{name: functools.partial(_idx, name) for name in IDX_FAMILY},
    "stacked_mnist": _stacked,
    cifar.NAME: _cifar,
    "arrays": _arrays,
    "folder": _folder,
}
