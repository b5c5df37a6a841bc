"""LeCam's term of the logits, and its moving averages, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.losses import lecam


def _anchors(real, fake):
    return {"real": jnp.float32(real), "fake": jnp.float32(fake), "weight": jnp.float32(1.0)}


def test_lecam_pulls_back_logits_on_their_own_side_of_the_other_kinds_average():
    # Real ones are 2 and 0 above a_fake = -1, the last below it; fake ones 3 and 1 below a_real.
    real, fake = jnp.array([1.0, -1.0, -4.0]), jnp.array([-1.0, 1.0, 5.0])
    value = lambda real, fake: lecam.penalty(real, fake, _anchors(2.0, -1.0))  # noqa: E731
    np.testing.assert_allclose(value(real, fake), [4 + 9, 0 + 1, 0 + 0])
    real_grad, fake_grad = jax.grad(lambda *x: value(*x).sum(), (0, 1))(real, fake)
    np.testing.assert_allclose(real_grad, [4, 0, 0])
    np.testing.assert_allclose(fake_grad, [-6, -2, 0])


def test_lecam_averages_patches_within_their_example():
    real, fake = jnp.array([[[1.0, 3.0]], [[-4.0, 0.0]]]), jnp.zeros((2, 1, 2))
    ours = lecam.penalty(real.astype(jnp.bfloat16), fake, _anchors(2.0, -1.0))
    np.testing.assert_allclose(ours, [(4 + 16) / 2 + 4, (0 + 1) / 2 + 4])
    assert ours.dtype == jnp.float32


def test_anchors_are_debiased_averages_of_mean_logits():
    anchors = lecam.init_anchors()
    logits = jnp.array([1.0, 3.0])
    np.testing.assert_array_equal(lecam.penalty(logits, -logits, anchors), 0)  # no average yet
    means, decay = [3.0, -1.0, 2.0], 0.75
    for t, mean in enumerate(means, 1):
        anchors = lecam.update_anchors(
            anchors, jnp.float32(mean), jnp.float32(-10 * mean), decay=decay
        )
        # Adam's formula: a biased average from zero, divided by 1 - decay^t.
        biased = sum((1 - decay) * decay ** (t - i) * m for i, m in enumerate(means[:t], 1))
        np.testing.assert_allclose(anchors["real"], biased / (1 - decay**t), rtol=1e-6)
        np.testing.assert_allclose(anchors["fake"], -10 * anchors["real"], rtol=1e-6)
        if t == 1:
            assert float(anchors["real"]) == mean


def test_anchors_that_equal_the_mean_stay_as_they_are_and_have_no_gradient():
    mean = jnp.float32(0.3)
    update = jax.jit(lambda a, mean: lecam.update_anchors(a, mean, 2 * mean))
    anchors = lecam.init_anchors()
    for _ in range(20):
        anchors = update(anchors, mean)
        assert float(anchors["real"]) == mean and float(anchors["fake"]) == 2 * mean
    assert float(jax.grad(lambda mean: update(anchors, mean)["real"])(mean)) == 0.0
