"""DCGAN: sizes, channels, norms, conditioning, precision, and bad sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import dcgan, layers
from jaxgan.types import UserError

KEY = jax.random.key(0)


def _init(net, *inputs):
    """Shapes of (output, variables), without computing anything."""
    return jax.eval_shape(lambda: net.init_with_output(KEY, *inputs, train=True))


def _apply(net, *inputs, train=False, scale=1.0):
    """Output of a fresh network; `scale` makes up for the small weights it starts with."""

    @jax.jit
    def run():
        variables = net.init(KEY, *inputs, train=False)
        params = jax.tree.map(lambda p: scale * p, variables["params"])
        mutable = ["batch_stats"] if train else False
        return net.apply({**variables, "params": params}, *inputs, train=train, mutable=mutable)

    return run()


@pytest.mark.parametrize(
    "image_size,channels,kernel",
    [(8, 1, 4), (14, 3, 3), (16, 1, 5), (28, 1, 3), (28, 3, 4), (32, 3, 5), (56, 1, 4), (64, 3, 4)]
    + [(128, 1, 3), (256, 1, 4)],
)
def test_players_fit_each_other_at_every_size(image_size, channels, kernel):
    gen = dcgan.Generator(image_size=image_size, channels=channels, width=2, kernel=kernel)
    image, _ = _init(gen, jnp.zeros((3, 5)))
    assert image.shape == (3, image_size, image_size, channels)
    assert image.dtype == jnp.float32
    logits, _ = _init(dcgan.Discriminator(width=2, kernel=kernel), jnp.zeros(image.shape))
    assert logits.shape == (3,) and logits.dtype == jnp.float32


def _kernels(variables):
    params = variables["params"]
    return {
        name: params[name]["kernel"].shape for name in sorted(params) if "kernel" in params[name]
    }


def test_width_doubles_with_each_halving():
    _, variables = _init(dcgan.Generator(image_size=32, width=8), jnp.zeros((1, 5)))
    assert _kernels(variables) == {
        "ConvTranspose_0": (4, 4, 32, 16),
        "ConvTranspose_1": (4, 4, 16, 8),
        "ConvTranspose_2": (4, 4, 8, 1),
        "Dense_0": (5, 4 * 4 * 32),
    }
    _, variables = _init(dcgan.Discriminator(width=8), jnp.zeros((1, 32, 32, 1)))
    assert _kernels(variables) == {
        "Conv_0": (4, 4, 1, 8),
        "Conv_1": (4, 4, 8, 16),
        "Conv_2": (4, 4, 16, 32),
        "Dense_0": (4 * 4 * 32, 1),
    }


def test_features_beyond_the_doublings_start_without_stride():
    gen = dcgan.Generator(image_size=28, features=(256, 128, 64), kernel=5)
    image, variables = _init(gen, jnp.zeros((1, 100)))
    assert image.shape == (1, 28, 28, 1)
    assert _kernels(variables) == {
        "ConvTranspose_0": (5, 5, 256, 128),
        "ConvTranspose_1": (5, 5, 128, 64),
        "ConvTranspose_2": (5, 5, 64, 1),
        "Dense_0": (100, 7 * 7 * 256),
    }


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_norms_have_their_parameters_and_only_batch_norm_has_statistics(norm):
    gen = dcgan.Generator(image_size=16, width=4, norm=norm)
    _, variables = _init(gen, jnp.zeros((2, 5)))
    names = {name for name in variables["params"] if name.startswith("Norm")}
    assert len(names) == (0 if norm == "none" else 2)
    assert ("batch_stats" in variables) == (norm == "batch")
    # A norm takes away what a bias before it would add.
    assert ("bias" in variables["params"]["Dense_0"]) == (norm == "none")
    assert "bias" in variables["params"]["ConvTranspose_1"]  # the last layer, which has no norm
    _, variables = _init(dcgan.Discriminator(width=4, norm=norm), jnp.zeros((2, 16, 16, 1)))
    assert "bias" in variables["params"]["Conv_0"]
    assert ("batch_stats" in variables) == (norm == "batch")


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_without_batch_norm_examples_do_not_see_each_other(norm):
    x = jax.random.uniform(KEY, (4, 8, 8, 1), minval=-1)
    disc = dcgan.Discriminator(features=(4, 8), norm=norm)
    alone = _apply(disc, x[:1], train=True, scale=10.0)[0]
    together = _apply(disc, x, train=True, scale=10.0)[0]
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4)


def test_batch_norm_sees_the_whole_batch_in_training_and_its_record_in_testing():
    z = jax.random.normal(KEY, (4, 5))
    gen = dcgan.Generator(image_size=8, features=(4,))
    (image, stats), (alone, _) = (_apply(gen, z[:n], train=True, scale=30.0) for n in (4, 2))
    assert np.abs(image[:2] - alone).max() > 1e-2
    assert jax.tree.reduce(max, jax.tree.map(lambda s: float(jnp.abs(s).max()), stats)) > 0
    image, alone = (_apply(gen, z[:n], scale=30.0) for n in (4, 2))
    np.testing.assert_allclose(image[:2], alone, atol=1e-5)


def test_momentum_weighs_the_old_statistics():
    z = 5.0 * jax.random.normal(KEY, (8, 5))
    means = []
    for momentum in (0.9, 0.6):
        gen = dcgan.Generator(image_size=8, features=(4,), momentum=momentum)
        _, new = _apply(gen, z, train=True)
        means.append(np.asarray(new["batch_stats"]["Norm_0"]["mean"]))
    np.testing.assert_allclose(4.0 * means[0], means[1], rtol=1e-4)  # (1 - .6) / (1 - .9)


def test_images_stay_within_their_range():
    z = jax.random.normal(KEY, (8, 5))
    image = _apply(dcgan.Generator(image_size=8, features=(4,), norm="none"), z, scale=1e3)
    assert 0.5 < float(jnp.abs(image).max()) <= 1.0


@pytest.mark.parametrize("net", ["gen", "disc"])
def test_half_precision_computes_in_bfloat16_and_keeps_float32_outside(net):
    if net == "gen":
        build, x = lambda dtype: dcgan.Generator(image_size=8, features=(8,), dtype=dtype), (8, 5)
    else:
        build, x = lambda dtype: dcgan.Discriminator(features=(8, 8), dtype=dtype), (8, 8, 8, 1)
    x = jax.random.normal(KEY, x)
    low, full = (_apply(build(dtype), x, scale=10.0) for dtype in (jnp.bfloat16, jnp.float32))
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - full).max() < 0.05 * max(1.0, float(jnp.abs(full).max()))
    _, variables = _init(build(jnp.bfloat16), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_labels_change_image_and_logit():
    z, zeros, ones = jax.random.normal(KEY, (2, 5)), jnp.zeros(2, int), jnp.ones(2, int)
    gen = dcgan.Generator(image_size=8, features=(4,), num_classes=3)
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    disc = dcgan.Discriminator(features=(4,), norm="none", num_classes=3)
    both = jnp.stack([zeros, ones])
    images = jax.jit(jax.vmap(lambda label: _apply(gen, z, label, scale=10.0)))(both)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    logits = jax.jit(jax.vmap(lambda label: _apply(disc, x, label, scale=10.0)))(both)
    assert np.abs(logits[0] - logits[1]).min() > 1e-4


def test_the_conditional_logit_is_a_projection():
    # The difference between two labels' logits is (embedding a - embedding b) . features.
    disc = dcgan.Discriminator(features=(4,), norm="none", num_classes=2, slope=1.0)
    x = jax.random.normal(KEY, (3, 8, 8, 1))
    variables = jax.jit(lambda: disc.init(KEY, x, jnp.zeros(3, int), train=False))()
    zeroed = jax.tree.map(jnp.zeros_like, variables["params"]["Embed_0"])
    plain = {"params": {**variables["params"], "Embed_0": zeroed}}
    label = jnp.array([0, 1, 1])
    apply = jax.jit(functools.partial(disc.apply, train=False))
    difference = apply(variables, x, label) - apply(plain, x, label)
    features = layers.Conv(4, 4, strides=2).apply({"params": variables["params"]["Conv_0"]}, x)
    embedded = np.asarray(variables["params"]["Embed_0"]["embedding"])[np.asarray(label)]
    expected = np.sum(np.asarray(features).reshape(3, -1) * embedded, axis=1)
    np.testing.assert_allclose(difference, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "net", [dcgan.Generator(image_size=8, num_classes=3), dcgan.Discriminator(num_classes=3)]
)
def test_a_conditional_network_asks_for_its_labels(net):
    x = jnp.zeros((2, 5)) if isinstance(net, dcgan.Generator) else jnp.zeros((2, 8, 8, 1))
    with pytest.raises(UserError, match="label"):
        _init(net, x)


def test_dropout_drops_in_training_only():
    disc = dcgan.Discriminator(features=(8, 8), dropout=0.5, norm="none")
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = jax.jit(lambda: disc.init(KEY, x, train=False))()
    run = jax.jit(lambda key: disc.apply(variables, x, train=True, rngs={"dropout": key}))
    assert not np.allclose(run(jax.random.key(1)), run(jax.random.key(2)))
    test = jax.jit(lambda: disc.apply(variables, x, train=False))
    np.testing.assert_array_equal(test(), test())


def test_default_features_have_a_layer_for_each_doubling():
    assert dcgan.default_features(28) == (128, 64)
    assert dcgan.default_features(32) == (256, 128, 64)
    assert dcgan.default_features(56, width=8) == (32, 16, 8)


def test_a_generator_with_too_few_features_says_how_many_its_image_size_needs():
    message = (
        "image_size 64 doubles 4 times from 4, so the generator needs 4 feature maps or more, "
        "such as 512,256,128,64; it has 128,64"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        dcgan.check_features((128, 64), 64)
    with pytest.raises(UserError, match=message):
        _init(dcgan.Generator(image_size=64, features=(128, 64)), jnp.zeros((1, 5)))
    # A discriminator with fewer sees more pixels in its dense layer.
    logits, _ = _init(dcgan.Discriminator(features=(4, 8)), jnp.zeros((1, 64, 64, 1)))
    assert logits.shape == (1,)


@pytest.mark.parametrize(
    "image_size,near", [(0, "8"), (-8, "8"), (4, "8"), (27, "16 or 28"), (48, "32 or 56")]
)
def test_a_size_that_is_not_defined_is_named_with_its_neighbours(image_size, near):
    message = f"image_size {image_size} is not 4 or 7 times a power of two; use {near}"
    with pytest.raises(UserError, match=f"^{message}$"):
        dcgan.geometry(image_size)
    with pytest.raises(UserError, match=message):
        _init(dcgan.Generator(image_size=image_size, features=(4,) * 9), jnp.zeros((1, 5)))
