"""Whether a generator copies its training data."""

import jax
import numpy as np

from jaxgan.data import subsets
from jaxgan.metrics import distances
from jaxgan.types import Array


def memorisation(
    fake: Array | np.ndarray,
    train: Array | np.ndarray,
    test: Array | np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Compares each sample's distance to the nearest training and to the nearest unseen example.

    In the spirit of "A Non-Parametric Test to Detect Data-Copying in Generative Models" by Meehan
    et al. (https://arxiv.org/abs/2004.05675). A generator that has learnt the distribution is as
    far from either; one that copies is nearer to what it was trained on. Of the larger set as many
    examples are chosen at random as the smaller has, for more examples alone come nearer.

    Args:
      fake: [N, D] features, or pixels, of samples.
      train: [M, D] of examples that the generator was trained on.
      test: [K, D] of examples that it never saw.
      seed: of the choice.

    Returns:
      {"train_distance", "test_distance": medians; "ratio": median of train / test distance, 1
      without copying, towards 0 with; "nearer_to_train": share of samples, 0.5 without copying}.

    Raises:
      UserError: empty sets, or of different D.
    """
    num = min(len(train), len(test))
    train, test = (np.asarray(part)[subsets.choose(part, num, seed=seed)] for part in (train, test))
    train, test, fake = distances.centred(train, test, fake)
    to_train, to_test = distances.nearest(fake, train), distances.nearest(fake, test)
    tie = 0.5 * (to_train == to_test)  # an exact copy of both, or duplicates across the splits
    ratio = to_train / np.where(to_test > 0, to_test, 1)
    ratio = np.where(to_test > 0, ratio, np.where(to_train > 0, np.inf, 1.0))
    return {
        "train_distance": float(np.median(to_train)),
        "test_distance": float(np.median(to_test)),
        "ratio": float(np.median(ratio)),
        "nearer_to_train": float(((to_train < to_test) + tie).mean()),
    }


def closest(
    fake: Array | np.ndarray, train: Array | np.ndarray, *, k: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the training examples nearest to each sample, to be looked at.

    Args:
      fake: [N, D] features, or pixels, of samples.
      train: [M, D] of examples that the generator was trained on.
      k: how many of each; M at most.

    Returns:
      Their numbers and distances, [N, k] each, the nearest first.

    Raises:
      UserError: empty sets, or of different D.
    """
    train, fake = distances.centred(train, fake)
    found = [
        jax.lax.top_k(-distances.squared(rows, train), min(k, len(train)))
        for _, rows in distances.chunks(fake, len(train))
    ]
    distance = np.sqrt(np.concatenate([-np.asarray(nearness) for nearness, _ in found]))
    return np.concatenate([np.asarray(index) for _, index in found]), distance
