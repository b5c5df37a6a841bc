"""Norms of weights and features: against NumPy, and through the steps of training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import penalties, steps, types
from jaxgan.nets import dcgan, layers, normalization
from jaxgan.steps import packing
from tests.helpers import tiny

KEY = jax.random.key(2)
IMAGES = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
LAYERS = {
    "conv": (layers.Conv(16, 3, strides=2), IMAGES),
    "transposed": (layers.ConvTranspose(8, 4, strides=2), IMAGES),
    "dense": (nn.Dense(12), IMAGES.reshape(4, -1)),
    "embedding": (nn.Embed(7, 5), np.array([0, 3, 6, 3])),
}


def _kernel(params):
    (kernel,) = (w for w in jax.tree.leaves(params) if w.ndim > 1)
    return np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])


@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm_divides_by_numpys_largest_singular_value(name):
    layer, x = LAYERS[name]
    module = normalization.SpectralNorm(layer)
    variables = jax.jit(lambda: module.init(KEY, x, train=True))()
    assert set(variables) == {"params", "spectral"}
    sigma = np.linalg.norm(_kernel(variables["params"]), 2)
    # Warmed up: already the first call is near, and iterations bring it there.
    first, stats = module.apply(variables, x, train=True, mutable=["spectral"])
    weights = variables["params"]["layer"]
    scaled = jax.tree.map(lambda w: w / sigma if w.ndim > 1 else w, weights)
    expected = np.asarray(layer.apply({"params": scaled}, x))
    np.testing.assert_allclose(first, expected, atol=0.03 * np.abs(expected).max())
    many = normalization.SpectralNorm(layer, num_steps=500)
    later, _ = many.apply({**variables, **stats}, x, train=True, mutable=["spectral"])
    np.testing.assert_allclose(later, expected, atol=1e-4 * np.abs(expected).max())


def test_parameters_are_as_the_layer_made_them_and_stay_in_its_place():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = normalization.SpectralNorm(layers.Conv(4, 3))(x, train=True)
            return normalization.WeightNorm(layers.Conv(4, 3))(x)

    variables = Net().init(KEY, IMAGES)
    assert set(variables["params"]) == {"Conv_0", "Conv_1", "WeightNorm_0"}
    std = _kernel(variables["params"]["Conv_0"]).std()
    np.testing.assert_allclose(std, 1 / np.sqrt(27), rtol=0.2)  # LeCun's, not divided by sigma
    _, stats = Net().apply(variables, IMAGES, mutable=["spectral"])
    assert set(stats) == {"spectral"}


def test_more_iterations_come_nearer():
    kernel = np.random.default_rng(1).normal(size=(20, 20)).astype(np.float32)
    start = np.ones(20, np.float32) / np.sqrt(20)
    variables = {"params": {"layer": {"kernel": kernel}}, "spectral": {"kernel": start}}
    sigma, gaps = np.linalg.norm(kernel, 2), []
    for num in (1, 5, 200):
        module = normalization.SpectralNorm(nn.Dense(20, use_bias=False), num_steps=num)
        y, _ = module.apply(variables, np.eye(20), train=True, mutable=["spectral"])
        gaps.append(abs(np.linalg.norm(y, 2) - 1))
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-4
    assert sigma > 1


def test_gradient_goes_through_the_singular_value():
    kernel = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    start = {"kernel": np.ones(3, np.float32)}
    module = normalization.SpectralNorm(nn.Dense(3, use_bias=False), num_steps=300)
    y = np.random.default_rng(3).normal(size=(4, 3))

    def loss(w):
        variables = {"params": {"layer": {"kernel": w}}, "spectral": start}
        return (module.apply(variables, np.eye(4), train=True, mutable=["spectral"])[0] * y).sum()

    ours, numeric = jax.jit(jax.grad(loss))(kernel), np.zeros((4, 3))
    for place in np.ndindex(4, 3):  # by NumPy, in float64
        step = np.zeros((4, 3))
        step[place] = 1e-5
        ahead, behind = (kernel + sign * step for sign in (1.0, -1.0))
        values = [(w / np.linalg.norm(w, 2) * y).sum() for w in (ahead, behind)]
        numeric[place] = (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(ours, numeric, atol=2e-4)


def test_a_kernel_of_zeros_is_left_and_found_again():
    module = normalization.SpectralNorm(nn.Dense(3, use_bias=False), num_steps=20)
    variables = module.init(KEY, np.eye(3), train=True)
    zeros = jax.tree.map(jnp.zeros_like, variables["params"])

    def loss(params):
        y, stats = module.apply(
            {**variables, "params": params}, np.eye(3), train=True, mutable=["spectral"]
        )
        return y.sum(), stats

    grads, stats = jax.grad(loss, has_aux=True)(zeros)
    np.testing.assert_array_equal(grads["layer"]["kernel"], np.ones((3, 3)))
    y, _ = module.apply({**variables, **stats}, np.eye(3), train=True, mutable=["spectral"])
    np.testing.assert_allclose(np.linalg.norm(y, 2), 1, rtol=1e-3)


class Disc(nn.Module):
    @nn.compact
    def __call__(self, x, label=None, *, train):
        x = normalization.SpectralNorm(layers.Conv(4, 3, strides=2))(x, train=train)
        x = nn.tanh(x).reshape(x.shape[0], -1)
        return normalization.SpectralNorm(nn.Dense(1))(x, train=train)[:, 0]


GEN, DISC, BATCH = tiny.DenseGen(), Disc(), tiny.batch(side=4)


def _started(rate):
    tx = optax.sgd(rate)
    start = tiny.dense_state(GEN, DISC, tx, tx)
    game = tiny.make_game(GEN, DISC, "hinge", penalty=penalties.r1_r2)
    return start, jax.jit(steps.disc_step(game, tx)), jax.jit(steps.gen_step(game, tx))


def test_training_moves_u_but_never_writes_normalised_weights_into_parameters():
    start, disc_step, gen_step = _started(0.0)
    after, _ = disc_step(KEY, start, BATCH)
    assert tiny.equal(after.disc.params, start.disc.params)
    assert not tiny.equal(after.disc.stats, start.disc.stats)
    # Two passes, of real and of fake images, are two iterations, whatever the penalty did between.
    kernel = start.disc.params["Conv_0"]["kernel"].reshape(-1, 4)
    u = np.asarray(start.disc.stats["spectral"]["SpectralNorm_0"]["kernel"])
    for _ in range(2):
        u = kernel.T @ (kernel @ u)
        u = u / np.linalg.norm(u)
    np.testing.assert_allclose(
        after.disc.stats["spectral"]["SpectralNorm_0"]["kernel"], u, atol=1e-5
    )
    generated, _ = gen_step(KEY, after, BATCH)
    assert tiny.equal(generated.disc, after.disc)


def test_u_follows_weights_in_training_and_evaluation_leaves_it():
    state, disc_step, _ = _started(0.1)
    for _ in range(20):
        state, _ = disc_step(KEY, state, BATCH)
    kernel = _kernel({"kernel": state.disc.params["Conv_0"]["kernel"]})
    u = np.asarray(state.disc.stats["spectral"]["SpectralNorm_0"]["kernel"])
    np.testing.assert_allclose(np.linalg.norm(kernel @ u), np.linalg.norm(kernel, 2), rtol=0.01)
    variables = state.disc.variables
    once, stats = DISC.apply(variables, BATCH["image"], train=False, mutable=["spectral"])
    assert tiny.equal(stats["spectral"], state.disc.stats["spectral"])
    np.testing.assert_array_equal(DISC.apply(variables, BATCH["image"], train=False), once)
    longer = jax.tree.map(lambda u: 0.7 * u, state.disc.stats)  # as a moving average may be
    shrunk = DISC.apply({"params": state.disc.params, **longer}, BATCH["image"], train=False)
    np.testing.assert_allclose(shrunk, once, rtol=1e-4, atol=1e-6)


def test_u_is_the_same_on_all_devices_whatever_they_see():
    start, _, _ = _started(0.1)
    images = jnp.stack([BATCH["image"] * (n + 1) for n in range(8)])
    _, stats = jax.pmap(
        lambda x: DISC.apply(start.disc.variables, x, train=True, mutable=["spectral"])
    )(images)
    for u in jax.tree.leaves(stats):
        np.testing.assert_array_equal(u, np.broadcast_to(u[:1], u.shape))


@pytest.mark.parametrize("name", LAYERS)
def test_weight_norm_starts_as_its_layer_and_ignores_the_length_of_its_kernel(name):
    layer, x = LAYERS[name]
    module = normalization.WeightNorm(layer)
    variables = module.init(KEY, x)
    y = module.apply(variables, x)
    np.testing.assert_allclose(
        y, layer.apply({"params": variables["params"]["layer"]}, x), rtol=1e-4, atol=1e-5
    )
    longer = jax.tree.map(lambda w: 3 * w if w.ndim > 1 else w, variables)
    np.testing.assert_allclose(module.apply(longer, x), y, rtol=1e-4, atol=1e-5)
    twice = jax.tree_util.tree_map_with_path(
        lambda path, w: 2 * w if "scale" in str(path) else w, variables
    )
    np.testing.assert_allclose(module.apply(twice, x), 2 * y, rtol=1e-4, atol=1e-5)  # bias is 0


def test_weight_norms_gradient_is_the_papers():
    # Equation 3: dL/dg = dL/dw . v/|v|;  dL/dv = g/|v| dL/dw - g dL/dg v/|v|^2.
    random = np.random.default_rng(4)
    v, g, slope = random.normal(size=(5, 3)), random.uniform(1, 2, 3), random.normal(size=(5, 3))
    module = normalization.WeightNorm(nn.Dense(3, use_bias=False))
    params = {"layer": {"kernel": jnp.float32(v)}, "kernel_scale": jnp.float32(g)}
    grads = jax.grad(lambda p: (module.apply({"params": p}, np.eye(5)) * slope).sum())(params)
    norm = np.linalg.norm(v, axis=0)
    g_grad = (slope * v).sum(0) / norm
    np.testing.assert_allclose(grads["kernel_scale"], g_grad, rtol=1e-4)
    v_grad = g / norm * slope - g * g_grad * v / norm**2
    np.testing.assert_allclose(grads["layer"]["kernel"], v_grad, rtol=1e-3, atol=1e-5)


def test_pixel_norm_gives_a_root_mean_square_of_1():
    np.testing.assert_allclose(
        normalization.pixel_norm(jnp.array([[3.0, 4.0]])), [[3 / 12.5**0.5, 4 / 12.5**0.5]]
    )
    y = np.asarray(normalization.pixel_norm(IMAGES))
    np.testing.assert_allclose(np.square(y).mean(-1), 1, rtol=1e-5)
    low = normalization.pixel_norm(jnp.asarray(IMAGES, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    grad = jax.grad(lambda x: normalization.pixel_norm(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(grad).all()


def test_minibatch_std_is_numpys_of_each_group_and_feature():
    x = np.random.default_rng(5).normal(size=(6, 4, 2, 8)).astype(np.float32)
    result = jax.jit(lambda x: normalization.minibatch_std(x, group_size=3, num_features=2))(x)
    assert result.shape == (6, 4, 2, 10)
    np.testing.assert_array_equal(result[..., :8], x)
    for n in range(6):
        group = x[3 * (n // 3) :][:3]
        for feature in range(2):
            expected = group[..., 4 * feature : 4 * feature + 4].std(0).mean()
            np.testing.assert_allclose(result[n, ..., 8 + feature], expected, rtol=1e-4)


def test_minibatch_std_of_one_or_of_equal_examples_is_small_with_finite_gradients():
    for x in (jnp.ones((1, 5)), jnp.ones((4, 5))):
        total = lambda x: normalization.minibatch_std(x).sum()  # noqa: E731
        np.testing.assert_allclose(normalization.minibatch_std(x)[:, 5], 1e-4, rtol=1e-3)
        assert np.isfinite(jax.grad(total)(x)).all()


def test_a_batch_that_does_not_fall_into_groups_is_refused():
    with pytest.raises(types.UserError, match="batch of 10 does not fall into groups of 4; use 2"):
        normalization.minibatch_std(jnp.ones((10, 3)))
    with pytest.raises(types.UserError, match="num_features 2 does not divide 3 channels"):
        normalization.minibatch_std(jnp.ones((4, 3)), num_features=2)


@pytest.mark.parametrize("wrap", ["spectral", "weight", "packed"])
def test_wrapped_layers_have_equal_derivatives_forward_and_in_reverse(wrap):
    layer = layers.Conv(4, 3, strides=2)
    module, kwargs = {
        "spectral": (normalization.SpectralNorm(layer), {"train": False}),
        "weight": (normalization.WeightNorm(layer), {}),
        "packed": (packing.Packed(dcgan.Discriminator(width=2, norm="layer"), 2), {"train": False}),
    }[wrap]
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = jax.jit(lambda: module.init(KEY, x, **kwargs))()
    rest = {name: value for name, value in variables.items() if name != "params"}
    v = jax.tree.map(jnp.cos, variables["params"])

    @jax.jit
    def slopes(params):
        def value(params):
            return jnp.sin(module.apply({"params": params, **rest}, x, **kwargs)).sum()

        products = jax.tree.map(jnp.vdot, jax.grad(value)(params), v)
        return jax.jvp(value, (params,), (v,))[1], sum(jax.tree.leaves(products))

    forward, reverse = slopes(variables["params"])
    np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-5)
