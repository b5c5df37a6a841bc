"""Tokens drawn by one number each, against the cumulative distribution."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import categorical


def test_tokens_come_as_often_as_they_are_likely():
    logits = jnp.array([[-np.inf, 0.0, 1.0, 2.0, -50.0]])
    uniforms = (jnp.arange(1000) + 0.5) / 1000
    token, log_prob = categorical.draw(uniforms, jnp.tile(logits, (1000, 1)))
    share = np.bincount(token, minlength=5) / 1000
    np.testing.assert_allclose(share, jax.nn.softmax(logits)[0], atol=1.5e-3)
    np.testing.assert_allclose(log_prob, jax.nn.log_softmax(logits)[0][token], rtol=1e-5)


def test_draws_from_many_tokens_follow_the_cumulative_distribution():
    logits = 3.0 * np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32)
    logits[0, 100:250] = -np.inf  # whole blocks of nothing
    uniforms = np.linspace(0.0, 1.0, 400, endpoint=False, dtype=np.float32)
    token, _ = categorical.draw(jnp.asarray(uniforms), jnp.tile(logits, (400, 1)))
    p = np.exp(logits[0].astype(np.float64))
    sums = np.cumsum(p) / p.sum()
    lower = np.concatenate([[0.0], sums])[token]
    assert np.all(lower <= uniforms + 1e-5) and np.all(uniforms <= sums[token] + 1e-5)
    assert np.all(np.isfinite(logits[0, token]))


def test_the_largest_and_smallest_numbers_draw_what_has_mass():
    logits = jnp.where(jnp.arange(300) == 77, 0.0, -jnp.inf)[None].repeat(3, 0)
    token, log_prob = categorical.draw(jnp.array([0.0, 0.5, 1.0 - 2**-24]), logits)
    np.testing.assert_array_equal(token, 77)
    np.testing.assert_allclose(log_prob, 0.0, atol=1e-6)


def test_sharpened_logits_keep_the_largest():
    logits = jnp.array([[1.0, 3.0, 2.0, -1.0]])
    np.testing.assert_array_equal(categorical.sharpened(logits, 1.0), logits)
    p = jax.nn.softmax(categorical.sharpened(logits, 0.5))
    np.testing.assert_allclose(p, jax.nn.softmax(2.0 * logits), rtol=1e-6)
    np.testing.assert_array_equal(
        jax.nn.softmax(categorical.sharpened(logits, jnp.float32(0.0))), [[0.0, 1.0, 0.0, 0.0]]
    )
    kept = categorical.sharpened(logits, 1.0, top_k=2)
    np.testing.assert_array_equal(kept, [[-np.inf, 3.0, 2.0, -np.inf]])
    np.testing.assert_allclose(
        categorical.log_prob(kept, jnp.array([2])), -np.log(1 + np.e), rtol=1e-6
    )
