"""Pixel shuffles, their first weights, reflection, and blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgan.nets import dncnn, layers, restoration, srresnet, unet
from tests.nets import published

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
    variables = jax.tree.map(lambda w: w + 0.1, jax.jit(restoration.Block().init)(KEY, x))
    added = [jax.jit(restoration.Block(scale).apply)(variables, x) - x for scale in (1.0, 0.1)]
    np.testing.assert_allclose(added[1], 0.1 * added[0], atol=1e-6)


@pytest.mark.parametrize("channels, seen", [(3, 3), (3, 1), (1, 1), (3, 4)])
def test_shown_is_the_image_without_its_mask_and_grey_in_each_channel(channels, seen):
    x = jax.random.normal(KEY, (2, 4, 4, seen)).astype(jnp.bfloat16)
    image = restoration.shown(x, channels)
    assert image.dtype == jnp.float32 and image.shape == (2, 4, 4, channels)
    np.testing.assert_array_equal(image[..., -1], x[..., min(seen, channels) - 1])


@pytest.mark.parametrize(
    "net, scale",
    [
        (dncnn.Restorer(1, width=3, depth=3, fold=2), 1),
        (unet.Restorer(1, widths=(3, 3), blocks=1), 1),
        pytest.param(unet.Restorer(1, widths=(3, 3, 3), blocks=1), 1, marks=pytest.mark.slow),
        pytest.param(unet.Restorer(1, widths=(3, 3), blocks=1, fold=2), 1, marks=pytest.mark.slow),
        (srresnet.Generator(4, 1, width=3, blocks=1), 4),
        (srresnet.Generator(3, 1, width=3, blocks=1, direct=True), 3),
    ],
)
def test_no_pixel_sees_farther_than_the_reach(net, scale):
    image = jnp.full((1, 80, 80, 1), 0.1)
    variables = published.random_variables(net, image)

    @jax.jit
    def slope(image, at):
        def pixel(image):
            return net.apply(variables, image, train=False)[0, at * scale, at * scale, 0]

        return jax.grad(pixel)(image)

    farthest = 0
    for at in range(36, 36 + net.multiple):
        rows, columns = np.nonzero(np.asarray(slope(image, at))[0, :, :, 0])
        farthest = max(farthest, *np.abs(rows - at), *np.abs(columns - at))
    assert 0.6 * net.reach <= farthest <= net.reach


def test_tiles_that_overlap_by_the_reach_are_the_whole():
    net = unet.Restorer(1, widths=(3, 3), blocks=1)
    image = jax.random.normal(KEY, (1, 61, 61, 1))
    variables = published.random_variables(net, image)
    apply = jax.jit(lambda x: net.apply(variables, x, train=False))
    start = net.multiple * 8
    tile = apply(image[:, start:, start:])[:, net.reach :, net.reach :]
    np.testing.assert_allclose(
        tile, apply(image)[:, start + net.reach :, start + net.reach :], atol=1e-5
    )


def test_instance_norm_is_a_group_norm_of_a_channel_a_group():
    x = jax.random.normal(KEY, (2, 4, 5, 6))
    variables = {"params": {"scale": jnp.linspace(1.0, 2.0, 6), "bias": jnp.ones(6)}}

    def made(norm, x):
        y = norm.apply(variables, x, True)
        return jnp.power(y, 3).sum(), y

    results = [
        jax.jit(jax.grad(functools.partial(made, norm), has_aux=True))(x)
        for norm in (layers.Norm("instance"), layers.Norm("group", num_groups=6))
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), *results)
