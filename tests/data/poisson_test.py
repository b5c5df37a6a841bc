import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgan.data import poisson


def test_black_expects_no_photon_and_white_the_peak():
    images = jnp.array([-2.0, -1, 0, 1, 2]).reshape(1, 1, 5, 1)
    mean = poisson.expected(images, jnp.array([30.0]))
    np.testing.assert_allclose(mean.ravel(), [0, 0, 15, 30, 30])
    np.testing.assert_allclose(
        poisson.developed(mean, jnp.array([30.0])).ravel(), [-1, -1, 0, 1, 1]
    )


@pytest.mark.parametrize("mean", [0.0, 0.02, 3.0, 29.0, 49.9, 50.0, 80.0, 1000.0])
def test_quantiles_are_scipys_but_for_one_in_a_thousand(mean):
    chance = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, 20_000).astype(np.float32)
    found = poisson.quantile(jnp.asarray(chance), jnp.full(chance.shape, mean), most=1000.0)
    wrong = found - np.maximum(scipy.stats.poisson.ppf(chance.astype(float), mean), 0)
    assert np.abs(wrong).max() <= 1 and (wrong != 0).mean() < 1e-3


@pytest.mark.parametrize("most", [1e-3, 5.0, 50.0, 2000.0])
def test_the_ends_are_finite_whole_numbers(most):
    chance = jnp.array([0.0, 1e-9, 1 - 6e-8, 1.0])
    for mean in (0.0, most / 2, most):
        found = np.asarray(poisson.quantile(chance, jnp.full(4, mean), most=most))
        expected = np.maximum(scipy.stats.poisson.ppf([1e-7, 1 - 1.2e-7], mean), 0)
        # Sums in float32 are off by 1e-6, which is a few counts out there.
        np.testing.assert_allclose(found[[0, -1]], expected, atol=5)
        np.testing.assert_array_equal(found, np.round(found))


def test_jit_changes_nothing():
    chance, mean = np.random.default_rng(0).uniform(0, [[1], [90]], (2, 500)).astype(np.float32)
    found = poisson.quantile(jnp.asarray(chance), jnp.asarray(mean), most=90.0)
    compiled = jax.jit(lambda c, m: poisson.quantile(c, m, most=90.0))(chance, mean)
    np.testing.assert_array_equal(found, compiled)
