"""What samples are compared by, and the features of real images, extracted once and kept."""

import contextlib
import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data import arrays, subsets
from jaxgan.data.arrays import MissingSplit
from jaxgan.data.registry import Source
from jaxgan.metrics import features, unlabelled, weights
from jaxgan.metrics.features import FeatureFn, Place
from jaxgan.types import PyTree, UserError

KINDS = ("classifier", "inception", "autoencoder", "random")
SPLITS = ("test", "train", "all")
MIN_IMAGES = 10  # the classifier's score is a mean over as many parts
WEAK = 0.9  # classifiers that are right less often get a warning
AUTOENCODER_IMAGES, AUTOENCODER_BYTES = 10_000, 2**29  # trained on at most so many
AUTOENCODER_RECIPE = "1"  # another one for another network or another way of training it
CACHE = "~/.cache/jaxgan/features"


class Reference(NamedTuple):
    """Real images: those that samples are compared with, and others, whose scores are the floor.

    Attributes:
      real: what samples are compared with.
      floor: images that are not in `real`; None where there are too few.
      train: the training images, whole, which features are found by or trained on.
      split: what `real` is, in words.
      floor_split: what `floor` is.
      trained_on: which of "real" and "floor" a generator is trained on; empty where that is both,
        or not known.
    """

    real: Source
    floor: Source | None
    train: Source
    split: str
    floor_split: str
    trained_on: str


def open_reference(
    load: Callable[..., Source], *, split: str, num: int, seed: int = 0, divide: bool = False
) -> Reference:
    """Opens the real images that samples are compared with.

    Args:
      load: opens one split of the data: `functools.partial(data.load, NAME, ...)`.
      split: which one is the reference, of `SPLITS`. Published protocols often use "train"; "all"
        is both together.
      num: images of the reference, at most; with "all", the floor is taken from those left over.
      seed: of that choice.
      divide: where there is no test split, divides the training split into two random halves.

    Returns:
      The images.

    Raises:
      MissingSplit: there is no test split, "train" is not asked for and `divide` is not set.
    """
    train = load(split="train")
    try:
        test, rest, names = load(split="test"), train, {"train": "train", "test": "test"}
    except MissingSplit:
        if split == "train":
            return Reference(train, None, train, "train", "", "")
        if not divide:
            raise
        rest, test = subsets.hold_out(train, share=0.5)
        names = {"train": "one random half", "test": "the other random half"}
    if split == "test":
        return Reference(test, rest, train, names["test"], names["train"], "floor")
    if split == "train":
        return Reference(rest, test, train, names["train"], names["test"], "real")
    both = _Joined(rest, test)
    chosen = subsets.choose(both, num, seed=seed)
    others = np.setdiff1d(np.arange(len(both)), chosen)
    floor = subsets.subset(both, others, "others") if len(others) >= MIN_IMAGES else None
    real = subsets.subset(both, chosen, "reference")
    return Reference(real, floor, train, "all", "the other images", "")


class _Joined:
    """The examples of one source, then those of another."""

    def __init__(self, first: Source, second: Source):
        if first.image_shape != second.image_shape:
            raise UserError(
                f"the splits of {first.name} differ in size: {list(first.image_shape)} and"
                f" {list(second.image_shape)}; set --image_size and --channels"
            )
        self._first, self._second = first, second
        self.name, self.num_classes = first.name, first.num_classes
        self.image_shape = first.image_shape

    @property
    def fingerprint(self) -> str:
        """Both fingerprints."""
        return f"{self._first.fingerprint}+{self._second.fingerprint}"

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
        index = np.asarray(index)
        in_first = index < len(self._first)
        first = self._first[index[in_first]]["image"]
        second = self._second[index[~in_first] - len(self._first)]["image"]
        image = np.empty((len(index), *self.image_shape), np.uint8)
        image[in_first], image[~in_first] = first, second
        return {"image": image}


def take(source: Source, num: int, *, seed: int = 0) -> np.ndarray:
    """Takes images of a source at random: files are often sorted by class.

    Args:
      source: the images.
      num: how many, at most.
      seed: of the choice, which depends on nothing but seed, num and the number of images.

    Returns:
      [num or fewer, H, W, C] uint8, distinct, in the source's order.
    """
    return source[subsets.choose(source, num, seed=seed)]["image"]


def open_features(
    kind: str,
    *,
    dataset: str,
    train: Source,
    data_dir: str = "",
    path: str = "",
    cache: str = CACHE,
) -> tuple[FeatureFn, dict[str, object]]:
    """Opens what images are compared by.

    Args:
      kind: one of `KINDS`. An autoencoder is trained here, about a minute, unless it is in the
        cache.
      dataset: name of the reference dataset; its classifier is the one used.
      train: its training images, of the size and colour that are compared.
      data_dir: where that dataset lies.
      path: file of the weights, or folder of classifiers, where not in the usual place; Inception's
        weights have none.
      cache: directory of autoencoders; empty to keep none.

    Returns:
      The feature function, and its record: {"name", "sha256", and what else is known}.

    Raises:
      UserError: the weights are missing, damaged, or those of something else.
    """
    if kind == "inception":
        params, record = weights.load_inception(path)
        return features.inception_features(params), {"name": kind, **record}
    shape = train.image_shape
    if kind == "random":
        params = unlabelled.random_encoder(shape)
        record = {"name": kind, "seed": 0, "sha256": unlabelled.digest(params)}
        return unlabelled.encoder_features(params, image_shape=shape), record
    if kind == "autoencoder":
        return _autoencoder_features(dataset, train, cache)
    options = {"image_shape": shape, "data_dir": data_dir, "path": path}
    options["fingerprint"] = train.fingerprint if dataset in weights.UNNAMED else ""
    if not train.num_classes and not path and not weights.find_classifier(dataset, **options):
        raise UserError(
            f"{train.name}: without labels there is no classifier; {weights.NO_LABELS_NEEDED}"
        )
    params, record = weights.load_classifier(dataset, **options)
    known = {key: record[key] for key in ("dataset", "test_accuracy", "sha256") if key in record}
    return features.classifier_features(params), {"name": kind, **known}


