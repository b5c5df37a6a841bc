"""Residual networks against BigGAN's published ones: images, logits, R1 and their gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import resnet
from jaxgan.types import UserError
from tests.nets import published, references

KEY = jax.random.key(0)
LAYERS = {"Conv_0": "conv1", "Conv_1": "conv2", "shortcut": "conv_sc"}
NORMS = {"ConditionalNorm_0": "bn1", "ConditionalNorm_1": "bn2"}
ATTENTION = {"query": "theta", "key": "phi", "value": "g", "out": "o"}
SMALL = {"widths": (8, 8, 8)}


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    *layer, kind = name.split(".")
    suffix = {"kernel": "weight", "embedding": "weight"}.get(kind, kind)
    if block := re.fullmatch(r"(?:up|down)_(\d+)", layer[0]):
        place = f"blocks.{block[1]}.0"
        if layer[1] in NORMS:
            turn = "dense" if kind == "kernel" else ""
            return f"{place}.{NORMS[layer[1]]}.{layer[2]}.{suffix}", turn
        turn = "" if kind == "bias" else "1x1" if layer[1] == "shortcut" else "conv"
        return f"{place}.{LAYERS[layer[1]]}.{suffix}", turn
    if layer[0] == "attention":
        place = f"blocks.{int(player == 'gen')}.1"
        if kind == "scale":
            return f"{place}.gamma", ""
        return f"{place}.{ATTENTION[layer[1]]}.weight", "1x1"
    return {
        "project.kernel": ("linear.weight", "first"),
        "project.bias": ("linear.bias", "first bias"),
        "Norm_0.scale": ("output_layer.0.gain", ""),
        "Norm_0.bias": ("output_layer.0.bias", ""),
        "to_image.kernel": ("output_layer.2.weight", "conv"),
        "to_image.bias": ("output_layer.2.bias", ""),
        "judge.kernel": ("linear.weight", "dense"),
        "judge.bias": ("linear.bias", ""),
        "embed.embedding": ("shared.weight" if player == "gen" else "embed.weight", ""),
    }[name]


def _variables(player, net, *inputs):
    """Variables with the published weights, and the first singular vector of each kernel."""
    shapes = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))
    params = published.weights(player, shapes["params"], _published, references.weight)
    stats = jax.tree.map(jnp.zeros_like, shapes.get("batch_stats", {}))
    spectral = published.spectral_vectors(shapes["spectral"], params)
    return params, {"batch_stats": stats, "spectral": spectral}


def _players(case):
    """Both networks with the published weights, as functions, and what they are given."""
    known, side = references.RESNET_CASES[case], references.RESNET_SIDE
    z, image, label = references.inputs(side=side, latent=references.RESNET_LATENT)
    label = jnp.asarray(label)
    options = {
        "widths": (references.RESNET_WIDTH,) * 4,
        "num_classes": references.RESNET_CLASSES,
        "attention": known["attention"],
    }
    own = {"shared": known["shared"], "hierarchical": known["hierarchical"]}
    gen = resnet.Generator(side, spectral=True, labels="norm", **own, **options)
    disc = resnet.Discriminator(**options)

    def applied(net, stats, params, x):
        return net.apply({"params": params, **stats}, x, label, train=True, mutable=[*stats])[0]

    players = []
    for player, net, x in (("gen", gen, z), ("disc", disc, image)):
        params, stats = _variables(player, net, x, label)
        players.append((functools.partial(applied, net, stats), params))
    return *players, z, image


@pytest.mark.parametrize("case", references.RESNET_CASES)
def test_images_and_logits_are_those_published(case):
    expected = published.expected("resnet", case)
    (make, gen_params), (judge, disc_params), z, image = _players(case)
    fake, logits = jax.jit(lambda g, d: (make(g, z), judge(d, image)))(gen_params, disc_params)
    close = functools.partial(np.testing.assert_allclose, rtol=published.RTOL, atol=1e-5)
    close(fake.ravel()[::97], expected["image"])
    close(logits, expected["logits"])


@pytest.mark.slow  # to compile second derivatives at 32 pixels takes 20 s
@pytest.mark.parametrize("case", references.RESNET_CASES)
def test_gradients_and_r1_are_those_published(case):
    expected = published.expected("resnet", case)
    (make, gen_params), (judge, disc_params), z, image = _players(case)

    def gen_loss(params):
        return jax.nn.softplus(-judge(disc_params, make(params, z))).mean()

    def disc_loss(params):
        slope = jax.grad(lambda x: judge(params, x).sum())(image)
        r1 = jnp.square(slope).sum((1, 2, 3))
        loss = jax.nn.softplus(-judge(params, image)) + references.GAMMA / 2 * r1
        return loss.mean(), r1

    gen_grads = jax.jit(jax.grad(gen_loss))(gen_params)
    disc_grads, r1 = jax.jit(jax.grad(disc_loss, has_aux=True))(disc_params)
    np.testing.assert_allclose(r1, expected["r1"], rtol=published.RTOL)
    published.assert_same_gradients("gen", gen_grads, _published, expected["gen"])
    published.assert_same_gradients("disc", disc_grads, _published, expected["disc"])


def test_parameters_are_as_many_as_published():
    expected = published.expected("resnet", "parameters")
    label = jnp.zeros(1, jnp.int32)
    for name, settings in references.RESNET_FULL.items():
        side, channels, classes, dim, shared, attention = settings
        gen_widths, disc_widths = ((4 * channels,) * 4,) * 2
        if side == 128:
            gen_widths = tuple(channels * times for times in (16, 16, 8, 4, 2, 1))
            disc_widths = tuple(channels * times for times in (16, 16, 8, 4, 2, 1))
        options = {"num_classes": classes, "attention": attention}
        gen = resnet.Generator(
            side,
            widths=gen_widths,
            labels="norm",
            shared=shared or dim,
            hierarchical=shared > 0,
            **options,
        )
        if not shared:  # a table in each norm
            gen = gen.clone(shared=0)
        disc = resnet.Discriminator(widths=disc_widths, **options)
        z, image = jnp.zeros((1, dim)), jnp.zeros((1, side, side, 3))
        assert [_count(gen, z, label), _count(disc, image, label)] == expected[name]


def _count(net, *inputs):
    shapes = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    "size, stages", [(32, 4), (48, 4), (64, 5), (128, 6), (256, 7), ((24, 40), 3)]
)
def test_sizes_of_the_papers_and_images_that_are_not_square(size, stages):
    height, width = (size, size) if isinstance(size, int) else size
    gen_widths, disc_widths = resnet.default_widths((height, width))
    assert len(gen_widths) == len(disc_widths) == stages
    gen = resnet.Generator(size, channels=4, widths=(8,) * stages)
    disc = resnet.Discriminator(widths=(8,) * stages)
    z = jnp.zeros((2, 6))
    made, _ = jax.eval_shape(lambda: gen.init_with_output(KEY, z, train=True))
    assert made.shape == (2, height, width, 4) and made.dtype == jnp.float32
    image = jnp.zeros(made.shape)
    logits, _ = jax.eval_shape(lambda: disc.init_with_output(KEY, image, train=True))
    assert logits.shape == (2,)


def test_bfloat16_leaves_parameters_and_outputs_float32():
    options = {**SMALL, "dtype": jnp.bfloat16, "num_classes": 3, "attention": 8}
    gen = resnet.Generator(16, labels="norm", **options)
    disc = resnet.Discriminator(**options)
    label = jnp.zeros(2, jnp.int32)
    made, variables = jax.eval_shape(
        lambda: gen.init_with_output(KEY, jnp.zeros((2, 6)), label, train=True)
    )
    image = jnp.zeros(made.shape)
    logits, judged = jax.eval_shape(lambda: disc.init_with_output(KEY, image, label, train=True))
    assert made.dtype == logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((variables, judged))} == {jnp.dtype("float32")}


@pytest.mark.slow  # compiles two networks for each player
@pytest.mark.parametrize("player", ["gen", "disc"])
def test_rematerialised_blocks_give_the_same_numbers_and_keep_statistics(player):
    x = jnp.ones((2, 6)) if player == "gen" else jnp.ones((2, 8, 8, 3))
    options = {"widths": (4, 4), "spectral": True}
    make = functools.partial(resnet.Generator, 8) if player == "gen" else resnet.Discriminator
    results = []
    for remat in (False, True):
        net = make(**options, remat=remat)
        variables = jax.jit(lambda net=net: net.init(KEY, x, train=True))()
        stats = {name: value for name, value in variables.items() if name != "params"}

        def loss(params, net=net, stats=stats):
            y, new = net.apply({"params": params, **stats}, x, train=True, mutable=[*stats])
            return jnp.square(y).sum(), new

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


def test_labels_reach_the_generator_as_asked_and_no_other_way():
    z, label = jnp.ones((2, 6)), jnp.array([0, 1])
    for options in ({"labels": "latent"}, {"labels": "norm", "shared": 5}):
        gen = resnet.Generator(8, widths=(4, 4), num_classes=2, **options)
        variables = jax.jit(lambda gen=gen: gen.init(KEY, z, label, train=False))()
        first, second = jax.jit(functools.partial(gen.apply, train=False))(variables, z, label)
        assert not np.allclose(first, second)
    table = resnet.Generator(8, widths=(4, 4), num_classes=2, labels="norm")
    variables = jax.jit(functools.partial(table.init, train=False))(KEY, z, label)
    first, second = jax.jit(functools.partial(table.apply, train=False))(variables, z, label)
    np.testing.assert_allclose(first, second, rtol=1e-5)  # gains start at 1, biases at 0


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: resnet.check((32, 32), (8,) * 4, attention=32), "networks have 8, 16"),
        (lambda: resnet.check((40, 20), (8,) * 4), "cannot be made by 4 stages"),
        (lambda: _init(hierarchical=True, dim=7), "use a multiple of 2"),
        (lambda: _init(hierarchical=True, num_classes=2, labels="norm"), "use shared=128"),
        (lambda: _init(num_classes=2, labels="norms"), 'did you mean "norm"'),
        (lambda: _init(norm="batches"), 'did you mean "batch"'),
    ],
)
def test_mistakes_are_one_line(make, said):
    with pytest.raises(UserError, match=said):
        make()


def _init(*, dim=6, **options):
    label = jnp.zeros(1, jnp.int32)
    gen = resnet.Generator(8, widths=(4, 4), **options)
    jax.eval_shape(lambda: gen.init(KEY, jnp.zeros((1, dim)), label, train=True))
