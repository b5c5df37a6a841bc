"""The Frechet distance between two sets of features.

Statistics stream, and merge across devices and processes. They are kept on the host in float64: the
distance of good samples is a small difference of large traces, to which float32 adds noise, and JAX
has float64 only as a mode of the whole program. NumPy needs a second for 8,192 x 2,048 features.
"""

import numpy as np
from flax import struct

from jaxgan.types import Array, UserError


class Stats(struct.PyTreeNode):
    """What is kept of samples: how many, their mean [D], their scatter [D, D], all float64.

    The scatter is the sum of `(x - mean) (x - mean)'`. A pytree of NumPy arrays.
    """

    count: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray


def init(dim: int) -> Stats:
    """Returns the statistics of no samples.

    Args:
      dim: number of features D.

    Returns:
      Statistics for `update`.
    """
    return Stats(np.zeros((), np.int64), np.zeros(dim), np.zeros((dim, dim)))


def update(stats: Stats, features: Array | np.ndarray) -> Stats:
    """Adds samples to statistics.

    Args:
      stats: from `init`, `update` or `merge`.
      features: [B, D] with B of 1 or more; sharded over the devices of this process as they may be.

    Returns:
      The statistics of all samples so far.

    Raises:
      UserError: another number of features than before.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or x.shape[1:] != stats.mean.shape:
        raise UserError(
            f"features are {list(x.shape)}; these statistics take [B, {stats.mean.size}]"
        )
    mean = x.mean(0)
    centred = x - mean[None]
    return merge(stats, Stats(np.array(len(x)), mean, centred.T @ centred))


def merge(a: Stats, b: Stats) -> Stats:
    """Joins the statistics of two sets of samples, of two processes for example.

    See "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" by Chan et al.
    (https://doi.org/10.1007/978-3-642-51461-6_3), eq. 2.1.

    Args:
      a: statistics.
      b: statistics of other samples, of the same features.

    Returns:
      The statistics of both together.
    """
    count = a.count + b.count
    share = b.count / max(count, 1)
    shift = b.mean - a.mean
    scatter = a.scatter + b.scatter + a.count * share * np.outer(shift, shift)
    return Stats(count, a.mean + share * shift, scatter)


def moments(stats: Stats) -> tuple[np.ndarray, np.ndarray]:
    """Turns statistics into mean and covariance.

    Args:
      stats: of at least two samples.

    Returns:
      Mean [D] and unbiased covariance [D, D], float64.

    Raises:
      UserError: fewer than two samples, or features that are not finite.
    """
    if stats.count < 2:
        raise UserError(f"{stats.count} samples have no covariance; give at least 2")
    if not np.isfinite(stats.scatter).all():
        raise UserError("features are not finite (NaN or infinity); check images and weights")
    return stats.mean, stats.scatter / (stats.count - 1)


def distance(a: Stats, b: Stats) -> float:
    """Frechet distance of the Gaussians with the moments of two sets of samples.

    See "GANs Trained by a Two Time-Scale Update Rule" by Heusel et al.
    (https://arxiv.org/abs/1706.08500), eq. 6:
    `|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))`.

    Args:
      a: statistics of at least two samples.
      b: statistics of at least two samples, of the same features.

    Returns:
      The distance (the square, as is usual), 0 or more.

    Raises:
      UserError: fewer than two samples, different features, or features that are not finite.
    """
    return moments_distance(*moments(a), *moments(b))


def moments_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Frechet distance of two Gaussians; `distance` for published means and covariances.

    Args:
      mean_a: [D].
      covariance_a: [D, D], symmetric; rank deficient is fine.
      mean_b: [D].
      covariance_b: [D, D].

    Returns:
      The distance, 0 or more.

    Raises:
      UserError: the two do not have the same number of features.
    """
    if mean_a.shape != mean_b.shape:
        raise UserError(f"{len(mean_a)} features against {len(mean_b)}; use the same for both sets")
    # C_a C_b has the eigenvalues of R' C_b R with C_a = R R', which is symmetric: never complex.
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    shared = np.linalg.eigvalsh(root.T @ covariance_b @ root)
    trace = np.trace(covariance_a) + np.trace(covariance_b)
    trace -= 2.0 * np.sqrt(np.maximum(shared, 0.0)).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + trace))


def frechet_distance(
    real: Array | np.ndarray, fake: Array | np.ndarray, *, batch_size: int = 4096
) -> float:
    """Frechet distance between two sets of features: the FID, when they are Inception's.

    Args:
      real: [N, D].
      fake: [M, D].
      batch_size: samples turned to float64 at a time.

    Returns:
      The distance, 0 or more.

    Raises:
      UserError: as `distance`.
    """
    return distance(
        of_features(real, batch_size=batch_size), of_features(fake, batch_size=batch_size)
    )


def intra_distance(
    real: Array | np.ndarray,
    fake: Array | np.ndarray,
    real_labels: Array | np.ndarray,
    fake_labels: Array | np.ndarray,
) -> float:
    """Mean over classes of the distance within each class, for conditional generators.

    See "cGANs with Projection Discriminator" by Miyato & Koyama (https://arxiv.org/abs/1802.05637),
    section 5 (intra FID).

    Args:
      real: [N, D] features.
      fake: [M, D] features.
      real_labels: [N] class of each real image.
      fake_labels: [M] class that each sample was made for.

    Returns:
      The mean distance, 0 or more.

    Raises:
      UserError: a class of the real images has fewer than two samples.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    real_labels, fake_labels = np.asarray(real_labels), np.asarray(fake_labels)
    values = []
    for label in np.unique(real_labels):
        if (fake_labels == label).sum() < 2:
            raise UserError(f"class {label} has fewer than 2 samples; make some of every class")
        values.append(frechet_distance(real[real_labels == label], fake[fake_labels == label]))
    return float(np.mean(values))


def of_features(features: Array | np.ndarray, *, batch_size: int = 4096) -> Stats:
    """Computes the statistics of many features, some at a time.

    Args:
      features: [N, D].
      batch_size: samples turned to float64 at a time.

    Returns:
      Their statistics.
    """
    stats = init(features.shape[-1])
    for start in range(0, len(features), batch_size):
        stats = update(stats, features[start : start + batch_size])
    return stats
