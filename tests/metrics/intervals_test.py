import math

import numpy as np
import pytest
from scipy import stats

from jaxgan.metrics import intervals
from jaxgan.types import UserError


@pytest.mark.parametrize("num", [2, 10, 100])
def test_the_interval_is_students(num):
    values = np.random.default_rng(num).normal(size=num)
    mean, half = intervals.interval(values)
    low, high = stats.t.interval(0.95, num - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-9)


def test_one_run_has_no_interval_and_none_no_mean():
    mean, half = intervals.interval([3.0])
    assert mean == 3.0 and math.isnan(half)
    with pytest.raises(UserError, match="at least one run"):
        intervals.interval([])


def test_a_paired_difference_is_the_paired_t_interval():
    one, other = np.random.default_rng(0).normal(size=(2, 12))
    mean, half = intervals.difference(one, other)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], expected, rtol=1e-9)
    with pytest.raises(UserError, match="no pairs"):
        intervals.difference(one, other[:3])
