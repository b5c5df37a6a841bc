"""Penalties: closed forms, an independent reference, second derivatives, zeros, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import penalties
from jaxgan.nets import dcgan

KEY = jax.random.key(0)
W = jnp.array([3.0, -4.0, 12.0])  # of length 13
A = jnp.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]])  # symmetric


def _points(seed, shape=(5, 3)):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def linear(x):
    return x @ W


def quadratic(x):  # its gradient is A x
    return 0.5 * jnp.einsum("bi,ij,bj->b", x, A, x)


def _mlp_params(seed=0):
    random = np.random.default_rng(seed)
    shapes = {"a": (3, 6), "b": (6, 6), "c": (6, 1)}
    return {k: jnp.asarray(random.normal(size=s) / 2, jnp.float32) for k, s in shapes.items()}


def mlp(params, x):
    return (jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"]) @ params["c"])[:, 0]


def _forward_squared_norm(params, x):
    """|grad D|^2 of one example after the other, by forward derivatives."""
    squares = [jnp.square(jax.jacfwd(lambda v: mlp(params, v[None])[0])(v)).sum() for v in x]
    return jnp.stack(squares)


def test_linear_critic_has_penalty_of_its_squared_norm():
    np.testing.assert_allclose(penalties.zero_centered(linear, _points(0)), np.full(5, 169.0))


def test_quadratic_critic_has_the_squared_norm_of_its_matrix_times_x():
    x = _points(1)
    expected = np.square(np.asarray(x) @ np.asarray(A)).sum(1)
    np.testing.assert_allclose(penalties.zero_centered(quadratic, x), expected, rtol=1e-5)


def test_images_are_summed_over_all_their_pixels():
    x = _points(2, (2, 4, 4, 3))
    np.testing.assert_allclose(
        penalties.zero_centered(lambda x: 2.0 * x.sum((1, 2, 3)), x), np.full(2, 4.0 * 48)
    )


def test_patch_logits_are_summed_within_their_example():
    # Patch p of an example is (p + 1) x . W: the gradient of the sum is (1 + 2 + 3 + 4) W.
    def patches(x):
        return (linear(x)[:, None] * jnp.arange(1.0, 5.0)[None]).reshape(-1, 2, 2)

    np.testing.assert_allclose(
        penalties.zero_centered(patches, _points(3)), np.full(5, 100 * 169.0), rtol=1e-6
    )


def test_zero_centered_agrees_with_forward_derivatives_one_example_at_a_time():
    params, x = _mlp_params(), _points(4)
    np.testing.assert_allclose(
        penalties.zero_centered(lambda x: mlp(params, x), x),
        _forward_squared_norm(params, x),
        rtol=1e-5,
    )


def test_zero_centered_agrees_with_finite_differences():
    params, x, h = _mlp_params(), np.asarray(_points(5), np.float64), 1e-2
    steps = h * np.eye(3)
    logits = lambda x: np.float64(mlp(params, jnp.asarray(x, jnp.float32)))  # noqa: E731
    grads = np.stack([(logits(x + d) - logits(x - d)) / (2 * h) for d in steps], axis=1)
    np.testing.assert_allclose(
        penalties.zero_centered(lambda x: mlp(params, x), _points(5)),
        np.square(grads).sum(1),
        rtol=1e-2,
        atol=1e-4,
    )


def test_second_derivative_of_a_linear_critic_is_twice_its_weights():
    grad = jax.grad(lambda w: penalties.zero_centered(lambda x: x @ w, _points(6)).mean())(W)
    np.testing.assert_allclose(grad, 2 * W, rtol=1e-6)


def test_second_derivatives_agree_with_forward_over_forward():
    params, x = _mlp_params(), _points(7)
    ours = jax.grad(lambda p: penalties.zero_centered(lambda x: mlp(p, x), x).sum())(params)
    reference = jax.jacfwd(lambda p: _forward_squared_norm(p, x).sum())(params)
    for name in params:
        np.testing.assert_allclose(ours[name], reference[name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def disc():
    """A convolutional discriminator: its layers bring their own derivative rules."""
    # A slope of 1 takes the kinks away, over which a derivative of a derivative would jump; the
    # layer norm still makes it curved.
    net = dcgan.Discriminator(features=(4, 4), kernel=4, norm="layer", slope=1.0)
    x = _points(8, (2, 8, 8, 1)).clip(-1, 1)
    params = jax.jit(lambda: net.init(jax.random.key(1), x, train=False))()["params"]
    params = jax.tree.map(lambda p: 10.0 * p, params)  # initial weights are tiny

    def value(params, x):
        return penalties.zero_centered(lambda x: net.apply({"params": params}, x, train=True), x)

    return net, params, x, value


def test_penalty_of_a_convolutional_critic_agrees_with_finite_differences(disc):
    net, params, x, value = disc
    logits = jax.jit(lambda x: net.apply({"params": params}, x, train=True).sum())
    direction = jax.jit(jax.grad(logits))(x)
    length = float(jnp.linalg.norm(direction))
    unit, h = direction / length, 1e-2
    slope = (float(logits(x + h * unit)) - float(logits(x - h * unit))) / (2 * h)
    np.testing.assert_allclose(slope, length, rtol=2e-2)
    np.testing.assert_allclose(jax.jit(value)(params, x).sum(), length**2, rtol=1e-4)


def test_second_derivative_of_a_convolutional_critic_agrees_with_finite_differences(disc):
    _, params, x, value = disc
    total = jax.jit(lambda params: value(params, x).sum())
    grads = jax.jit(jax.grad(lambda params: value(params, x).sum()))(params)
    length = float(jnp.sqrt(sum(jnp.square(g).sum() for g in jax.tree.leaves(grads))))
    h = 1e-2
    ahead, behind = (
        jax.tree.map(lambda p, g, s=s: p + s * h / length * g, params, grads) for s in (1, -1)
    )
    slope = (float(total(ahead)) - float(total(behind))) / (2 * h)
    np.testing.assert_allclose(slope, length, rtol=2e-2)


def test_interpolated_linear_critic_is_its_norms_distance_from_the_target():
    real, fake = _points(9), _points(10)
    np.testing.assert_allclose(penalties.interpolated(KEY, linear, real, fake), np.full(5, 144.0))
    np.testing.assert_allclose(
        penalties.interpolated(KEY, linear, real, fake, target=10.0), np.full(5, 9.0), rtol=1e-5
    )


def test_mixture_goes_from_the_real_to_the_fake_end():
    real, fake = _points(11), _points(12)
    for mix, x in ((0.0, real), (1.0, fake), (0.25, 0.75 * real + 0.25 * fake)):
        norm = np.linalg.norm(np.asarray(x) @ np.asarray(A), axis=1)
        np.testing.assert_allclose(
            penalties.at_mixture(quadratic, real, fake, jnp.full(5, mix)),
            np.square(norm - 1),
            rtol=1e-4,
            atol=1e-5,
        )


def test_each_example_has_a_uniform_place_on_its_own_line():
    # D(x) = x^2 / 2 from 0 to 1 has gradient x = mix: with target 0 the penalty is mix^2.
    zeros, ones = jnp.zeros((2000, 1)), jnp.ones((2000, 1))
    critic = lambda x: 0.5 * jnp.square(x[:, 0])  # noqa: E731
    mix = np.sqrt(penalties.interpolated(KEY, critic, zeros, ones, target=0.0))
    assert len(np.unique(mix)) > 1900
    histogram, _ = np.histogram(mix, bins=4, range=(0, 1))
    np.testing.assert_allclose(histogram, 500, atol=90)  # 4.6 standard deviations


def test_interpolated_second_derivatives_agree_with_forward_over_forward():
    params, real, fake = _mlp_params(), _points(13), _points(14)
    mix = jnp.linspace(0.1, 0.9, 5)
    x = real + mix[:, None] * (fake - real)
    ours = jax.grad(lambda p: penalties.at_mixture(lambda x: mlp(p, x), real, fake, mix).sum())(
        params
    )
    reference = jax.jacfwd(lambda p: jnp.square(jnp.sqrt(_forward_squared_norm(p, x)) - 1.0).sum())(
        params
    )
    for name in params:
        np.testing.assert_allclose(ours[name], reference[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(penalties.PENALTIES))
def test_a_critic_without_slope_has_finite_value_and_gradients(name):
    def value(params):  # every weight zero: no gradient anywhere
        critic = lambda x: mlp(params, x)  # noqa: E731
        return penalties.PENALTIES[name](KEY, critic, _points(15), _points(16)).sum()

    params = jax.tree.map(jnp.zeros_like, _mlp_params())
    result, grads = jax.value_and_grad(value)(params)
    np.testing.assert_allclose(result, 5.0 if name in ("wgan_gp", "dragan") else 0.0, atol=1e-4)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_r1_is_half_the_square_at_real_and_r2_at_fake_examples():
    real, fake = _points(17), _points(18)
    at_real = 0.5 * np.square(np.asarray(real) @ np.asarray(A)).sum(1)
    at_fake = 0.5 * np.square(np.asarray(fake) @ np.asarray(A)).sum(1)
    for name, expected in (("r1", at_real), ("r2", at_fake), ("r1_r2", at_real + at_fake)):
        result = penalties.PENALTIES[name](KEY, quadratic, real, fake)
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(penalties.PENALTIES))
def test_table_entries_are_unreduced_float32_and_the_same_under_jit(name):
    penalty, params = penalties.PENALTIES[name], _mlp_params()
    apply = lambda real, fake: penalty(KEY, lambda x: mlp(params, x), real, fake)  # noqa: E731
    real, fake = _points(19), _points(20)
    result = apply(real, fake)
    assert result.shape == (5,) and result.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(apply)(real, fake), result, rtol=1e-5)
    low = apply(real.astype(jnp.bfloat16), fake.astype(jnp.bfloat16))
    assert low.shape == (5,) and low.dtype == jnp.float32
    assert (result >= 0).all()


def test_weight_multiplies():
    x = _points(21)
    plain = penalties.r1(KEY, quadratic, x, x)
    weighted = penalties.weighted(penalties.r1, 2.5)(KEY, quadratic, x, x)
    np.testing.assert_allclose(weighted, 2.5 * plain, rtol=1e-6)


def test_real_and_fake_of_unequal_shape_are_refused():
    with pytest.raises(AssertionError):
        penalties.at_mixture(linear, _points(0), _points(0)[:1], jnp.zeros(5))


def test_one_sided_penalty_is_the_excess_over_the_target_and_nothing_below():
    real, fake = _points(22), _points(23)
    for target, expected in ((1.0, 144.0), (10.0, 9.0), (13.5, 0.0)):
        result = penalties.one_sided(KEY, linear, real, fake, target=target)
        np.testing.assert_allclose(result, np.full(5, expected), rtol=1e-5)
    grad = jax.grad(
        lambda w: penalties.one_sided(KEY, lambda x: x @ w, real, fake, target=20.0).sum()
    )(W)
    np.testing.assert_array_equal(grad, 0)


def test_zero_centred_penalty_between_is_that_of_the_points_that_wgan_gp_draws():
    # D(x) = x^2 / 2 from 0 to 1: the gradient is the place itself.
    zeros, ones = jnp.zeros((50, 1)), jnp.ones((50, 1))
    critic = lambda x: 0.5 * jnp.square(x[:, 0])  # noqa: E731
    ours = penalties.zero_between(KEY, critic, zeros, ones)
    theirs = penalties.interpolated(KEY, critic, zeros, ones, target=0.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert 0 <= ours.min() and ours.max() <= 1 and ours.std() > 0.2


def test_dragan_looks_around_real_examples_as_far_as_their_deviation_says():
    # D(x) = x^2 / 2, target 0: the penalty is (x + d)^2, so its mean is x^2 + var(d).
    real = jnp.where(jnp.arange(20000) % 2 == 0, 1.0, 5.0)[:, None]  # of deviation 2
    critic = lambda x: 0.5 * jnp.square(x[:, 0])  # noqa: E731
    nan = jnp.full_like(real, jnp.nan)  # fakes are not looked at
    result = penalties.dragan(KEY, critic, real, nan, target=0.0, noise=0.25)
    np.testing.assert_allclose(result[::2].mean(), 1 + 0.25, rtol=0.05)
    np.testing.assert_allclose(result[1::2].mean(), 25 + 0.25, rtol=0.05)
    linear_one = penalties.dragan(KEY, linear, _points(24), _points(25))
    np.testing.assert_allclose(linear_one, np.full(5, 144.0), rtol=1e-5)


def test_consistency_is_the_squared_change_of_the_logit():
    # x -> 2 x + 1 changes x . W by x . W + sum(W).
    augment = lambda key, x: 2.0 * x + 1.0  # noqa: E731
    real, fake = _points(26), _points(27)
    at_real, at_fake = (np.square(np.asarray(x) @ W + np.sum(W)) for x in (real, fake))
    ours = penalties.consistency(augment)(KEY, linear, real, fake)
    np.testing.assert_allclose(ours, at_real, rtol=1e-4)
    balanced = penalties.balanced_consistency(augment, real_weight=2.0, fake_weight=3.0)
    np.testing.assert_allclose(
        balanced(KEY, linear, real, fake), 2 * at_real + 3 * at_fake, rtol=1e-4
    )
    same = penalties.balanced_consistency(lambda key, x: x)(KEY, linear, real, fake)
    np.testing.assert_array_equal(same, 0)


def test_consistency_draws_for_real_and_fake_examples_apart():
    noise = lambda key, x: x + jax.random.normal(key, x.shape)  # noqa: E731
    x = _points(28)
    one = penalties.consistency(noise)(KEY, linear, x, x)
    both = penalties.balanced_consistency(noise)(KEY, linear, x, x)
    assert not np.allclose(both, 2 * one, rtol=0.1)


def _jittered(key, x):
    return x + 0.1 * jax.random.normal(key, x.shape)


EVERY_PENALTY = {
    **penalties.PENALTIES,
    "consistency": penalties.consistency(_jittered),
    "balanced_consistency": penalties.balanced_consistency(_jittered),
}


@pytest.mark.parametrize("name", EVERY_PENALTY)
def test_every_penalty_moves_the_critics_weights_and_uses_its_key_once(name):
    real, fake = _points(31), _points(32)

    def value(key, params):
        critic = lambda x: mlp(params, x)  # noqa: E731
        return EVERY_PENALTY[name](key, critic, real, fake).mean()

    params = jax.tree.map(
        lambda p: 2.0 * p, _mlp_params()
    )  # slopes above those that WGAN-LP allows
    with jax.debug_key_reuse(True):
        grads = jax.jit(jax.grad(value, 1))(jax.random.key(9), params)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 1e-5 for g in grads.values())
