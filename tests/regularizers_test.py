"""Regularisers of weights and of the generator: closed forms, NumPy, and a lazy step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import regularizers, state, steps, types
from tests.helpers import tiny

KEY = jax.random.key(4)
RANDOM = np.random.default_rng(0)
PARAMS = {
    "conv": {"kernel": RANDOM.normal(size=(2, 2, 3, 4)).astype(np.float32), "bias": np.ones(4)},
    "dense": {"kernel": RANDOM.normal(size=(5, 2)).astype(np.float32)},
}


def test_orthogonal_sums_squared_products_of_different_columns():
    expected = 0.0
    for layer in PARAMS.values():
        w = layer["kernel"].reshape(-1, layer["kernel"].shape[-1])
        products = [(w[:, i] @ w[:, j]) ** 2 for i in range(w.shape[1]) for j in range(i)]
        expected += 2 * sum(products)
    np.testing.assert_allclose(regularizers.orthogonal(PARAMS), expected, rtol=1e-5)


def test_orthogonal_columns_cost_nothing_and_orthonormal_ones_neither():
    q, _ = np.linalg.qr(RANDOM.normal(size=(6, 3)))
    free, unit = {"w": jnp.float32(q * [1, 2, 3])}, {"w": jnp.float32(q)}
    np.testing.assert_allclose(regularizers.orthogonal(free), 0, atol=1e-9)
    np.testing.assert_allclose(regularizers.orthonormal(unit), 0, atol=1e-9)
    # Columns of squared length 1, 4 and 9: 0 + 3^2 + 8^2.
    np.testing.assert_allclose(regularizers.orthonormal(free), 73, rtol=1e-5)
    assert float(regularizers.orthogonal({"bias": jnp.ones(3)})) == 0.0


def test_gradient_norm_is_that_of_a_quadratic_and_so_is_its_gradient():
    a = np.array([[2.0, 1.0], [1.0, 3.0]])
    params = {"x": jnp.array([1.0, -2.0]), "y": jnp.array(3.0)}

    def loss(p):  # its gradient is (a x, 4 y)
        return 0.5 * p["x"] @ a @ p["x"] + 2 * jnp.square(p["y"])

    np.testing.assert_allclose(regularizers.gradient_norm(loss, params), 0 + 25 + 144)
    grads = jax.grad(lambda p: regularizers.gradient_norm(loss, p))(params)
    np.testing.assert_allclose(grads["x"], 2 * a @ a @ [1.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(grads["y"], 2 * 16 * 3.0)


def test_path_lengths_of_a_linear_generator_are_those_of_its_transpose():
    w = RANDOM.normal(size=(3, 4 * 5 * 2)).astype(np.float32)
    generate = lambda z: (z @ w).reshape(-1, 4, 5, 2)  # noqa: E731
    y = RANDOM.normal(size=(6, 4, 5, 2)).astype(np.float32)
    z = jnp.ones((6, 3))
    expected = np.linalg.norm(y.reshape(6, -1) @ w.T, axis=1)
    np.testing.assert_allclose(regularizers.lengths_along(generate, z, y), expected, rtol=1e-5)
    # Random directions: E|J^T y|^2 = |w|^2 / number of pixels.
    lengths = regularizers.path_lengths(KEY, generate, jnp.ones((4000, 3)))
    np.testing.assert_allclose(np.square(lengths).mean(), np.square(w).sum() / 20, rtol=0.08)


def test_a_latent_for_each_layer_has_the_root_mean_square_of_their_lengths():
    generate = lambda z: z.sum((1, 2)).reshape(-1, 1, 1, 1)  # noqa: E731
    z, y = jnp.ones((2, 3, 4)), jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(regularizers.lengths_along(generate, z, y), [2, 6], rtol=1e-6)


def test_path_length_is_the_squared_distance_from_a_mean_that_has_no_gradient():
    lengths = jnp.array([1.0, 3.0])
    np.testing.assert_allclose(regularizers.path_length(lengths, jnp.float32(2.5)), [2.25, 0.25])
    mean = regularizers.update_path_mean(jnp.float32(1.0), lengths, decay=0.9)
    np.testing.assert_allclose(mean, 0.9 + 0.1 * 2)
    grad = jax.grad(lambda x: regularizers.update_path_mean(jnp.float32(1.0), x))(lengths)
    np.testing.assert_array_equal(grad, 0)


class Gen(nn.Module):
    @nn.compact
    def __call__(self, z, label=None, *, train):
        return nn.Dense(16)(nn.tanh(nn.Dense(8)(z))).reshape(-1, 4, 4, 1)


def test_a_lazy_step_keeps_its_mean_in_the_state_and_evens_lengths_out():
    gen, disc, tx = Gen(), tiny.DenseDisc(), optax.adam(0.01)
    z = jax.random.normal(KEY, (64, tiny.LATENT_DIM))

    def path_step(key, now, batch):
        def loss_fn(params):
            generate = lambda z: gen.apply({"params": params}, z, train=True)  # noqa: E731
            lengths = regularizers.path_lengths(KEY, generate, z)
            mean = regularizers.update_path_mean(now.extra["path"], lengths, decay=0.9)
            value = regularizers.path_length(lengths, mean).mean()
            return value, (now.gen.stats, {"gen/path": mean, "gen/spread": lengths.var()})

        player, metrics = state.update(now.gen, tx, loss_fn)
        extra = {**now.extra, "path": metrics["gen/path"]}
        return now.replace(gen=player, extra=extra), metrics

    step = jax.jit(steps.train_step(steps.every(2, path_step)))
    now = tiny.dense_state(gen, disc, tx, tx, path=jnp.zeros(()))
    means, spreads = [], []
    for _ in range(80):
        now, metrics = step(KEY, now, {})
        means.append(float(now.extra["path"]))
        spreads.append(float(metrics["gen/spread"]))
    assert means[0] == means[1] != means[2]
    assert np.isnan(spreads[1::2]).all()
    assert spreads[-2] < 0.5 * spreads[0]


def test_added_to_an_optimiser_a_regulariser_acts_by_its_gradient():
    params = jax.tree.map(jnp.asarray, PARAMS)
    tx = optax.chain(regularizers.add(regularizers.orthogonal, 0.3), optax.sgd(0.1))
    grads = jax.tree.map(lambda p: 0.5 * p, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    w = PARAMS["dense"]["kernel"]
    # d |W^T W o (1 - I)|^2 / dW = 4 W (W^T W o (1 - I)).
    expected = -0.1 * (0.5 * w + 0.3 * 4 * w @ (w.T @ w * (1 - np.eye(2))))
    np.testing.assert_allclose(updates["dense"]["kernel"], expected, rtol=1e-4)
    np.testing.assert_allclose(updates["conv"]["bias"], -0.05 * np.ones(4), rtol=1e-6)


def test_clipped_weights_stay_within_the_limit_and_others_move_freely():
    params, grads = {"w": jnp.array([0.5, -0.9, 0.0])}, {"w": jnp.array([-1.0, 3.0, 0.2])}
    tx = optax.chain(optax.sgd(1.0), regularizers.clip_weights(1.0))
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["w"], [1.0, -1.0, -0.2], rtol=1e-6)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(types.UserError, match="weights cannot be clipped at .*use a limit above 0"):
        regularizers.clip_weights(limit)
