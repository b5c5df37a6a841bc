"""Precision, recall, density and coverage, from balls around each sample's nearest neighbours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.metrics import distances
from jaxgan.types import Array, UserError

_LAYERS = 16  # columns fall into this many layers, of which each lane sees one element


def prdc(real: Array | np.ndarray, fake: Array | np.ndarray, *, k: int = 5) -> dict[str, float]:
    """Measures quality (precision, density) apart from variety (recall, coverage).

    Precision and recall: "Improved Precision and Recall Metric for Assessing Generative Models"
    by Kynkaanniemi et al. (https://arxiv.org/abs/1904.06991), eq. 1 and 2; density and coverage:
    "Reliable Fidelity and Diversity Metrics for Generative Models" by Naeem et al.
    (https://arxiv.org/abs/2002.09797), eq. 3 and 5. Balls are open, as in Naeem's own code.
    Distances are computed some rows at a time: memory grows with N + M, not with N x M.

    Args:
      real: [N, D] with N > k.
      fake: [M, D] with M > k.
      k: the radius of a sample's ball is the distance to its k-th nearest neighbour in its own set.

    Returns:
      {"precision", "recall", "density", "coverage"}; all in [0, 1] but density, which may exceed 1.

    Raises:
      UserError: k or fewer samples, or sets of different D.
    """
    real, fake = distances.centred(real, fake)
    if not 0 < k < min(len(real), len(fake)):
        raise UserError(f"k={k} needs more than {k} samples of each; got {len(real)}, {len(fake)}")
    real_radii, fake_radii = squared_radii(real, k), squared_radii(fake, k)
    num_balls = np.zeros(len(fake), np.int64)
    recalled, covered = [], []
    for start, rows in distances.chunks(real, len(fake)):
        radii = real_radii[start : start + len(rows)]
        balls, in_fake, near = _compare(rows, radii, fake, fake_radii)
        num_balls += np.asarray(balls)
        recalled.append(in_fake)
        covered.append(near)
    return {
        "precision": float((num_balls > 0).mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": float(num_balls.mean() / k),
        "coverage": float(np.concatenate(covered).mean()),
    }


def squared_radii(points: Array, k: int) -> Array:
    """Squared distance of each point to its k-th nearest other point.

    Args:
      points: [N, D] with N > k.
      k: which neighbour, from 1.

    Returns:
      [N].
    """
    parts = distances.chunks(points, len(points))
    return jnp.concatenate([_kth_smallest(rows, points, start, k=k) for start, rows in parts])


@functools.partial(jax.jit, static_argnames="k")
def _kth_smallest(rows: Array, points: Array, start: Array, *, k: int) -> Array:
    squared = distances.squared(rows, points)
    own = start + jnp.arange(len(rows))[:, None] == jnp.arange(len(points))[None, :]
    return _smallest(jnp.where(own, jnp.inf, squared), k)


def _smallest(x: Array, k: int) -> Array:
    """The k-th smallest of each row [n] of x [n, m]; on a CPU far quicker than `lax.top_k`."""
    lanes = -(-x.shape[1] // _LAYERS)
    x = jnp.pad(x, ((0, 0), (0, lanes * _LAYERS - x.shape[1])), constant_values=jnp.inf)
    # In each of the lanes, insert one layer after the other into a sorted list of the k smallest.
    best = [jnp.full((len(x), lanes), jnp.inf, x.dtype)] * k
    for layer in jnp.split(x, _LAYERS, axis=1):
        for place in range(k):
            best[place], layer = jnp.minimum(best[place], layer), jnp.maximum(best[place], layer)
    best = jnp.concatenate(best, axis=1)
    for _ in range(k - 1):
        least = jnp.arange(best.shape[1])[None, :] == best.argmin(1)[:, None]
        best = jnp.where(least, jnp.inf, best)
    return best.min(1)


@jax.jit
def _compare(real: Array, real_radii: Array, fake: Array, fake_radii: Array):
    """Real balls that hold each fake [M]; whether a fake ball holds each real [n]; coverage [n]."""
    squared = distances.squared(real, fake)
    balls = (squared < real_radii[:, None]).sum(0)
    in_fake = (squared < fake_radii[None, :]).any(1)
    return balls, in_fake, squared.min(1) < real_radii
