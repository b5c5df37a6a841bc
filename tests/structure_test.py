"""Structural similarity's maths, against numbers by hand and SciPy; NumPy and JAX alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxgan import structure

KINDS = {"numpy": (np.float64, 1e-12), "jax": (jnp.float32, 1e-5)}


def _pair(*shape):
    a = np.random.default_rng(0).uniform(-1, 1, shape)
    return a, np.clip(0.7 * a + np.random.default_rng(1).normal(0, 0.3, shape), -1, 1)


def _as(kind, *arrays):
    return [jnp.asarray(x, jnp.float32) if kind == "jax" else x for x in arrays]


def _scipy_blurred(x):
    """Means over a Gaussian of deviation 1.5 that ends after 5 pixels, in the rows and columns."""
    for axis in (-3, -2):
        x = ndimage.gaussian_filter1d(x, 1.5, axis=axis, radius=5)
    return x[..., 5:-5, 5:-5, :]


@pytest.mark.parametrize("kind", KINDS)
def test_local_means_are_those_of_scipy(kind):
    dtype, tolerance = KINDS[kind]
    for shape in ((13, 17, 3), (2, 11, 19, 1)):
        x, _ = _pair(*shape)
        found = structure.blurred(*_as(kind, x))
        assert found.dtype == dtype and isinstance(found, np.ndarray) == (kind == "numpy")
        np.testing.assert_allclose(found, _scipy_blurred(x), atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 255.0)])
def test_terms_are_the_published_quotients(kind, low, high):
    a, b = (low + (x + 1) * (high - low) / 2 for x in _pair(2, 15, 13, 2))
    x, y = a - low, b - low
    mean_x, mean_y = _scipy_blurred(x), _scipy_blurred(y)
    covariance = _scipy_blurred(x * y) - mean_x * mean_y
    variances = _scipy_blurred(x * x) - mean_x**2 + _scipy_blurred(y * y) - mean_y**2
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    luminance, contrast = structure.terms(*_as(kind, a, b), low=low, high=high)
    tolerance = KINDS[kind][1]
    expected = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    np.testing.assert_allclose(luminance, expected, atol=tolerance)
    np.testing.assert_allclose(contrast, (2 * covariance + c2) / (variances + c2), atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_flat_images_differ_in_luminance_alone_as_worked_by_hand(kind):
    grey, white = np.zeros((11, 11, 1)), np.ones((11, 11, 1))
    luminance, contrast = structure.terms(*_as(kind, grey, white), low=-1.0, high=1.0)
    # Counted from black they are 1 and 2, and c1 is .02^2.
    np.testing.assert_allclose(luminance, [[[(2 * 1 * 2 + 4e-4) / (1 + 4 + 4e-4)]]], rtol=1e-6)
    np.testing.assert_allclose(contrast, [[[1.0]]], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_images_have_terms_of_exactly_one_and_negatives_negative_ones(kind):
    (a,) = _as(kind, _pair(3, 24, 22, 3)[0])
    for term in (
        *structure.terms(a, a, low=-1, high=1),
        *structure.scale_terms(a, a, low=-1, high=1),
    ):
        assert (np.asarray(term) == 1).all()
    _, contrast = structure.terms(a, -a, low=-1, high=1)
    assert -1 <= contrast.min() and contrast.max() < 0


def test_quotients_have_no_pole_where_rounding_makes_variances_negative():
    level = np.linspace(300, 1e4, 40, dtype=np.float32)[:, None, None, None]  # c2 is .0036
    a = level + np.zeros((40, 12, 12, 1), np.float32)
    b = a + np.random.default_rng(0).normal(0, 1e-2, a.shape).astype(np.float32)
    for pair in ((a, b), (b, a), (jnp.asarray(a), jnp.asarray(b))):
        for term in structure.terms(*pair, low=-1.0, high=1.0):
            assert (np.isfinite(term) & (term <= 1)).all()


def test_scales_end_where_the_window_does_not_fit_and_their_powers_add_up():
    for side, count in ((1, 1), (11, 1), (21, 1), (22, 2), (44, 3), (88, 4), (175, 4), (176, 5)):
        weights = structure.scale_weights(side)
        assert len(weights) == count and sum(weights) == pytest.approx(1)
    np.testing.assert_allclose(weights, [0.0448, 0.2856, 0.3001, 0.2363, 0.1333], rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_terms_are_contrasts_and_at_last_all_of_the_similarity_of_halved_images(kind):
    a, b = _as(kind, *_pair(2, 25, 23, 2))
    first, second = structure.scale_terms(a, b, low=-1.0, high=1.0)
    _, contrast = structure.terms(a, b, low=-1.0, high=1.0)
    np.testing.assert_allclose(first, contrast.mean((1, 2, 3)), rtol=1e-6)
    luminance, contrast = structure.terms(*map(structure.halved, (a, b)), low=-1.0, high=1.0)
    np.testing.assert_allclose(second, (luminance * contrast).mean((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_halving_takes_means_of_four_and_leaves_odd_ends_out(kind):
    (x,) = _as(kind, np.arange(15.0).reshape(3, 5, 1))
    np.testing.assert_allclose(structure.halved(x), [[[3.0], [5.0]]])  # of 0 1 5 6 and 2 3 7 8


def test_filtering_weighs_neighbours_along_one_axis():
    x = np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]])
    window = np.array([10.0, 1.0])
    np.testing.assert_array_equal(structure.filtered(x, window, axis=-1), [[12, 24], [1, 10]])
    np.testing.assert_array_equal(structure.filtered(x, window, axis=0), [[10, 21, 40]])
    found = jax.jit(lambda x: structure.filtered(x, window, axis=1))(x)
    np.testing.assert_array_equal(found, [[12, 24], [1, 10]])
