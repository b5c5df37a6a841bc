"""What samples are compared by, and the features of real images, extracted once and kept."""

import contextlib
import hashlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data import arrays
from jaxgan.data.registry import Source
from jaxgan.metrics import features, weights
from jaxgan.metrics.features import FeatureFn, Place
from jaxgan.types import UserError

KINDS = ("classifier", "inception")
MIN_IMAGES = 10  # the classifier's score is a mean over as many parts
CACHE = "~/.cache/jaxgan/features"


def open_features(
    kind: str, *, dataset: str, data_dir: str = "", path: str = ""
) -> tuple[FeatureFn, dict[str, object]]:
    """Opens what images are compared by.

    Args:
      kind: one of `KINDS`.
      dataset: name of the reference dataset; its classifier is the one used.
      data_dir: where that dataset lies.
      path: file of the weights, where it is not in its usual place; Inception's has none.

    Returns:
      The feature function, and its record: {"name", "sha256", and what else is known}.

    Raises:
      UserError: the weights are missing, damaged, or those of something else.
    """
    if kind == "inception":
        params, record = weights.load_inception(path)
        return features.inception_features(params), {"name": kind, **record}
    params, record = weights.load_classifier(dataset, data_dir=data_dir, path=path)
    known = {key: record[key] for key in ("dataset", "test_accuracy", "sha256") if key in record}
    return features.digit_features(params), {"name": kind, **known}


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


def first(source: Source, num: int, *, start: int = 0, stride: int = 1) -> np.ndarray:
    """Takes the first images of a source, in its own order.

    Args:
      source: the images.
      num: how many, at most.
      start: the first of them.
      stride: from one to the next.

    Returns:
      [num or fewer, H, W, C] uint8.
    """
    return source[np.arange(start, len(source), stride)[:num]]["image"]


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
      images: [N, H, W, C] uint8, see `first`.
      feature_fn: images -> features.
      digest: sha256 of the features' weights; with the images' own it names what is kept. A
        source's fingerprint would not do: of a folder it is that of names and sizes.
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
