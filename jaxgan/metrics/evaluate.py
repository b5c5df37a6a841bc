"""All metrics of samples against real images, with what is needed to compare them."""

import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.metrics import (
    features,
    frechet,
    kernel,
    neighbours,
    prdc,
    scores,
    similarity,
)
from jaxgan.metrics.features import FeatureFn, Place
from jaxgan.types import UserError

Images = np.ndarray | Sequence[np.ndarray]
BETTER: Mapping[str, str] = {  # metrics that tell a better generator from a worse one
    "score": "higher",
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "sliced_wasserstein": "lower",
}


class FewSamples(UserWarning):
    """There are fewer samples than a metric needs to be what it is called."""


def evaluate(
    real: Images,
    fake: Images,
    feature_fn: FeatureFn,
    *,
    train: Images | None = None,
    known: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    k: int = 5,
    splits: int = 10,
    seed: int = 0,
    batch_size: int = 500,
    place: Place = jnp.asarray,
    progress: bool = False,
) -> dict[str, object]:
    """Measures samples against real images.

    The usual protocol: 10,000 samples against the 10,000 images of the test split, `train` being as
    many training images, whose own distance to the test split is the best that a generator can get.

    Args:
      real: [N, H, W, C] reference images, uint8 or float in [-1, 1]; of a split that the generator
        has not seen, and in random order.
      fake: [M, H, W, C] samples.
      feature_fn: images -> {"features", and "probs" where there are classes}; see `features`.
      train: [K, H, W, C] images that the generator was trained on; adds the floor and the test for
        copies.
      known: features extracted before, of "real" or "train".
      k: neighbours of precision, recall, density and coverage.
      splits: parts of the classifier score.
      seed: of the subsets, pairs and directions that are drawn.
      batch_size: images at a time.
      place: puts a batch on the device; a function that shards it uses several devices.
      progress: shows a progress bar.

    Returns:
      The metrics of `compare`; `"ms_ssim"`, and `"real_ms_ssim"`; with `train` also `"floor"`, the
      metrics of `train` against `real`, and those of `neighbours.memorisation`; `"num_real"`,
      `"num_fake"`, `"num_train"`, `"feature_dim"`, `"seed"`, `"k"`; `"warnings"`, texts that were
      also issued as warnings.

    Raises:
      UserError: images that are missing, too few, not finite, or not of one size.
    """
    sets = {"real": as_images(real, "real images"), "fake": as_images(fake, "samples")}
    if train is not None:
        sets["train"] = as_images(train, "training images")
    check_sets(sets, least=k + 1)  # before any features are extracted
    out = dict(known or {})
    for name in sets.keys() - out.keys():
        out[name] = features.extract(
            feature_fn, sets[name], batch_size=batch_size, place=place, progress=progress
        )
    options = {"k": k, "splits": splits, "seed": seed}
    result: dict[str, object] = {**compare(out["real"], out["fake"], **options)}
    result |= _image_metrics(sets["real"], sets["fake"], seed)
    if train is not None:
        result["floor"] = compare(out["real"], out["train"], **options)
        vectors = (out[name]["features"] for name in ("fake", "train", "real"))
        result |= neighbours.memorisation(*vectors)
    dim = out["real"]["features"].shape[1]
    result |= {f"num_{name}": len(images) for name, images in sets.items()}
    result |= {"feature_dim": dim, "seed": seed, "k": k}
    result["warnings"] = sample_warnings(min(len(sets["real"]), len(sets["fake"])), dim)
    for text in result["warnings"]:
        warnings.warn(text, FewSamples, stacklevel=2)
    return result


