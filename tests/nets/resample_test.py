"""Bilinear resampling: against JAX's own resize, and the two against each other."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.nets import resample

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 10, 3)), jnp.float32)


def test_doubling_is_bilinear_resizing_but_for_the_edge():
    ours = resample.upsample(X)
    theirs = jax.image.resize(X, (2, 12, 20, 3), "bilinear")
    np.testing.assert_allclose(ours[:, 1:-1, 1:-1], theirs[:, 1:-1, 1:-1], atol=1e-6)
    np.testing.assert_allclose(ours[:, 0, 2], 0.75 * theirs[:, 0, 2], atol=1e-6)


def test_enlarging_is_bilinear_resizing_up_to_the_edge():
    theirs = jax.image.resize(X, (2, 12, 20, 3), "bilinear")
    np.testing.assert_allclose(resample.enlarge(X), theirs, atol=1e-6)


def test_halving_is_a_quarter_of_the_transpose_of_doubling():
    small = resample.downsample(X)
    assert small.shape == (2, 3, 5, 3)
    (transposed,) = jax.linear_transpose(resample.upsample, small)(X)
    np.testing.assert_allclose(small, transposed / 4, atol=1e-6)


def test_numbers_by_hand():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(16.0)
    row = np.array([0, 4, 12, 12, 4, 0, 0, 0]) / 4
    np.testing.assert_allclose(resample.upsample(x)[0, :, :, 0], np.outer(row, row))
    across = np.array([3, 1]) / 2
    np.testing.assert_allclose(resample.downsample(x)[0, :, :, 0], np.outer(across, across))
