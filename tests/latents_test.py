"""Latents: distributions, truncation, and interpolation on lines and great circles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import latents

KEY = jax.random.key(7)
DRAWS = {
    "normal": latents.normal,
    "uniform": latents.uniform,
    "truncated": lambda key, num, dim: latents.truncated(key, num, dim, 0.7),
}


@pytest.mark.parametrize("name", DRAWS)
def test_latents_are_float32_rows_and_a_function_of_a_key_used_once(name):
    with jax.debug_key_reuse(True):
        z = jax.jit(DRAWS[name], static_argnums=(1, 2))(jax.random.key(7), 5, 3)
    assert z.shape == (5, 3) and z.dtype == jnp.float32
    np.testing.assert_array_equal(z, DRAWS[name](KEY, 5, 3))
    assert not np.allclose(z, DRAWS[name](jax.random.key(8), 5, 3))
    assert len(np.unique(z)) == 15


def test_every_prior_is_centred_on_zero():
    for prior in (latents.normal, latents.uniform):
        np.testing.assert_allclose(np.mean(prior(KEY, 4000, 10)), 0, atol=0.025)


def test_normal_is_standard():
    z = np.asarray(latents.normal(KEY, 4000, 10))
    np.testing.assert_allclose(z.mean(0), 0, atol=0.08)  # 5 standard errors
    np.testing.assert_allclose(z.var(0), 1, atol=0.12)


def test_uniform_fills_its_range():
    z = np.asarray(latents.uniform(KEY, 4000, 10))
    assert -1 <= z.min() < -0.99 and 0.99 < z.max() < 1
    np.testing.assert_allclose(z.var(0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 2.0])
def test_truncated_stays_within_the_threshold_and_reaches_it(threshold):
    z = np.asarray(latents.truncated(KEY, 2000, 10, threshold))
    assert np.abs(z).max() <= threshold
    assert np.abs(z).max() > 0.95 * threshold


def test_a_large_threshold_truncates_nothing():
    z = np.asarray(latents.truncated(KEY, 4000, 10, 8.0))
    np.testing.assert_allclose(z.var(), 1, atol=0.03)


def test_lerp_is_a_straight_line():
    path = latents.lerp(jnp.array([0.0, 4.0]), jnp.array([2.0, 0.0]), 5)
    expected = [[0, 4], [0.5, 3], [1, 2], [1.5, 1], [2, 0]]
    np.testing.assert_allclose(path, expected, atol=1e-6)


def test_slerp_of_perpendicular_vectors_is_a_quarter_circle():
    path = latents.slerp(jnp.array([2.0, 0.0]), jnp.array([0.0, 2.0]), 4)
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(path, 2 * np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-5)


def test_slerp_keeps_the_length_of_normal_latents():
    start, end = jax.random.normal(KEY, (2, 16, 128))
    on_arc = jnp.linalg.norm(latents.slerp(start, end, 9), axis=-1)
    on_line = jnp.linalg.norm(latents.lerp(start, end, 9), axis=-1)
    assert on_arc.min() > 9.5 > on_line.min()  # sqrt(128) is 11.3


@pytest.mark.parametrize("interpolate", [latents.lerp, latents.slerp])
def test_interpolations_start_and_end_where_told_and_batch(interpolate):
    start, end = jax.random.normal(KEY, (2, 3, 2, 6))
    path = interpolate(start, end, 4)
    assert path.shape == (3, 2, 4, 6)
    np.testing.assert_allclose(path[..., 0, :], start, atol=1e-5)
    np.testing.assert_allclose(path[..., -1, :], end, atol=1e-5)
    np.testing.assert_allclose(path[1, 0], interpolate(start[1, 0], end[1, 0], 4), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0, 1.00001, -1.0, 0.0])
def test_slerp_is_finite_with_its_gradients_where_vectors_are_parallel(factor):
    start = jnp.array([1.0, 2.0, 3.0])
    path = latents.slerp(start, factor * start, 5)
    assert jnp.isfinite(path).all()
    if factor > 0:
        np.testing.assert_allclose(path, latents.lerp(start, factor * start, 5), atol=1e-4)
    grad = jax.grad(lambda z: latents.slerp(z, jnp.array([2.0, 4.0, 6.5]), 5).sum())(start)
    assert jnp.isfinite(grad).all()


def test_circle_passes_its_two_latents_and_comes_back():
    start, side = jax.random.normal(jax.random.key(0), (2, 3, 5))
    walk = latents.circle(start, side, 8)
    assert walk.shape == (3, 8, 5)
    np.testing.assert_allclose(walk[:, 0], start, atol=1e-6)
    np.testing.assert_allclose(walk[:, 2], side, atol=1e-6)
    np.testing.assert_allclose(walk[:, 4], -start, atol=1e-6)


def test_polygon_rests_at_each_corner_and_comes_back():
    corners = jnp.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    walk = latents.polygon(corners, 40)
    assert walk.shape == (1, 40, 2)
    np.testing.assert_allclose(walk[0, ::10], corners[0], atol=1e-6)
    np.testing.assert_allclose(walk[0, 35], [0.0, 0.5], atol=1e-6)
    lengths = jnp.linalg.norm(walk - jnp.roll(walk, 1, axis=1), axis=-1)[0]
    assert lengths[1] < 0.05 and lengths.max() < 0.17
