"""The inception score, and the same with any classifier."""

import numpy as np

from jaxgan.types import Array, UserError


def inception_score(
    probs: Array | np.ndarray, *, splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Rewards samples that a classifier is sure of, and that spread over its classes.

    See "Improved Techniques for Training GANs" by Salimans et al.
    (https://arxiv.org/abs/1606.03498), section 4. The samples are put into a random order first:
    samples sorted by class would have one class in each split, and score 1.

    Args:
      probs: [N, K], rows of class probabilities, in any order.
      splits: equal parts; a part of n samples cannot score above n.
      seed: of the order.

    Returns:
      Mean over the splits, in [1, K], and their standard deviation.

    Raises:
      UserError: fewer samples than splits, or rows that are not probabilities.
    """
    order = np.random.default_rng(seed).permutation(len(probs))
    scores = split_scores(np.asarray(probs)[order], splits=splits)
    return float(np.mean(scores)), float(np.std(scores))


def split_scores(probs: Array | np.ndarray, *, splits: int) -> np.ndarray:
    """Scores each of several parts of the samples: `exp(E_x KL(p(y | x) || p(y)))`.

    Args:
      probs: [N, K], rows of class probabilities, in random order.
      splits: equal parts, in order.

    Returns:
      [splits], each in [1, K].

    Raises:
      UserError: fewer samples than splits, or rows that are not probabilities.
    """
    p = np.asarray(probs, np.float64)
    if p.ndim != 2 or not np.all(p >= 0) or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise UserError(f"probs {list(p.shape)} must be [N, K], each row 0 or more with sum 1")
    if not 1 <= splits <= len(p):
        raise UserError(f"{splits} splits of {len(p)} samples: need between 1 and {len(p)} splits")
    bounds = [i * len(p) // splits for i in range(splits + 1)]
    return np.array([_score(p[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)])


def accuracy(probs: Array | np.ndarray, labels: Array | np.ndarray) -> float:
    """Share of samples that a classifier puts into the class they were made for.

    Args:
      probs: [N, K].
      labels: [N] int in [0, K), the classes asked of a conditional generator.

    Returns:
      The share, in [0, 1].

    Raises:
      UserError: not one label for each sample.
    """
    if np.shape(probs)[:1] != np.shape(labels):
        raise UserError(f"{len(probs)} samples but labels of shape {list(np.shape(labels))}")
    return float((np.asarray(probs).argmax(1) == np.asarray(labels)).mean())


def _score(p: np.ndarray) -> float:
    marginal = np.broadcast_to(p.mean(0)[None], p.shape)
    seen = p > 0  # 0 log 0 = 0
    divergence = np.where(seen, p, 0) * np.log(np.where(seen, p / np.where(seen, marginal, 1), 1))
    return float(np.exp(divergence.sum(1).mean()))
