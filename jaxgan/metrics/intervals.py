"""The mean of independent runs, and how far it may be from the truth."""

import math
from collections.abc import Sequence

import numpy as np

from jaxgan.types import UserError

LEVEL = 0.95


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean of independent runs and half the width of its 95 % confidence interval.

    Student's: `mean +- t s / sqrt(n)`, s the standard deviation with n - 1 in the denominator and
    t the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom.

    Args:
      values: one a run.

    Returns:
      (mean, half width); the half width of one run is not known: NaN.

    Raises:
      UserError: no values.
    """
    from scipy import stats  # takes most of a second to import

    if not len(values):
        raise UserError("no values: a mean needs at least one run")
    num, mean = len(values), float(np.mean(values))
    if num == 1:
        return mean, math.nan
    t = stats.t.ppf((1 + LEVEL) / 2, num - 1)
    return mean, float(t * np.std(values, ddof=1) / math.sqrt(num))


def difference(
    values: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """Mean difference of paired runs, and half the width of its 95 % confidence interval.

    What both runs of a pair share, such as their subset and seed, cancels.

    Args:
      values: one a run.
      others: the run of the same place that each is compared with.

    Returns:
      (mean of values - others, half width), as `interval`.

    Raises:
      UserError: no pairs, or a run without a partner.
    """
    if len(values) != len(others):
        raise UserError(f"{len(values)} values and {len(others)} others are no pairs")
    return interval(np.subtract(values, others))
