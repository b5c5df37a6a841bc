"""Collectives: what one device does, and that eight do the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import collectives, latents, parallel
from tests.helpers import tiny

KEY, AXIS, NUM = jax.random.key(3), "devices", 8
ROWS = jnp.arange(16.0).reshape(8, 2, 1)  # two rows a device


def _on_eight(function, *args):
    """What each device returns, of arguments that all are given."""
    mapped = jax.pmap(
        lambda rows: function(rows, *args), axis_name=AXIS, devices=jax.devices()[:NUM]
    )
    return jax.device_get(mapped(ROWS))


def test_without_an_axis_nothing_is_done():
    tree = {"a": jnp.ones(2)}
    assert collectives.mean(tree, None) is tree
    assert collectives.gather(tree["a"], None) is tree["a"]
    assert collectives.own_key(KEY, None) is KEY
    drawn = collectives.share(lambda key, num: latents.normal(key, num, 3), KEY, 5, None)
    np.testing.assert_array_equal(drawn, latents.normal(KEY, 5, 3))


def test_the_mean_is_that_of_all_devices_on_each():
    means = _on_eight(lambda rows: collectives.mean({"a": rows, "b": rows[0]}, AXIS))
    for mean in means["a"]:
        np.testing.assert_allclose(mean, np.asarray(ROWS).mean(0))
    np.testing.assert_allclose(means["b"], np.full((NUM, 1), 7.0))


def test_gathered_rows_are_those_of_all_devices_in_order_on_each():
    for rows in _on_eight(lambda rows: collectives.gather(rows, AXIS)):
        np.testing.assert_array_equal(rows, np.arange(16.0)[:, None])


def test_the_mean_gradient_of_a_gathered_loss_is_the_true_one():
    def loss(weight, rows, axis_name):
        logits = collectives.gather(weight * rows[:, 0], axis_name)
        return jnp.square(logits - logits.mean()).mean()  # compares examples

    grads = _on_eight(lambda rows: collectives.mean(jax.grad(loss)(2.0, rows, AXIS), AXIS))
    want = jax.grad(loss)(2.0, ROWS.reshape(16, 1), None)
    np.testing.assert_allclose(grads, np.full(NUM, want), rtol=1e-6)


def test_every_device_has_a_key_of_its_own():
    draws = _on_eight(lambda rows: jax.random.uniform(collectives.own_key(KEY, AXIS)))
    assert len(set(draws.tolist())) == NUM


@pytest.mark.parametrize("prior", [latents.normal, latents.uniform])
def test_shares_put_together_are_the_draw_of_one_device(prior):
    def draw(key, num):
        z_key, label_key = jax.random.split(key)
        return prior(z_key, num, 3), jax.random.randint(label_key, (num,), 0, 10)

    shares = _on_eight(lambda rows: collectives.share(draw, KEY, rows.shape[0], AXIS))
    for ours, whole in zip(shares, draw(KEY, 16), strict=True):
        np.testing.assert_allclose(ours.reshape(whole.shape), whole, rtol=1e-6)


def test_a_step_of_ones_own_trains_on_eight_devices_as_on_one():
    def build(axis_name):
        def step(key, now, batch):
            num = batch["image"].shape[0]
            z = collectives.share(lambda key, num: latents.normal(key, num, 4), key, num, axis_name)

            def loss_fn(weight):
                logits = collectives.gather(z @ weight + batch["image"].mean((1, 2, 3)), axis_name)
                return jnp.square(logits - logits.mean()).mean()

            loss, grads = jax.value_and_grad(loss_fn)(now.extra["weight"])
            grads, loss = collectives.mean((grads, loss), axis_name)
            return now.replace(extra={"weight": now.extra["weight"] - 0.1 * grads}), {"loss": loss}

        return step

    tx = optax.sgd(0.1)
    start = tiny.dense_state(tiny.DenseGen(), tiny.DenseDisc(), tx, tx, weight=jnp.ones(4))
    batch = tiny.batch(side=4)
    one, want = jax.jit(build(None))(KEY, start, batch)
    one = tiny.host(one.extra)
    eight, got = parallel.pmap_step(build(parallel.AXIS))(KEY, start, batch)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)
    assert tiny.largest_difference(one, tiny.host(eight.extra)) < 1e-6
    assert parallel.own_key is collectives.own_key  # what a step of one's own finds in `parallel`