def compare(
    real: Mapping[str, np.ndarray],
    fake: Mapping[str, np.ndarray],
    *,
    k: int = 5,
    splits: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Measures extracted features of samples against those of real images.

    Args:
      real: {"features" [N, D], and "probs" [N, K] where there are classes}, as `features.extract`
        returns them; to be kept, where many sets of samples are measured against one.
      fake: {"features" [M, D], ...}.
      k: neighbours of precision, recall, density and coverage.
      splits: parts of the classifier score.
      seed: of the subsets and directions that are drawn.

    Returns:
      {"frechet_distance", "kernel_distance", "kernel_distance_std", "precision", "recall",
      "density", "coverage", "sliced_wasserstein"}, and with classes {"score", "score_std",
      "real_score"}.

    Raises:
      UserError: too few samples, features that are not finite or not alike.
    """
    a, b = real["features"], fake["features"]
    for what, vectors in (("real images", a), ("samples", b)):
        if not np.isfinite(vectors).all():
            raise UserError(f"the features of the {what} are not finite; check the weights")
    kernel_key, slice_key = jax.random.split(jax.random.key(seed))
    num = min(len(a), len(b))
    mean, std = kernel.kernel_distance(kernel_key, a, b, subset_size=min(1000, num))
    result = {
        "frechet_distance": frechet.frechet_distance(a, b),
        "kernel_distance": mean,
        "kernel_distance_std": std,
        **prdc.prdc(a, b, k=k),
        "sliced_wasserstein": similarity.sliced_wasserstein(slice_key, a[:num], b[:num]),
    }
    if "probs" in fake:
        result["score"], result["score_std"] = scores.inception_score(fake["probs"], splits=splits)
        result["real_score"] = scores.inception_score(real["probs"], splits=splits)[0]
    return result


def as_images(images: Images, what: str) -> np.ndarray:
    """Checks a set of images.

    Args:
      images: [N, H, W, C], or a sequence of [H, W, C]; uint8, or float in [-1, 1].
      what: what they are called in messages.

    Returns:
      [N, H, W, C], uint8 or float32.

    Raises:
      UserError: no images, mixed sizes, wrong rank or channels, values out of range or not finite.
    """
    shapes = {np.shape(image) for image in images} if not hasattr(images, "shape") else set()
    if len(shapes) > 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes)[:3])
        raise UserError(f"{what} are of {len(shapes)} sizes ({listed}); resize them to one")
    array = np.asarray(images)
    if not array.size:
        raise UserError(f"{what}: there are none (shape {list(array.shape)})")
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        raise UserError(f"{what} are {list(array.shape)}; need [N, H, W, C] with C of 1 or 3")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{what} are {array.dtype}; need uint8, or float in [-1, 1]")
    bad = np.flatnonzero(~np.isfinite(array).all((1, 2, 3)))
    if bad.size:
        raise UserError(f"{what}: {bad.size} hold NaN or infinity, the first is number {bad[0]}")
    low, high = array.min(), array.max()
    if low < -1.01 or high > 1.01:
        raise UserError(f"{what} lie in [{low:.3g}, {high:.3g}]; need uint8, or float in [-1, 1]")
    return array.astype(np.float32)


def check_sets(sets: Mapping[str, np.ndarray], *, least: int) -> None:
    """Refuses sets of images that cannot be compared with each other.

    Args:
      sets: [N, H, W, C] each, by what they are called in messages.
      least: how many images each must hold.

    Raises:
      UserError: other sizes or channels, or too few images.
    """
    shapes = {name: images.shape[1:] for name, images in sets.items()}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise UserError(f"images differ in size or channels ({said}); make them alike")
    for name, images in sets.items():
        if len(images) < least:
            raise UserError(f"{len(images)} {name} images are too few; need {least} at least")


def sample_warnings(num: int, dim: int) -> list[str]:
    """Says in words what too few samples do to the metrics.

    Args:
      num: samples of the smaller set.
      dim: number of features.

    Returns:
      Sentences; none if there are enough samples.
    """
    if num <= dim:
        return [
            f"{num} samples are not more than the {dim} features: the covariance is rank deficient"
            " and the Frechet distance far too high; use more samples, or the kernel distance"
        ]
    if num < 5 * dim:
        return [
            f"{num} samples are few for {dim} features: the Frechet distance is too high, by an"
            " amount that depends on their number; compare it at equal numbers, beside the floor"
        ]
    return []


def _image_metrics(real: np.ndarray, fake: np.ndarray, seed: int) -> dict[str, float]:
    """Multi-scale similarity of random pairs, for both sets; nothing for images under 11 pixels."""
    if min(real.shape[1:3]) < similarity.WINDOW:
        return {}
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return {
        "ms_ssim": similarity.diversity(key, fake),
        "real_ms_ssim": similarity.diversity(key, real),
    }
