"""StyleGAN2's networks against the published ones; mixing, truncation and the mean of w."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import stylegan2
from jaxgan.types import UserError
from tests.nets import published, references

WIDTHS = (6, 4)
SMALL = {"image_size": references.SIDE, "widths": WIDTHS, "features": 5, "mapping_layers": 2}
SIDES = (8, 4)
DENSE = {"kernel": ("weight", "dense"), "bias": ("bias", "")}


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    name = name.removeprefix("Mapping_0.") if player == "disc" else name
    if found := re.fullmatch(r"(?:mapping\.)?(embed|Dense_\d)\.(kernel|bias)", name):
        part, turn = DENSE[found[2]]
        return f"mapping.{found[1].replace('Dense_', 'fc')}.{part}", turn
    return (_of_synthesis if player == "gen" else _of_discriminator)(name)


def _of_synthesis(name):
    name = name.removeprefix("synthesis.")
    if name == "first":
        return "synthesis.b4.const", "basis"
    found = re.fullmatch(r"(conv|to_image|noise|bias|image_bias)_(\d)(?:\.(style\.)?(\w+))?", name)
    kind, number, style, leaf = found[1], int(found[2]), found[3], found[4]
    if kind in ("to_image", "image_bias"):
        place = f"synthesis.b{4 * 2**number}.torgb"
    else:
        stage = (number + 1) // 2
        place = f"synthesis.b{4 * 2**stage}.conv{1 if not number else (number + 1) % 2}"
    if style:
        part, turn = DENSE[leaf]
        return f"{place}.affine.{part}", turn
    return {
        "conv": (f"{place}.weight", "conv"),
        "to_image": (f"{place}.weight", "conv"),
        "noise": (f"{place}.noise_strength", ""),
        "bias": (f"{place}.bias", ""),
        "image_bias": (f"{place}.bias", ""),
    }[kind]


def _of_discriminator(name):
    layer, leaf = name.split(".")
    part, turn = DENSE[leaf]
    named = {"from_image": "b8.fromrgb", "last": "b4.conv", "dense": "b4.fc", "judge": "b4.out"}
    if layer in named:
        turns = {"from_image": "conv", "last": "conv", "dense": "flat", "judge": "dense"}
        return f"{named[layer]}.{part}", turns[layer] if leaf == "kernel" else ""
    block, number = divmod(int(layer.removeprefix("Conv_")), 3)
    place = f"b{SIDES[block]}.{('skip', 'conv0', 'conv1')[number]}"
    return f"{place}.{part}", "conv" if leaf == "kernel" else ""


def _noise(variables):
    """The fixed noise of the published network."""

    def of(path, leaf):
        layer = int(path[-1].key.removeprefix("noise_"))
        name, _ = _of_synthesis(f"noise_{layer}")
        name = f"gen.{name.replace('noise_strength', 'noise_const')}"
        return jnp.asarray(references.unit(name, leaf.shape[:2]))[:, :, None]

    return jax.tree_util.tree_map_with_path(of, variables)


@pytest.mark.parametrize("case", ["conditional", pytest.param("plain", marks=pytest.mark.slow)])
def test_networks_and_gradients_are_those_published(case):
    classes = references.CASES[case]
    expected = published.expected("stylegan2", case)
    z, image, label = references.inputs()
    label = jnp.asarray(label) if classes else None
    gen = stylegan2.Generator(num_classes=classes, truncation=references.TRUNCATION, **SMALL)
    disc = stylegan2.Discriminator(widths=WIDTHS, num_classes=classes, mapping_layers=2)
    shapes = {
        "gen": jax.eval_shape(lambda key: gen.init(key, z, label, train=True), jax.random.key(0)),
        "disc": jax.eval_shape(
            lambda key: disc.init(key, image, label, train=True), jax.random.key(0)
        ),
    }
    gen_params, disc_params = (
        published.weights(player, tree["params"], _published, references.unit)
        for player, tree in shapes.items()
    )
    mean = jnp.asarray(references.unit("gen.mapping.w_avg", (5,)))
    fixed = {"noise": _noise(shapes["gen"]["noise"]), "stats": {"w_mean": mean}}

    def judge(params, x):
        return disc.apply({"params": params}, x, label, train=True)

    def make(params):
        return gen.apply({"params": params, **fixed}, z, label, train=False)

    @jax.jit
    def everything(gen_params, disc_params):
        def disc_loss(params):
            slope = jax.grad(lambda x: judge(params, x).sum())(image)
            r1 = jnp.square(slope).sum((1, 2, 3))
            loss = jax.nn.softplus(-judge(params, image)) + references.GAMMA / 2 * r1
            return loss.mean(), r1

        def gen_loss(params):
            return jax.nn.softplus(-judge(disc_params, make(params))).mean()

        return (
            make(gen_params),
            judge(disc_params, image),
            jax.grad(gen_loss)(gen_params),
            jax.grad(disc_loss, has_aux=True)(disc_params),
        )

    fake, logits, gen_grads, (disc_grads, r1) = everything(gen_params, disc_params)
    rtol = published.RTOL
    np.testing.assert_allclose(fake.ravel()[::7], expected["image"], rtol=rtol, atol=1e-4)
    np.testing.assert_allclose(logits, expected["logits"], rtol=rtol)
    np.testing.assert_allclose(r1, expected["r1"], rtol=rtol)
    published.assert_same_gradients("gen", gen_grads, _published, expected["gen"])
    published.assert_same_gradients("disc", disc_grads, _published, expected["disc"])


def _count(net, x):
    label = jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(lambda key: net.init(key, x, label, train=True), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_parameters_are_as_many_as_published():
    expected = published.expected("stylegan2", "parameters")
    for name, settings in references.STYLEGAN2_FULL.items():
        classes, side, (base, largest), size, layers = settings
        widths = stylegan2.default_widths((side, side), base=base, largest=largest)
        options = {"widths": widths, "num_classes": classes}
        gen = stylegan2.Generator(image_size=side, features=size, mapping_layers=layers, **options)
        disc = stylegan2.Discriminator(mapping_layers=layers, **options)
        found = [
            _count(gen, jnp.zeros((1, size))),
            _count(disc, jnp.zeros((1, side, side, 3))),
        ]
        assert found == expected[name]


@pytest.fixture(scope="module")
def small():
    """A generator, and variables in which all that starts at zero is not."""
    gen = stylegan2.Generator(mixing=0.0, **SMALL)
    z = jnp.zeros((4, 3))
    made = jax.jit(lambda key: gen.init(key, z, train=True))(jax.random.key(0))
    random = np.random.default_rng(0)
    return gen, jax.tree.map(lambda a: a + random.normal(0, 0.1, a.shape).astype(a.dtype), made)


def _latents(gen, variables, z, *, train, key=0, **options):
    net = gen.clone(**options)
    return net.apply(
        variables, z, train=train, rngs=jax.random.key(key), method="latents", mutable=["stats"]
    )


def test_w_has_a_running_mean_that_truncation_pulls_to(small):
    gen, variables = small
    z = jax.random.normal(jax.random.key(1), (4, 3))
    w, stats = _latents(gen, variables, z, train=True)
    before = variables["stats"]["w_mean"]
    expected = before * 0.995 + w[:, 0].mean(0) * 0.005
    np.testing.assert_allclose(stats["stats"]["w_mean"], expected, rtol=1e-5)
    full, kept = _latents(gen, variables, z, train=False)
    np.testing.assert_allclose(full, w, rtol=1e-5)
    np.testing.assert_array_equal(kept["stats"]["w_mean"], before)
    half, _ = _latents(gen, variables, z, train=False, truncation=0.5)
    np.testing.assert_allclose(half, (full + before[None, None]) / 2, rtol=1e-4, atol=1e-6)


def test_mixing_takes_the_later_layers_of_another_latent(small):
    gen, variables = small
    z = jax.random.normal(jax.random.key(1), (64, 3))
    w, _ = _latents(gen, variables, z, train=False)
    mixed, _ = _latents(gen, variables, z, train=True, mixing=0.5)
    own = np.isclose(mixed, w, atol=1e-6).all(-1)  # [64, 4]
    assert own[:, 0].all()  # the first layer is always the latent's own
    assert (np.diff(own.astype(int), axis=1) <= 0).all()  # from one layer on it is the other's
    assert 0.25 < 1 - own[:, -1].mean() < 0.75
    others = mixed[:, -1][~own[:, -1]]
    assert len(np.unique(np.round(others, 5), axis=0)) == len(others)  # each has one of its own


def test_noise_is_drawn_in_training_and_fixed_otherwise(small):
    gen, variables = small
    z = jax.random.normal(jax.random.key(1), (2, 3))

    @jax.jit
    def make(key):
        image, _ = gen.apply(variables, z, train=True, rngs=key, mutable=["stats"])
        return image, gen.apply(variables, z, train=False)  # which needs no key

    (drawn, fixed), (other, again) = make(jax.random.key(0)), make(jax.random.key(1))
    assert not np.allclose(drawn, other)
    np.testing.assert_array_equal(fixed, again)
    assert fixed.shape == (2, 8, 8, 3) and fixed.dtype == jnp.float32


def test_images_that_are_not_square_and_stages_in_bfloat16():
    options = {"widths": (8, 4), "dtype": jnp.bfloat16, "half_stages": 1}
    gen = stylegan2.Generator(image_size=(6, 10), channels=1, features=4, **options)
    disc = stylegan2.Discriminator(**options)
    z, image = jnp.ones((4, 3)), jnp.ones((4, 6, 10, 1))
    key = jax.random.key(0)
    for net, x, shape in ((gen, z, (4, 6, 10, 1)), (disc, image, (4,))):

        def run(variables, net=net, x=x):
            return net.apply(variables, x, train=True, rngs=key, mutable=["stats"])[0]

        variables = jax.eval_shape(functools.partial(net.init, train=True), key, x)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        text = str(jax.make_jaxpr(run)(variables))
        assert "bf16[4,6,10,4]" in text and "f32[4,3,5,8]" in text
        out = jax.eval_shape(run, variables)
        assert out.dtype == jnp.float32 and out.shape == shape


def test_what_cannot_be_made_is_refused():
    gen = stylegan2.Generator(**{**SMALL, "image_size": 9})
    with pytest.raises(UserError, match="an image of 9 x 9 cannot be made by 2 stages"):
        jax.eval_shape(lambda key: gen.init(key, jnp.ones((2, 4)), train=True), jax.random.key(0))
    gen = stylegan2.Generator(num_classes=3, **SMALL)
    with pytest.raises(UserError, match="needs labels"):
        jax.eval_shape(lambda key: gen.init(key, jnp.ones((2, 4)), train=True), jax.random.key(0))
