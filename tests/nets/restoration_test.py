"""Pixel shuffles, their first weights, reflection, and blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgan.nets import layers, restoration

KEY = jax.random.key(0)


def test_shuffle_by_hand():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)  # two channels of four pixels
    expected = [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    np.testing.assert_array_equal(restoration.shuffle(x, 2)[0], expected)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_unshuffle_is_the_inverse(times):
    x = jax.random.normal(KEY, (2, 3, 4, 2 * times**2))
    y = restoration.shuffle(x, times)
    assert y.shape == (2, 3 * times, 4 * times, 2)
    np.testing.assert_array_equal(restoration.unshuffle(y, times), x)


@pytest.mark.parametrize("times", [2, 3])
def test_icnr_begins_as_nearest_neighbour(times):
    init = restoration.icnr(nn.initializers.lecun_normal(), times)
    x = jax.random.normal(KEY, (1, 4, 5, 3))
    conv = layers.Conv(2 * times**2, 3, kernel_init=init)
    y, _ = conv.init_with_output(KEY, x)
    y = restoration.shuffle(y, times)
    expected = jnp.repeat(jnp.repeat(y[:, ::times, ::times], times, 1), times, 2)
    np.testing.assert_array_equal(y, expected)
    assert np.ptp(np.asarray(y)) > 0


@pytest.mark.parametrize("size, multiple", [((5, 8), 4), ((3, 2), 8), ((1, 1), 4), ((4, 4), 4)])
def test_padding_is_reflection_below_and_to_the_right(size, multiple):
    x = jax.random.normal(KEY, (2, *size, 3))
    y = restoration.padded(x, multiple)
    edges = [(0, -side % multiple) for side in size]
    expected = np.pad(np.asarray(x), [(0, 0), *edges, (0, 0)], mode="reflect")
    np.testing.assert_array_equal(y, expected)


def test_block_adds_as_much_as_its_scale():
    x = jax.random.normal(KEY, (1, 4, 4, 3))
    variables = jax.tree.map(lambda w: w + 0.1, restoration.Block().init(KEY, x))
    added = [restoration.Block(scale).apply(variables, x) - x for scale in (1.0, 0.1)]
    np.testing.assert_allclose(added[1], 0.1 * added[0], atol=1e-6)


@pytest.mark.parametrize("channels, seen", [(3, 3), (3, 1), (1, 1), (3, 4)])
def test_shown_is_the_image_without_its_mask_and_grey_in_each_channel(channels, seen):
    x = jax.random.normal(KEY, (2, 4, 4, seen)).astype(jnp.bfloat16)
    image = restoration.shown(x, channels)
    assert image.dtype == jnp.float32 and image.shape == (2, 4, 4, channels)
    np.testing.assert_array_equal(image[..., -1], x[..., min(seen, channels) - 1])


def test_instance_norm_is_a_group_norm_of_a_channel_a_group():
    x = jax.random.normal(KEY, (2, 4, 5, 6))
    nets = [layers.Norm("instance", slope=0.2), layers.Norm("group", num_groups=6, slope=0.2)]
    ours, theirs = (net.init_with_output(KEY, x, True)[0] for net in nets)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    grads = [
        jax.grad(
            lambda x, net=net: (
                net.apply({"params": {"scale": jnp.ones(6), "bias": jnp.ones(6)}}, x, True) ** 3
            ).sum()
        )(x)
        for net in nets
    ]
    np.testing.assert_allclose(*grads, atol=1e-4)
