"""Whether a generator copies its training data, and which of its samples are copies."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data import subsets
from jaxgan.metrics import distances
from jaxgan.types import Array, UserError


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


def own_distance(
    train: Array | np.ndarray, *, quantile: float = 0.01, num: int = 2000, seed: int = 0
) -> float:
    """How near training examples come to each other: what is nearer to one is taken for its copy.

    Args:
      train: [M, D] features, or pixels, of two examples or more.
      quantile: of the distances to the nearest other example, in [0, 1].
      num: examples whose distances are measured, at most.
      seed: of their choice.

    Returns:
      The distance.

    Raises:
      UserError: fewer than two examples.
    """
    if len(train) < 2:
        raise UserError(f"{len(train)} example has no neighbour; a distance needs two")
    chosen = subsets.choose(train, num, seed=seed)
    (every,) = distances.centred(train)
    least = jax.jit(_other)
    found = [
        np.asarray(least(every[part], every, part))
        for part in np.array_split(chosen, -(-len(chosen) * len(every) // distances.MAX_PAIRS))
    ]
    return float(np.quantile(np.concatenate(found), quantile))


def copies(fake: Array | np.ndarray, train: Array | np.ndarray, *, distance: float) -> np.ndarray:
    """Finds samples that are nearer to a training example than such examples are to each other.

    Blurred samples are near to many examples, and may be found too.

    Args:
      fake: [N, D] features, or pixels, of samples.
      train: [M, D] of examples that the generator was trained on.
      distance: of `own_distance`.

    Returns:
      bool [N].

    Raises:
      UserError: empty sets, or of different D.
    """
    train, fake = distances.centred(train, fake)
    return distances.nearest(fake, train) < distance


def _other(x: Array, every: Array, place: Array) -> Array:
    """[N] distance of each of some examples to the nearest other one."""
    square = distances.squared(x, every).at[jnp.arange(len(x)), place].set(jnp.inf)
    return jnp.sqrt(square.min(1))
