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


def test_a_subset_of_everything_is_the_estimate_itself_and_is_computed_once(monkeypatch):
    real, fake = (x[:40] for x in references.random_features("few")[::-1])
    calls, estimate = [], kernel._estimate
    monkeypatch.setattr(kernel, "_estimate", lambda x, y: calls.append(1) or estimate(x, y))
    mean, error = kernel.kernel_distance(jax.random.key(0), real, fake, subset_size=40)
    assert len(calls) == 1
    np.testing.assert_allclose(mean, kernel.squared_mmd(real, fake), rtol=1e-5)
    assert 0 < error < mean


@pytest.mark.parametrize(
    ("shift", "num_real", "num_fake", "subset_size"),
    # One distribution or two; sets of unequal size; subsets that leave most examples out.
    [(0.0, 50, 50, 50), (0.5, 60, 80, 30), (0.0, 120, 60, 20)],
)
def test_the_stated_error_is_the_spread_over_independent_draws(
    shift, num_real, num_fake, subset_size
):
    random, values, errors = np.random.default_rng(0), [], []
    for draw in range(200):
        real = random.standard_normal((num_real, 4))
        fake = random.standard_normal((num_fake, 4)) + shift
        value, error = kernel.kernel_distance(
            jax.random.key(draw), real, fake, subsets=10, subset_size=subset_size
        )
        values.append(value)
        errors.append(error)
    spread = np.std(values, ddof=1)
    if shift:  # 200 draws know their spread to a tenth or so
        assert np.mean(errors) == pytest.approx(spread, rel=0.15)
    else:  # never too small; larger by a quarter at most, see `kernel.variance`
        assert 0.95 * spread < np.mean(errors) < 1.35 * spread
        assert abs(np.mean(values)) < 4 * spread / 200**0.5  # of 0: the value is unbiased
    assert min(errors) > 0.3 * spread


def test_the_parts_of_the_variance_are_those_of_a_kernel_worked_out_in_full():
    real, fake = (x[:30] for x in references.random_features("few"))
    x, y = real.astype(np.float64), fake.astype(np.float64)
    xy = (x @ y.T / x.shape[1] + 1) ** 3
    centred = xy - xy.mean(0)[None] - xy.mean(1)[:, None] + xy.mean()
    parts = kernel._estimate(real, fake)[1]
    np.testing.assert_allclose(parts.mixed_pair, np.square(centred).sum() / 29**2, rtol=1e-3)
    xx = (x @ x.T / x.shape[1] + 1) ** 3
    np.fill_diagonal(xx, 0)
    centred = xx - (xx.sum(0)[None] + xx.sum(1)[:, None]) / 28 + xx.sum() / (29 * 28)
    np.fill_diagonal(centred, 0)
    np.testing.assert_allclose(parts.real_pair, np.square(centred).sum() / (30 * 27), rtol=1e-3)


def test_too_few_samples_have_no_error():
    value, error = kernel.kernel_distance(
        jax.random.key(0), np.eye(3), 2 * np.eye(3), subset_size=3
    )
    assert np.isfinite(value) and np.isnan(error)


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
