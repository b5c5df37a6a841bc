"""The light networks: against a reference in NumPy, at any size, with labels, in bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgan import penalties
from jaxgan.nets import light
from jaxgan.types import UserError

KEY = jax.random.key(0)


def _shapes(net, *inputs):
    """Shapes of (output, variables), without computing anything."""
    return jax.eval_shape(lambda: net.init_with_output(KEY, *inputs, train=True))


def _init(net, *inputs):
    """Variables in which nothing is zero."""
    params = jax.jit(lambda: net.init(KEY, *inputs, train=False))()["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    noise = [0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return {"params": jax.tree.map(jnp.add, params, jax.tree.unflatten(structure, noise))}


def _convolved(x, layer):
    kernel, bias = np.float64(layer["kernel"]), np.float64(layer["bias"])
    maps = [
        sum(signal.correlate2d(x[..., i], kernel[..., i, o], "same") for i in range(x.shape[-1]))
        for o in range(kernel.shape[-1])
    ]
    return np.stack(maps, -1) + bias


def _doubled(x):
    zeros = np.zeros((2 * x.shape[0], 2 * x.shape[1], x.shape[2]))
    zeros[::2, ::2] = x
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
    full = np.stack([signal.convolve2d(zeros[..., i], taps) for i in range(x.shape[2])], -1)
    return full[1:-2, 1:-2]


def _strided(x, layer):
    """Every other pixel of a convolution by 4 x 4, which begins one pixel outside."""
    kernel, bias = np.float64(layer["kernel"]), np.float64(layer["bias"])
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (0, 1))[::2, ::2]
    return np.einsum("hwcij,ijco->hwo", windows, kernel) + bias


def test_both_players_equal_a_reference_in_numpy():
    gen = light.Generator((8, 12), 2, widths=(5, 4, 3), norm="none")
    disc = light.Discriminator(widths=(4, 3))
    z = jax.random.normal(KEY, (1, 6))
    of_gen = _init(gen, z)
    image = gen.apply(of_gen, z, train=False)
    layers = jax.device_get(of_gen["params"])
    x = np.float64(z[0]) @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]
    x = np.maximum(x.reshape(2, 3, 5), 0)
    for name in ("Conv_0", "Conv_1"):
        x = np.maximum(_doubled(_convolved(x, layers[name])), 0)
    x = np.tanh(_convolved(x, layers["Conv_2"]))
    np.testing.assert_allclose(image[0], x, rtol=1e-4, atol=1e-5)

    of_disc = _init(disc, image)
    layers = jax.device_get(of_disc["params"])
    for name in ("Conv_0", "Conv_1"):
        x = _strided(x, layers[name])
        x = np.where(x > 0, x, 0.2 * x)
    expected = x.reshape(-1) @ layers["Dense_0"]["kernel"][:, 0] + layers["Dense_0"]["bias"][0]
    np.testing.assert_allclose(disc.apply(of_disc, image, train=False)[0], expected, rtol=1e-4)


def test_the_penalty_has_the_gradient_that_differences_say():
    disc = light.Discriminator(widths=(4, 3), slope=1.0)  # without kinks to step over
    real = jax.random.uniform(KEY, (3, 8, 8, 1), minval=-1)
    variables = _init(disc, real)

    params = variables["params"]
    direction = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), params)

    @jax.jit
    def penalty(step):
        moved = jax.tree.map(lambda p, d: p + step * d, params, direction)
        critic = functools.partial(disc.apply, {"params": moved}, train=True)
        return penalties.zero_centered(critic, real).mean()

    step = 1e-3
    expected = (penalty(step) - penalty(-step)) / (2 * step)
    assert jax.grad(penalty)(0.0) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (40, 24), (64, 64), (256, 128)])
def test_players_fit_each_other_at_every_size(size):
    gen, disc = light.default_widths(size)
    image, _ = _shapes(light.Generator(size, 3, gen), jnp.zeros((2, 5)))
    assert image.shape == (2, *size, 3) and image.dtype == jnp.float32
    logits, _ = _shapes(light.Discriminator(disc), jnp.zeros(image.shape))
    assert logits.shape == (2,)


def test_widths_follow_the_size_of_the_maps():
    assert light.default_widths((32, 32)) == ((128, 128, 64, 32), (128, 64, 32))
    assert light.default_widths((28, 28)) == ((128, 72, 40), (72, 40))
    gen, disc = light.default_widths((256, 128))
    assert gen == (128, 128, 64, 32, 16, 16) and disc == (128, 64, 32, 32, 32)
    with pytest.raises(UserError, match="images of 30 x 18 cannot be made by doubling 2 times"):
        light.default_widths((30, 18))


def test_labels_take_part_in_both_players():
    z, label = jnp.ones((2, 5)), jnp.arange(2)
    gen = light.Generator((8, 8), 1, (4, 4), norm="none", num_classes=2)
    image = gen.apply(_init(gen, z, label), z, label, train=False)
    assert np.abs(image[0] - image[1]).max() > 1e-3
    same = jnp.ones((2, 8, 8, 1))
    disc = light.Discriminator((4, 4), num_classes=2)
    logits = disc.apply(_init(disc, same, label), same, label, train=False)
    assert abs(float(logits[0] - logits[1])) > 1e-3
    out, _ = _shapes(disc.clone(head="class"), same, label)
    assert out["class"].shape == (2, 2) and out["logits"].shape == (2,)


def test_blocks_computed_anew_change_nothing_and_bfloat16_little():
    z = jax.random.normal(KEY, (4, 5))
    gen = light.Generator((8, 8), 1, (8, 8), norm="none")
    variables = _init(gen, z)
    image = gen.apply(variables, z, train=False)
    again = gen.clone(remat=True).apply(variables, z, train=False)
    np.testing.assert_allclose(again, image, atol=1e-6)
    rough = gen.clone(dtype=jnp.bfloat16).apply(variables, z, train=False)
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, image, atol=0.1)