def open_autoencoder(
    images: np.ndarray, *, dataset: str, cache: str = CACHE, num_steps: int = 800
) -> PyTree:
    """Trains the autoencoder of images, or finds the one trained before.

    Args:
      images: [N, H, W, C] uint8.
      dataset: what they are called, for the record.
      cache: directory of autoencoders; empty to keep none.
      num_steps: of training.

    Returns:
      Parameters for `unlabelled.encoder_features`.
    """
    name = _name(images, f"{AUTOENCODER_RECIPE}-{num_steps}")
    path = pathlib.Path(cache).expanduser() / f"autoencoder_{name}"
    if cache and path.is_file():
        with contextlib.suppress(UserError):  # damaged: trained again
            return weights.load(path)[0]
    print(f"training an autoencoder on {len(images)} images, for the features", flush=True)
    params = unlabelled.train_autoencoder(images, num_steps=num_steps)
    if cache:
        with contextlib.suppress(UserError):  # nothing can be written there: not kept
            weights.save(path, params, {"dataset": dataset, "images": len(images)})
    return params


def _autoencoder_features(
    dataset: str, train: Source, cache: str
) -> tuple[FeatureFn, dict[str, object]]:
    """The features of an autoencoder of training images, and their record."""
    most = max(
        MIN_IMAGES, min(AUTOENCODER_IMAGES, AUTOENCODER_BYTES // math.prod(train.image_shape))
    )
    images = take(train, most)
    params = open_autoencoder(images, dataset=dataset, cache=cache)
    record = {"name": "autoencoder", "dataset": dataset, "images": len(images)}
    record["sha256"] = unlabelled.digest(params)
    return unlabelled.encoder_features(params, image_shape=train.image_shape), record


def feature_warnings(record: Mapping[str, object]) -> list[str]:
    """Says in words where a classifier is too weak for its scores to mean much.

    Args:
      record: of the features, from `open_features`, or of a classifier.

    Returns:
      Sentences; none for other features, and where the classifier is right on 90 % or more of its
      test images.
    """
    accuracy = record.get("test_accuracy")
    if not isinstance(accuracy, float) or accuracy >= WEAK:
        return []
    return [
        f"the classifier is right on {accuracy:.1%} of its test images, below {WEAK:.0%}: the"
        " scores measure the classifier as much as the samples; train a better one, or use other"
        " features"
    ]


def check_fit(source: Source, feature_fn: FeatureFn) -> None:
    """Refuses reference images that cannot be compared, before any is read or compiled.

    Args:
      source: the reference images.
      feature_fn: images -> features.

    Raises:
      UserError: too few images, or of a size or colour that the features are not made for.
    """
    if len(source) < MIN_IMAGES:
        raise UserError(
            f"{source.name}: {len(source)} reference images are too few; need {MIN_IMAGES} at least"
        )
    jax.eval_shape(feature_fn, jax.ShapeDtypeStruct((1, *source.image_shape), jnp.float32))


def extract(
    images: np.ndarray,
    feature_fn: FeatureFn,
    *,
    digest: str,
    cache: str = CACHE,
    batch_size: int = 500,
    place: Place = jnp.asarray,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Extracts features of images, or finds those extracted before.

    Args:
      images: [N, H, W, C] uint8, see `take`.
      feature_fn: images -> features.
      digest: sha256 of the features' weights; with the images' own it names the file. A source's
        fingerprint would not do: that of a folder depends on names and sizes alone.
      cache: directory of features; empty to keep none.
      batch_size: images at a time.
      place: puts a batch on the device; a function that shards it uses several devices.
      progress: shows a progress bar.

    Returns:
      {"features": [N, D], ...}, as `features.extract`.
    """
    path = pathlib.Path(cache).expanduser() / _name(images, digest)
    if cache and os.path.isfile(path):
        with contextlib.suppress(UserError):  # damaged, as by a full disk: made again
            return arrays.read_npz(path)
    out = features.extract(
        feature_fn, images, batch_size=batch_size, place=place, progress=progress
    )
    if cache:
        _keep(path, out)
    return out


def _name(images: np.ndarray, digest: str) -> str:
    content = hashlib.sha256(f"{images.shape}-{digest}-".encode())
    content.update(images.tobytes())
    return f"{content.hexdigest()[:24]}.npz"


def _keep(path: pathlib.Path, out: dict[str, np.ndarray]) -> None:
    """Writes features whole or not at all; where nothing can be written they are not kept."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(unfinished, **out)  # pyright: ignore[reportArgumentType]
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
