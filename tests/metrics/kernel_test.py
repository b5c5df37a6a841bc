import json

import jax
import numpy as np
import pytest

from jaxgan.metrics import kernel
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())


def naive(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * n - n) + (yy.sum() - np.trace(yy)) / (m * m - m)
    return within - 2 * xy.mean()


@pytest.mark.parametrize("name", list(references.CASES))
def test_equals_torch_fidelity_and_float64(name):
    real, fake = references.random_features(name)
    num = min(len(real), len(fake))
    value = kernel.squared_mmd(real[:num], fake[:num])
    np.testing.assert_allclose(value, REFERENCES[name]["torch_fidelity_kid"], rtol=1e-4)
    np.testing.assert_allclose(kernel.squared_mmd(real, fake), naive(real, fake), rtol=1e-4)


def test_one_subset_of_everything_is_the_estimate_itself():
    real, fake = (x[:50] for x in references.random_features("few")[::-1])
    fake = fake[:40]
    mean, std = kernel.kernel_distance(
        jax.random.key(0), real[:40], fake, subsets=1, subset_size=40
    )
    np.testing.assert_allclose(mean, kernel.squared_mmd(real[:40], fake), rtol=1e-5)
    assert std == 0


def test_is_unbiased_where_both_sets_come_from_one_distribution():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2000, 8))
    mean, std = kernel.kernel_distance(jax.random.key(1), x, y, subsets=40, subset_size=100)
    assert abs(mean) < 4 * std / 40**0.5 + 0.02
    shifted, _ = kernel.kernel_distance(jax.random.key(1), x, y + 1, subsets=40, subset_size=100)
    assert shifted > 20 * abs(mean)


def test_the_same_key_draws_the_same_subsets():
    real, fake = references.random_features("wide")
    draw = [
        kernel.kernel_distance(jax.random.key(k), real, fake, subsets=3, subset_size=50)
        for k in (1, 1, 2)
    ]
    assert draw[0] == draw[1] != draw[2]


def test_more_samples_a_subset_than_there_are_is_refused():
    with pytest.raises(UserError, match="subset_size 1000 needs as many samples"):
        kernel.kernel_distance(jax.random.key(0), np.zeros((10, 2)), np.zeros((2000, 2)))
    with pytest.raises(UserError, match="one D"):
        kernel.kernel_distance(jax.random.key(0), np.zeros((10, 2)), np.zeros((10, 3)))
