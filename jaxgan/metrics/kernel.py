"""The kernel distance (KID): unbiased at any number of samples, and with its error."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array, Key, UserError


def kernel_distance(
    key: Key,
    real: Array | np.ndarray,
    fake: Array | np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy under a cubic kernel, averaged over random subsets.

    See "Demystifying MMD GANs" by Binkowski et al. (https://arxiv.org/abs/1801.01401), eq. 4 and
    section 4: `k(x, y) = (x . y / D + 1)^3`.

    Args:
      key: chooses the subsets.
      real: [N, D].
      fake: [M, D].
      subsets: number of subsets.
      subset_size: samples of each set in a subset, drawn without replacement; 2 to min(N, M).

    Returns:
      Mean over subsets, and their standard deviation (divided by sqrt(subsets): the mean's error).
      The mean is below zero about half of the time when both sets come from one distribution.

    Raises:
      UserError: fewer samples than a subset has, or sets of different D.
    """
    if np.shape(real)[1:] != np.shape(fake)[1:] or np.ndim(real) != 2:
        raise UserError(
            f"features are {list(np.shape(real))} and {list(np.shape(fake))};"
            " need [N, D] with one D"
        )
    if not 2 <= subset_size <= min(len(real), len(fake)):
        raise UserError(
            f"subset_size {subset_size} needs as many samples of each set (and is at least 2);"
            f" got {len(real)} and {len(fake)}"
        )
    real, fake = np.asarray(real), np.asarray(fake)
    # Chosen on the host: to permute all samples for each subset takes as long as its kernels do.
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))
    values = []
    for _ in range(subsets):
        x, y = (
            points[rng.choice(len(points), subset_size, replace=False)] for points in (real, fake)
        )
        values.append(squared_mmd(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)))
    return float(np.mean(values)), float(np.std(values))


def squared_mmd(x: Array, y: Array) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy under the cubic kernel.

    Args:
      x: [n, D].
      y: [m, D].

    Returns:
      The estimate, which may be below zero.
    """
    # Row sums on the device, the rest in float64: the result is a small difference of large means.
    within_x, within_y, between = (np.asarray(sums, np.float64) for sums in _row_sums(x, y))
    n, m = len(x), len(y)
    within = within_x.sum() / (n * (n - 1)) + within_y.sum() / (m * (m - 1))
    return within - 2.0 * between.sum() / (n * m)


@jax.jit
def _row_sums(x: Array, y: Array) -> tuple[Array, Array, Array]:
    def kernel(a: Array, b: Array) -> Array:
        return (jnp.matmul(a, b.T, precision="highest") / a.shape[1] + 1.0) ** 3

    def others(a: Array) -> Array:
        return jnp.where(jnp.eye(len(a), dtype=bool), 0.0, kernel(a, a)).sum(1)

    return others(x), others(y), kernel(x, y).sum(1)
