"""All metrics of samples against real images, with what is needed to compare them."""

import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data import subsets
from jaxgan.metrics import (
    features,
    frechet,
    kernel,
    neighbours,
    prdc,
    scores,
    similarity,
    spectrum,
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
    floor: Images | None = None,
    trained_on: str = "floor",
    known: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    k: int = 5,
    splits: int = 10,
    seed: int = 0,
    batch_size: int = 500,
    place: Place = jnp.asarray,
    progress: bool = False,
) -> dict[str, object]:
    """Measures samples against real images.

    The usual protocol: 10,000 samples against the 10,000 images of the test split, `floor` being as
    many training images, whose own distance to the test split is the best that a generator can get.
    Many published numbers compare with the training split instead; `floor` is then of the test
    split, and `trained_on` is "real".

    Args:
      real: [N, H, W, C] reference images, uint8 or float in [-1, 1]; a random choice, of a split
        that the generator has not seen.
      fake: [M, H, W, C] samples.
      feature_fn: images -> {"features", and "probs" where there are classes}; see `features`.
      floor: [K, H, W, C] other real images; adds the floor and, with `trained_on`, the test for
        copies.
      trained_on: which of "real" and "floor" the generator was trained on; empty for neither, or
        for both.
      known: features extracted before, of "real" or "floor".
      k: neighbours of precision, recall, density and coverage.
      splits: parts of the classifier score.
      seed: of the subsets, pairs and directions that are drawn.
      batch_size: images at a time.
      place: puts a batch on the device; a function that shards it uses several devices.
      progress: shows a progress bar.

    Returns:
      The metrics of `compare`; `"ms_ssim"`, and `"real_ms_ssim"`; `"nyquist_ratio"`, see
      `spectrum`; with `floor` also `"floor"`, the metrics of those images against `real`, and those
      of `neighbours.memorisation`; `"num_real"`, `"num_fake"`, `"num_floor"`, `"feature_dim"`,
      `"seed"`, `"k"`; `"warnings"`, texts that were also issued as warnings.

    Raises:
      UserError: images that are missing, too few, not finite, or not of one size.
    """
    sets = {"real": as_images(real, "real images"), "fake": as_images(fake, "samples")}
    if floor is not None:
        sets["floor"] = as_images(floor, "images for the floor")
    check_sets(sets, least=k + 1)  # before any features are extracted
    out = dict(known or {})
    for name in sets.keys() - out.keys():
        out[name] = features.extract(
            feature_fn, sets[name], batch_size=batch_size, place=place, progress=progress
        )
    options = {"k": k, "splits": splits, "seed": seed}
    result: dict[str, object] = {**compare(out["real"], out["fake"], **options)}
    result |= _image_metrics(sets["real"], sets["fake"], seed)
    result["nyquist_ratio"] = spectrum.nyquist_ratio(sets["real"], sets["fake"])
    if floor is not None:
        ratio = spectrum.nyquist_ratio(sets["real"], sets["floor"])
        result["floor"] = {**compare(out["real"], out["floor"], **options), "nyquist_ratio": ratio}
    if floor is not None and trained_on:
        unseen = "real" if trained_on == "floor" else "floor"
        vectors = (out[name]["features"] for name in ("fake", trained_on, unseen))
        result |= neighbours.memorisation(*vectors, seed=seed)
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
        returns them; keep them where many sets of samples are measured against one.
      fake: {"features" [M, D], ...}.
      k: neighbours of precision, recall, density and coverage.
      splits: parts of the classifier score.
      seed: of the subsets, directions and splits that are drawn.

    Returns:
      {"frechet_distance", "kernel_distance", "kernel_distance_error", "precision", "recall",
      "density", "coverage", "sliced_wasserstein"}, and with classes {"score", "score_std",
      "real_score"}. The error is the standard error of the distance, see `kernel`.

    Raises:
      UserError: too few samples, features that are not finite or not alike.
    """
    a, b = real["features"], fake["features"]
    for what, vectors in (("real images", a), ("samples", b)):
        if not np.isfinite(vectors).all():
            raise UserError(f"the features of the {what} are not finite; check the weights")
    kernel_key, slice_key = jax.random.split(jax.random.key(seed))
    num = min(len(a), len(b))
    mean, error = kernel.kernel_distance(kernel_key, a, b, subset_size=min(1000, num))
    as_many = (points[subsets.choose(points, num, seed=seed)] for points in (a, b))
    result = {
        "frechet_distance": frechet.frechet_distance(a, b),
        "kernel_distance": mean,
        "kernel_distance_error": error,
        **prdc.prdc(a, b, k=k),
        "sliced_wasserstein": similarity.sliced_wasserstein(slice_key, *as_many),
    }
    if "probs" in fake:
        options = {"splits": splits, "seed": seed}
        result["score"], result["score_std"] = scores.inception_score(fake["probs"], **options)
        result["real_score"] = scores.inception_score(real["probs"], **options)[0]
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
