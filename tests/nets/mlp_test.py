"""Perceptrons: shapes, ranges, statistics, and what their layers compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import mlp

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(2,), (4, 4, 3)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_generator_makes_examples_of_its_shape(shape, batch_norm):
    gen = mlp.Generator(shape=shape, features=(8, 8), batch_norm=batch_norm)
    made, variables = jax.eval_shape(
        lambda z: gen.init_with_output(KEY, z, train=False), jnp.zeros((5, 3))
    )
    assert made.shape == (5, *shape) and made.dtype == jnp.float32
    assert ("batch_stats" in variables) == batch_norm


@pytest.mark.parametrize("shape", [(2,), (4, 4, 3)])
def test_discriminator_makes_one_logit_an_example(shape):
    disc = mlp.Discriminator(features=(8,))
    logits = jax.eval_shape(
        lambda x: disc.init_with_output(KEY, x, train=True)[0], jnp.zeros((5, *shape))
    )
    assert logits.shape == (5,) and logits.dtype == jnp.float32


def test_squash_keeps_within_minus_1_and_1():
    z = 100.0 * jax.random.normal(KEY, (64, 3))
    gen = lambda squash: mlp.Generator(features=(8,), squash=squash)  # noqa: E731
    variables = gen(True).init(KEY, z, train=False)
    squashed, free = (gen(s).apply(variables, z, train=False) for s in (True, False))
    np.testing.assert_allclose(squashed, np.tanh(free), atol=1e-6)
    assert np.abs(free).max() > 1


def test_discriminator_is_affine_layers_with_leaky_relu_between():
    disc, x = mlp.Discriminator(features=(4,), slope=0.1), jax.random.normal(KEY, (6, 2))
    variables = disc.init(KEY, x, train=True)
    first, last = (variables["params"][f"Dense_{i}"] for i in (0, 1))
    hidden = np.asarray(x) @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    expected = (hidden @ np.asarray(last["kernel"]) + np.asarray(last["bias"]))[:, 0]
    np.testing.assert_allclose(disc.apply(variables, x, train=True), expected, rtol=1e-4, atol=1e-6)


def test_batch_norm_records_in_training_and_uses_its_record_in_testing():
    gen = mlp.Generator(features=(8,), batch_norm=True)
    z = 3.0 + jax.random.normal(KEY, (32, 3))
    variables = gen.init(KEY, z, train=False)
    _, new = gen.apply(variables, z, train=True, mutable=["batch_stats"])
    assert np.abs(new["batch_stats"]["BatchNorm_0"]["mean"]).max() > 0
    test = lambda z: gen.apply(variables, z, train=False)  # noqa: E731
    np.testing.assert_allclose(test(z)[:4], test(z[:4]), rtol=1e-4, atol=1e-5)
