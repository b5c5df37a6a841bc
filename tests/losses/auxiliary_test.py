"""Losses of an auxiliary classifier, against numbers worked by hand and a property of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

LOGITS = jnp.array([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0], [0.5, 0.5, 0.5]])
LABEL = jnp.array([0, 2, 1])


def test_cross_entropy_is_minus_the_log_of_the_labels_share():
    shares = np.exp(np.asarray(LOGITS)) / np.exp(np.asarray(LOGITS)).sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(3), np.asarray(LABEL)])
    np.testing.assert_allclose(losses.class_cross_entropy(LOGITS, LABEL), expected, rtol=1e-6)


def test_hinge_is_the_margin_to_the_most_likely_other_label():
    # 1 - 2 + 1 = 0; 1 + 1 + 3 = 5; 1 - .5 + .5 = 1
    np.testing.assert_allclose(losses.class_hinge(LOGITS, LABEL), [0.0, 5.0, 1.0])


@pytest.mark.parametrize("name", losses.CLASS)
def test_every_loss_is_finite_unreduced_and_pushes_the_label_up(name):
    loss = losses.CLASS[name]
    for size in (1.0, 1e4):
        value, grad = jax.jit(
            lambda x: (loss(x, LABEL), jax.grad(lambda x: loss(x, LABEL).sum())(x))
        )(size * LOGITS.astype(jnp.bfloat16))
        assert value.shape == (3,) and value.dtype == jnp.float32
        assert bool(jnp.isfinite(value).all() and jnp.isfinite(grad).all())
    grad = jax.grad(lambda x: loss(x, LABEL).sum())(LOGITS)
    right = grad[jnp.arange(3), LABEL]
    assert bool((right <= 0).all()) and float(right.min()) < 0
    np.testing.assert_allclose(grad.sum(1), 0, atol=1e-6)  # what one label loses others gain
