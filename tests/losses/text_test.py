"""Losses of sentences: numbers worked by hand, exact enumeration, schedules."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import losses

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
TEXT = RANDOM.integers(0, 5, (3, 4)).astype(np.int32)
LENGTH = np.array([4, 2, 1], np.int32)


def test_token_cross_entropy_is_that_of_each_token_and_zero_of_padding():
    got = losses.token_cross_entropy(LOGITS, TEXT, LENGTH)
    want = optax.softmax_cross_entropy_with_integer_labels(LOGITS, TEXT)
    want = np.where(np.arange(4) < LENGTH[:, None], want, 0.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(
        losses.sentence_cross_entropy(LOGITS, TEXT, LENGTH), want.sum(1), rtol=1e-5
    )


def test_token_cross_entropy_pulls_towards_the_token_of_places_that_count():
    grads = jax.grad(lambda x: losses.token_cross_entropy(x, TEXT, LENGTH).sum())(LOGITS)
    want = jax.nn.softmax(LOGITS) - jax.nn.one_hot(TEXT, 5)
    want = np.where((np.arange(4) < LENGTH[:, None])[..., None], want, 0.0)
    np.testing.assert_allclose(grads, want, atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_token_cross_entropy_is_finite_at_large_logits(scale):
    value, grads = jax.value_and_grad(lambda x: losses.token_cross_entropy(x, TEXT, LENGTH).sum())(
        jnp.asarray(scale * LOGITS)
    )
    assert np.isfinite(value) and np.all(np.isfinite(grads))


@pytest.mark.parametrize("name", losses.ADVANTAGES)
def test_reinforce_has_the_gradient_of_the_expected_reward(name):
    """Every pair of sentences of two tokens out of three, weighed by its probability."""
    theta = jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.float32)  # after the start, 0, 1, 2
    texts = jnp.array(list(itertools.product(range(3), repeat=2)))
    reward = jnp.asarray(RANDOM.uniform(0.5, 2.0, 9), jnp.float32)

    def log_probs(theta, text):
        rows = jnp.stack([jnp.broadcast_to(theta[0], (len(text), 3)), theta[1:][text[:, 0]]], 1)
        return losses.token_log_probs(rows, text)

    def expected(theta):
        return (jnp.exp(log_probs(theta, texts).sum(1)) * reward).sum()

    def surrogate(theta, first, second):
        pair = jnp.array([first, second])
        rewards = jnp.broadcast_to(reward[pair][:, None], (2, 2))
        weights = losses.ADVANTAGES[name](rewards, jnp.ones((2, 2)))
        return losses.reinforce(log_probs(theta, texts[pair]), weights).mean()

    first, second = np.divmod(np.arange(81), 9)
    grads = jax.vmap(jax.grad(surrogate), (None, 0, 0))(theta, first, second)
    chance = jnp.exp(log_probs(theta, texts).sum(1))
    found = -jnp.einsum("p,pij->ij", chance[first] * chance[second], grads)
    want = jax.grad(expected)(theta)
    if name == "normalized":  # biased: a ratio of two draws; uphill all the same
        assert (found * want).sum() > 0.5 * jnp.linalg.norm(found) * jnp.linalg.norm(want)
    else:
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_reinforce_has_no_gradient_in_rewards():
    grads = jax.grad(lambda r: losses.reinforce(jnp.ones((2, 3)), r).sum())(jnp.ones((2, 3)))
    assert np.all(grads == 0)


def test_leaving_one_out_compares_with_the_others_that_have_the_token():
    rewards = np.array([[1.0, 2.0], [3.0, 5.0], [8.0, 100.0]])
    mask = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    got = losses.leave_one_out_advantage(rewards, mask)
    np.testing.assert_allclose(got, [[-4.5, -3.0], [-1.5, 3.0], [6.0, 0.0]])


def test_normalized_advantages_are_shares_less_the_mean_share():
    rewards = np.array([[1.0, 2.0], [3.0, 5.0]])
    mask = np.array([[1.0, 1.0], [1.0, 0.0]])
    got = losses.normalized_advantage(rewards, mask)
    np.testing.assert_allclose(got, [[-0.5, 0.0], [0.5, 0.0]])


def test_likelihood_ratio_is_odds_and_finite():
    p = 0.3
    np.testing.assert_allclose(losses.likelihood_ratio(np.log(p / (1 - p))), p / (1 - p), rtol=1e-6)
    assert np.all(np.isfinite(losses.likelihood_ratio(np.array([1e4, -1e4]))))


def test_returns_add_what_comes_later():
    got = losses.returns(jnp.array([[1.0, 2.0, 4.0]]), discount=0.5)
    np.testing.assert_allclose(got, [[3.0, 4.0, 4.0]])


def test_gumbel_softmax_is_largest_at_the_token_drawn_and_sharpens():
    noise = jax.random.gumbel(jax.random.key(0), LOGITS.shape)
    drawn = jnp.argmax(LOGITS + noise, -1)
    for beta, least in ((1.0, 0.2), (1000.0, 0.99)):
        soft = losses.gumbel_softmax(noise, LOGITS, inverse_temperature=beta)
        np.testing.assert_array_equal(jnp.argmax(soft, -1), drawn)
        np.testing.assert_allclose(soft.sum(-1), 1.0, rtol=1e-5)
        assert soft.max(-1).mean() > least


def test_gumbel_noise_draws_from_the_softmax():
    logits = jnp.array([0.0, 1.0, -1.0])
    noise = jax.random.gumbel(jax.random.key(0), (20_000, 3))
    soft = losses.gumbel_softmax(noise, logits[None], inverse_temperature=1.0)
    share = np.bincount(jnp.argmax(soft, -1), minlength=3) / 20_000
    np.testing.assert_allclose(share, jax.nn.softmax(logits), atol=0.015)


def test_straight_through_is_exactly_one_hot_with_the_gradient_of_soft():
    def loss(x, through):
        return (through(jax.nn.softmax(x)) * LOGITS[::-1]).sum()

    hard = losses.straight_through(jax.nn.softmax(LOGITS))
    np.testing.assert_array_equal(hard, jax.nn.one_hot(LOGITS.argmax(-1), 5))
    np.testing.assert_allclose(
        jax.grad(loss)(LOGITS, losses.straight_through),
        jax.grad(loss)(LOGITS, lambda soft: soft),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "middle"), [("constant", 100.0), ("linear", 50.5), ("exponential", 10.0)]
)
def test_schedules_reach_their_end_and_stay(name, middle):
    beta = jax.jit(losses.SCHEDULES[name](100.0, steps=10))
    start = 100.0 if name == "constant" else 1.0
    got = [float(beta(jnp.int32(step))) for step in (0, 5, 10, 11, 1000)]
    np.testing.assert_allclose(got, [start, middle, 100.0, 100.0, 100.0], rtol=1e-5)
