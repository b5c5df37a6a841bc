"""R3GAN's networks against the published ones: images, logits, penalties and their gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import r3gan
from jaxgan.types import UserError
from tests.nets import published, references

SIZES = {"widths": references.WIDTHS, "groups": references.GROUPS, "blocks": references.BLOCKS}


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    if block := re.fullmatch(r"Block_(\d+)\.(.*)", name):
        stage, number = divmod(int(block[1]), references.BLOCKS)
        place = f"MainLayers.{stage}.Layers.{number + (player == 'gen')}"
        layer, turn = {
            "Dense_0.kernel": ("LinearLayer1.Layer.weight", "1x1"),
            "Conv_0.kernel": ("LinearLayer2.Layer.weight", "conv"),
            "Dense_1.kernel": ("LinearLayer3.Layer.weight", "1x1"),
            "bias_0": ("NonLinearity1.Bias", ""),
            "bias_1": ("NonLinearity2.Bias", ""),
        }[block[2]]
        return f"{place}.{layer}", turn
    last = len(references.WIDTHS) - 1
    return {
        "gen": {
            "basis": ("MainLayers.0.Layers.0.Basis", "basis"),
            "weigh.kernel": ("MainLayers.0.Layers.0.LinearLayer.weight", "dense"),
            "Dense_0.kernel": (f"MainLayers.{last}.Layers.0.LinearLayer.Layer.weight", "1x1"),
            "to_image.kernel": ("AggregationLayer.Layer.weight", "1x1"),
            "Embed_0.embedding": ("EmbeddingLayer.weight", "dense"),
        },
        "disc": {
            "basis": (f"MainLayers.{last}.Layers.{references.BLOCKS}.Basis.weight", "depthwise"),
            "judge.kernel": (
                f"MainLayers.{last}.Layers.{references.BLOCKS}.LinearLayer.weight",
                "dense",
            ),
            "Dense_0.kernel": (
                f"MainLayers.0.Layers.{references.BLOCKS}.LinearLayer.Layer.weight",
                "1x1",
            ),
            "from_image.kernel": ("ExtractionLayer.Layer.weight", "1x1"),
            "Embed_0.embedding": ("EmbeddingLayer.weight", "dense"),
        },
    }[player][name]


@pytest.mark.parametrize("case", ["conditional", pytest.param("plain", marks=pytest.mark.slow)])
def test_networks_and_gradients_are_those_published(case):
    classes = references.CASES[case]
    expected = published.expected("r3gan", case)
    z, image, label = references.inputs()
    label = jnp.asarray(label) if classes else None
    gen = r3gan.Generator(image_size=references.SIDE, num_classes=classes, **SIZES)
    disc = r3gan.Discriminator(num_classes=classes, **SIZES)
    gen_params, disc_params = (
        published.weights(
            player,
            jax.eval_shape(net.init, jax.random.key(0), x, label, train=True)["params"],
            _published,
            references.weight,
        )
        for player, net, x in (("gen", gen, z), ("disc", disc, image))
    )

    def judge(params, x):
        return disc.apply({"params": params}, x, label, train=True)

    def make(params):
        return gen.apply({"params": params}, z, label, train=True)

    @jax.jit
    def everything(gen_params, disc_params):
        fake = make(gen_params)

        def gen_loss(params):
            return jax.nn.softplus(judge(disc_params, image) - judge(disc_params, make(params)))

        def disc_loss(params):
            critic = functools.partial(judge, params)
            r1, r2 = (
                jnp.square(jax.grad(lambda x: critic(x).sum())(x)).sum((1, 2, 3))
                for x in (image, fake)
            )
            relative = jax.nn.softplus(critic(fake) - critic(image))
            return (relative + references.GAMMA / 2 * (r1 + r2)).mean(), (r1, r2)

        return (
            fake,
            judge(disc_params, image),
            jax.grad(lambda p: gen_loss(p).mean())(gen_params),
            jax.grad(disc_loss, has_aux=True)(disc_params),
        )

    fake, logits, gen_grads, (disc_grads, (r1, r2)) = everything(gen_params, disc_params)
    np.testing.assert_allclose(fake.ravel()[::7], expected["image"], rtol=published.RTOL, atol=1e-5)
    np.testing.assert_allclose(logits, expected["logits"], rtol=published.RTOL, atol=1e-5)
    np.testing.assert_allclose(r1, expected["r1"], rtol=published.RTOL)
    np.testing.assert_allclose(r2, expected["r2"], rtol=published.RTOL)
    published.assert_same_gradients("gen", gen_grads, _published, expected["gen"])
    published.assert_same_gradients("disc", disc_grads, _published, expected["disc"])


def test_parameters_are_as_many_as_published():
    count = lambda net, *args: sum(  # noqa: E731
        leaf.size
        for leaf in jax.tree.leaves(
            jax.eval_shape(lambda key: net.init(key, *args, train=True), jax.random.key(0))
        )
    )
    expected = published.expected("r3gan", "parameters")
    z, label = jnp.zeros((1, 64)), jnp.zeros(1, jnp.int32)
    for name, (widths, groups, classes) in references.FULL.items():
        size = 4 * 2 ** (len(widths) - 1)
        options = {"widths": widths, "groups": groups, "num_classes": classes}
        gen = count(r3gan.Generator(image_size=size, **options), z, label)
        disc = count(r3gan.Discriminator(**options), jnp.zeros((1, size, size, 3)), label)
        assert [gen, disc] == expected[name]


def test_images_need_not_be_square_and_blocks_start_as_nothing():
    options = {"widths": (8, 6), "groups": (2, 2), "blocks": 1}
    gen = r3gan.Generator(image_size=(4, 12), channels=2, **options)
    disc = r3gan.Discriminator(**options)
    z = jax.random.normal(jax.random.key(0), (2, 4))
    variables = jax.jit(lambda key: gen.init(key, z, train=True))(jax.random.key(1))
    image = jax.eval_shape(functools.partial(gen.apply, train=True), variables, z)
    assert image.shape == (2, 4, 12, 2) and image.dtype == jnp.float32
    last = variables["params"]["Block_0"]["Dense_1"]["kernel"]
    first = variables["params"]["Block_0"]["Dense_0"]["kernel"]
    assert not np.any(last) and np.std(first) == pytest.approx(r3gan.GAIN * 2**-0.25 / 8**0.5, 0.2)
    disc_of = functools.partial(disc.init_with_output, train=True)
    shapes = jax.eval_shape(disc_of, jax.random.key(2), image)
    assert shapes[0].shape == (2,)


def test_stages_next_to_the_image_compute_in_the_dtype_asked_for():
    options = {"widths": (8, 8, 8), "half_stages": 1, "dtype": jnp.bfloat16}
    z, image = jnp.ones((2, 4)), jnp.ones((2, 16, 16, 3))
    gen, disc = r3gan.Generator(image_size=16, **options), r3gan.Discriminator(**options)
    for net, x in ((gen, z), (disc, image)):
        variables = jax.eval_shape(lambda net=net, x=x: net.init(jax.random.key(0), x, train=True))
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        text = str(jax.make_jaxpr(lambda v, net=net, x=x: net.apply(v, x, train=True))(variables))
        assert "bf16[2,16,16,8]" in text and "bf16[2,4,4,8]" not in text
        assert jax.eval_shape(net.apply, variables, x, train=True).dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, r"an image of 30 x 30 cannot be made by 3 stages, .* of 8, 12, 16"),
        ({"groups": (3, 3, 3)}, r"groups 3 do not divide 16 channels \(2 times 8\)"),
        ({"groups": (2, 2)}, r"groups \(2, 2\) are not as many as widths \(8, 8, 8\)"),
        ({"num_classes": 3}, "needs labels"),
    ],
)
def test_what_cannot_be_made_is_refused(options, message):
    gen = r3gan.Generator(**{"image_size": 16, "widths": (8, 8, 8), **options})
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda key: gen.init(key, jnp.ones((2, 4)), train=True), jax.random.key(0))
