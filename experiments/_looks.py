"""The two sets of images that `experiments.translate` learns from, and those it is tested with."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from jaxgan import data
from jaxgan.data import arrays, crops, pictures, pixels, subsets, unpaired
from jaxgan.data.registry import Source
from jaxgan.run import cli
from jaxgan.types import UserError

SHARE = 10  # one of so many pairs is held out
SIDE = 64  # pixels that whole images are scaled to where no other size is asked for
PAPER = np.array([255, 190, 60])  # of digits in another look, which are black on it


class Looks(NamedTuple):
    """Images of both looks.

    Attributes:
      a: of the first look, to train on.
      b: of the second.
      test_a: of the first look, held out.
      test_b: of the second.
      paired: whether row i of the one belongs to row i of the other in the held-out sets.
      digits: whether they are digits, and the same in another look; sources then have labels.
      whole: the picture of each look, [H, W, 3] uint8, where parts of one are all there is.
    """

    a: Source
    b: Source
    test_a: Source
    test_b: Source
    paired: bool
    digits: bool = False
    whole: tuple[np.ndarray, np.ndarray] | None = None


def load(config: Any) -> Looks:
    """Opens both folders, or makes both looks of digits.

    Args:
      config: the flags of `experiments.translate`.

    Returns:
      Both looks, images of `image_size` or parts of `crop` pixels.

    Raises:
      UserError: a folder is missing, empty, the other one, or has no partners for hidden pairs.
    """
    if config.dataset:
        return _digits(config)
    folders = _folders(config)
    read = [pictures.read(folder, channels=3, max_bad_records=-1) for folder in folders]
    if config.hidden_pairs:
        rest, held = _hidden_pairs(*read)
    else:
        parts = [_split(config, each, place) for each, place in zip(read, folders, strict=True)]
        rest, held = zip(*parts, strict=True)
    a, b = (_source(config, each) for each in rest)
    test_a, test_b = (_source(config, each, test=True) for each in held)
    single = config.crop and len(read[0]) == len(read[1]) == 1
    whole = (read[0].images[0], read[1].images[0]) if single else None
    return Looks(a, b, test_a, test_b, config.hidden_pairs, whole=whole)


def training(config: Any) -> Source:
    """Opens the training data of `experiments.translate`: an image of each look, unpaired."""
    looks = load(config)
    return unpaired.UnpairedSource(looks.a, looks.b)


def _folders(config: Any) -> tuple[str, str]:
    if config.data_dir:
        root = pathlib.Path(config.data_dir).expanduser()
        return str(root / "trainA"), str(root / "trainB")
    if not config.data_dir_a or not config.data_dir_b:
        raise UserError(
            "name a folder of each look, --data_dir_a=DIR --data_dir_b=DIR, or a --data_dir that "
            "holds trainA and trainB"
        )
    if pathlib.Path(config.data_dir_a).resolve() == pathlib.Path(config.data_dir_b).resolve():
        raise UserError(f"--data_dir_a and --data_dir_b are both {config.data_dir_a}")
    return config.data_dir_a, config.data_dir_b


def _digits(config: Any) -> Looks:
    """Digits, and others in another look; those held out are the same in both."""
    options = {"data_dir": config.data_dir, "image_size": config.image_size, "channels": 1}
    train, test = (data.load(config.dataset, split=split, **options) for split in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    halves = [train[np.sort(half)] for half in np.array_split(order, 2)]
    every = test[np.arange(len(test))]
    looks = [
        arrays.ArraySource(
            {"image": look(each["image"]), "label": each["label"]},
            name=config.dataset,
            num_classes=train.num_classes,
        )
        for each, look in (
            (halves[0], _plain),
            (halves[1], other_look),
            (every, _plain),
            (every, other_look),
        )
    ]
    return Looks(*looks, paired=True, digits=True)


def _plain(digits: np.ndarray) -> np.ndarray:
    return np.repeat(digits, 3, -1)


def other_look(digits: np.ndarray) -> np.ndarray:
    """Gives digits another look: thicker, and black on a colour.

    Args:
      digits: [N, H, W, 1] uint8, white on black.

    Returns:
      [N, H, W, 3] uint8.
    """
    return np.rint((255 - thickened(digits)) / 255 * PAPER).astype(np.uint8)


def thickened(digits: np.ndarray) -> np.ndarray:
    """Makes strokes thicker, by a pixel each way.

    Args:
      digits: [N, H, W, C] uint8, bright on dark.

    Returns:
      [N, H, W, C] uint8.
    """
    return ndimage.grey_dilation(digits, size=(1, 3, 3, 1))


def as_digits(image: np.ndarray, look: str) -> np.ndarray:
    """Takes the colour of either look away, so that a classifier of digits knows them.

    Args:
      image: [N, H, W, 3] uint8, translations or not.
      look: "a" for digits as they are, "b" for those in the other look, which stay thick.

    Returns:
      [N, H, W, 1] uint8, white on black.
    """
    if look == "a":
        grey = image.mean(-1, keepdims=True)
    else:
        grey = 255 * (1 - (image @ PAPER)[..., None] / (PAPER @ PAPER))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _split(
    config: Any, found: pictures.Pictures, folder: str
) -> tuple[pictures.Pictures, pictures.Pictures]:
    """Those to train on and those held out: testA beside trainA, else a share."""
    place = pathlib.Path(folder)
    test = place.with_name(place.name.replace("train", "test"))
    if config.data_dir and test.is_dir():
        return found, pictures.read(test, channels=3)
    if len(found) == 1:  # of a single picture parts are taken, for both
        return found, found
    return pictures.hold_out(found, share=config.holdout)


def _hidden_pairs(
    a: pictures.Pictures, b: pictures.Pictures
) -> tuple[Sequence[pictures.Pictures], Sequence[pictures.Pictures]]:
    """Splits two folders of the same names, so that training never sees both of a pair.

    Every tenth pair is held out; of the rest the one half is of the first look, the other of the
    second.
    """
    places = [{pathlib.Path(path).stem: i for i, path in enumerate(each.paths)} for each in (a, b)]
    names = sorted(set(places[0]) & set(places[1]))
    if len(names) < 2 * SHARE:
        raise UserError(
            f"--hidden_pairs: {a.name} and {b.name} have {len(names)} names in common; "
            f"{2 * SHARE} are needed at least"
        )
    held = names[::SHARE]
    rest = [name for number, name in enumerate(names) if number % SHARE]
    order = np.random.default_rng(0).permutation(len(rest))
    halves = [[rest[i] for i in sorted(half)] for half in np.array_split(order, 2)]

    def take(which: int, chosen: Sequence[str]) -> pictures.Pictures:
        return (a, b)[which].take([places[which][name] for name in chosen])

    return [take(0, halves[0]), take(1, halves[1])], [take(0, held), take(1, held)]


def _source(config: Any, found: pictures.Pictures, *, test: bool = False) -> Source:
    """Images of one size: parts of the pictures, or all of each, scaled."""
    if config.crop:
        each = max(1, config.eval_images // len(found)) if test else 0
        found = found if test else _at_scales(config, found)
        return crops.CropSource(found, crop=config.crop, turned=False, crops_each=each)
    size = config.image_size or SIDE
    scaled = [pixels.conform(image[None], image_size=size) for image in found]
    return arrays.ArraySource({"image": np.concatenate(scaled)}, name=found.name)


def _at_scales(config: Any, found: pictures.Pictures) -> pictures.Pictures:
    """Every picture at each of the sizes that --scales names."""
    scales = cli.floats(config, "scales")
    least = min(min(image.shape[:2]) for image in found)
    if round(min(scales) * least) < config.crop <= least:
        raise UserError(
            f"--scales={config.scales}: {found.name} has a picture {least} pixels high or wide, "
            f"{round(min(scales) * least)} at {min(scales):g}, less than --crop={config.crop}"
        )
    return found.at_scales(scales)


def some(source: Source, num: int) -> np.ndarray:
    """Chooses images, always the same.

    Args:
      source: from which.
      num: how many at most.

    Returns:
      [N, H, W, 3] uint8.
    """
    return source[subsets.choose(source, num)]["image"]


def labels(source: Source, num: int) -> np.ndarray:
    """Tells the labels of the images that `some` chooses.

    Args:
      source: from which, with labels.
      num: how many at most.

    Returns:
      [N] integers.
    """
    return source[subsets.choose(source, num)]["label"]
