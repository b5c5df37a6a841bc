"""Adversarial losses: hand numbers, extremes, signs; every test is driven by the table."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import log

from jaxgan import losses
from jaxgan.losses import ADVERSARIAL

NAMES = sorted(ADVERSARIAL)
PLAYERS = [(name, player) for name in NAMES for player in ("disc", "gen")]

# name: real logits, fake logits, discriminator's loss, generator's loss, worked by hand. Logits are
# logarithms where the loss has a softplus, so that softplus(log(a / b)) = log((a + b) / b); the
# formulas are those of the papers that the docstrings cite.
HAND = {
    # softplus(-log 3) + softplus(-log 2) = log(4/3) + log(3/2); -softplus(-log 2)
    "minimax": ([log(3)], [-log(2)], [log(2)], [-log(3 / 2)]),
    # the same; softplus(log 2)
    "nonsaturating": ([log(3)], [-log(2)], [log(2)], [log(3)]),
    # ((3 - 1)^2 + (-1)^2) / 2; (-1 - 1)^2 / 2
    "least_squares": ([3.0], [-1.0], [2.5], [2.0]),
    # inside both margins 0.75 + 0.5, outside both 0
    "hinge": ([0.25, 3.0], [-0.5, -1.5], [1.25, 0.0], [0.5, 1.5]),
    "wasserstein": ([3.0], [-1.0], [-4.0], [1.0]),
    # real - fake = log 6: softplus(-log 6) = log(7/6), softplus(log 6) = log 7
    "relativistic": ([log(3)], [-log(2)], [log(7 / 6)], [log(7)]),
    # means log 4 and log 2; disc: log(1 + 1) + log(1 + 1/4), gen: log(1 + 4) + log(1 + 1)
    "relativistic_average": (
        [log(2), log(8)],
        [0.0, log(4)],
        [log(2.5), log(2.5)],
        [log(10), log(10)],
    ),
}


def _logits(seed, shape=(6,)):
    real, fake = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32) * 3
    return jnp.asarray(real), jnp.asarray(fake)


def _loss(name, player):
    return getattr(ADVERSARIAL[name], player)


def test_every_loss_has_hand_numbers():
    assert set(HAND) == set(ADVERSARIAL)


@pytest.mark.parametrize("name", NAMES)
def test_hand_numbers(name):
    real, fake, disc, gen = (jnp.asarray(x, jnp.float32) for x in HAND[name])
    np.testing.assert_allclose(ADVERSARIAL[name].disc(real, fake), disc, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(ADVERSARIAL[name].gen(real, fake), gen, rtol=2e-6, atol=1e-6)


def _softplus(x):
    return np.logaddexp(0, x)


# The formulas once more, in float64 NumPy: (disc, gen) of (real, fake).
REFERENCE = {
    "minimax": (lambda r, f: _softplus(-r) + _softplus(f), lambda r, f: -_softplus(f)),
    "nonsaturating": (lambda r, f: _softplus(-r) + _softplus(f), lambda r, f: _softplus(-f)),
    "least_squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "hinge": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda r, f: -f),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: _softplus(f - r), lambda r, f: _softplus(r - f)),
    "relativistic_average": (
        lambda r, f: _softplus(f.mean() - r) + _softplus(f - r.mean()),
        lambda r, f: _softplus(r.mean() - f) + _softplus(r - f.mean()),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_random_logits_agree_with_numpy_in_float64(name):
    real, fake = _logits(1, (64,))
    for player, reference in zip(ADVERSARIAL[name], REFERENCE[name], strict=True):
        expected = reference(np.float64(real), np.float64(fake))
        np.testing.assert_allclose(player(real, fake), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_values_and_gradients_are_finite_at_extremes(name, player):
    loss = _loss(name, player)

    @jax.jit
    def value_and_grads(*logits):
        return loss(*logits), jax.grad(lambda r, f: loss(r, f).sum(), argnums=(0, 1))(*logits)

    for real, fake in itertools.product([-1e4, 0.0, 1e4], repeat=2):
        value, grads = value_and_grads(np.full(3, real), np.full(3, fake))
        assert np.isfinite(value).all(), (real, fake)
        assert np.isfinite(grads).all(), (real, fake)


def test_a_confident_wrong_discriminator_keeps_its_full_gradient():
    # sigmoid(1e4) is 1 in float32: a loss of probabilities would have gradient 0 or NaN here.
    real, fake = jnp.full(1, -1e4), jnp.full(1, 1e4)
    grads = jax.grad(lambda r, f: losses.minimax_disc(r, f).sum(), argnums=(0, 1))(real, fake)
    np.testing.assert_allclose(jnp.stack(grads)[:, 0], [-1.0, 1.0])


@pytest.mark.parametrize("name", NAMES)
def test_discriminator_raises_real_and_lowers_fake_logits(name):
    real, fake = jnp.array([0.1, -0.3]), jnp.array([0.2, 0.4])
    grads = jax.grad(lambda r, f: ADVERSARIAL[name].disc(r, f).sum(), argnums=(0, 1))(real, fake)
    assert (grads[0] < 0).all() and (grads[1] > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_generator_raises_fake_logits(name):
    real, fake = jnp.array([0.1, -0.3]), jnp.array([0.2, -0.4])
    grads = jax.grad(lambda r, f: ADVERSARIAL[name].gen(r, f).sum(), argnums=(0, 1))(real, fake)
    assert (grads[1] < 0).all()
    if name.startswith("relativistic"):  # and lowers what it is compared with
        assert (grads[0] > 0).all()
    else:
        assert (grads[0] == 0).all()


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_jit_equals_no_jit(name, player):
    loss, logits = _loss(name, player), _logits(2)
    np.testing.assert_allclose(jax.jit(loss)(*logits), loss(*logits), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_result_is_unreduced_and_keeps_the_dtype(name, player):
    for shape in ((1,), (6,), (2, 3, 4)):
        for dtype in (jnp.float32, jnp.bfloat16):
            logits = jax.ShapeDtypeStruct(shape, dtype)
            result = jax.eval_shape(_loss(name, player), logits, logits)
            assert (result.shape, result.dtype) == (shape, dtype)


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_patch_logits_count_like_examples(name, player):
    real, fake = _logits(4, (2, 3, 3))
    loss = _loss(name, player)
    flat = loss(real.reshape(-1), fake.reshape(-1))
    np.testing.assert_allclose(loss(real, fake).reshape(-1), flat, rtol=1e-6)


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_logits_of_unequal_shape_are_refused(name, player):
    with pytest.raises(AssertionError):
        _loss(name, player)(jnp.zeros(4), jnp.zeros((4, 1)))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "relativistic_average"])
def test_examples_do_not_see_each_other(name):
    real, fake = _logits(5)
    for loss in ADVERSARIAL[name]:
        np.testing.assert_allclose(loss(real, fake)[:2], loss(real[:2], fake[:2]), rtol=1e-6)


@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_table_holds_the_functions_of_that_name(name, player):
    function = _loss(name, player)
    assert function is getattr(losses, f"{name}_{player}")
    assert list(inspect.signature(function).parameters) == ["real_logits", "fake_logits"]
