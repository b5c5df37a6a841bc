"""CycleGAN's generator, CUT's encoder: as published. Players of several networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses, translate
from jaxgan.nets import patch, translators
from jaxgan.types import UserError
from tests.nets import editing_references, published, references

KEY = jax.random.key(0)
IMAGE = jnp.asarray(editing_references.image(editing_references.RESNET_SIDE))
TINY = functools.partial(translators.Generator, width=4, blocks=2)


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    del player
    layer, kind = name.split(".")
    blocks = editing_references.RESNET[1]
    first, *rest = layer.split("_")
    after = 10 + blocks
    if layer == "to_image":
        place = f"{after + 7}"
    elif first == "block":
        place = f"{9 + int(rest[0])}.conv_block.{1 if rest[1] == '1' else 5}"
    else:
        at = {"first": 1, "down_1": 4, "down_2": 7, "up_1": after, "up_0": after + 3}
        place = f"{at[layer]}"
    turn = "" if kind != "kernel" else "transposed conv" if first == "up" else "conv"
    return f"model.{place}.{'bias' if kind == 'bias' else 'weight'}", turn


@functools.cache
def _translator():
    width, blocks = editing_references.RESNET
    net = translators.Generator(width=width, blocks=blocks)
    shapes = jax.eval_shape(lambda: net.init(KEY, IMAGE, train=True))["params"]
    return net, published.weights("resnet", shapes, _published, references.weight)


def test_images_and_what_the_encoder_sees_are_those_published():
    net, params = _translator()

    @jax.jit
    def both(params):
        apply = functools.partial(net.apply, {"params": params}, IMAGE, train=True)
        return apply(), apply(encoded=True)

    made, seen = both(params)
    close = functools.partial(np.testing.assert_allclose, rtol=published.RTOL, atol=1e-5)
    close(editing_references.some(made), published.expected("cyclegan", "resnet")["made"])
    assert len(seen) == 5
    np.testing.assert_array_equal(seen[0], IMAGE)
    for ours, theirs in zip(seen[1:], published.expected("cyclegan", "encoded"), strict=True):
        close(editing_references.some(ours), theirs)


@pytest.mark.slow  # to compile the gradients of eleven layers takes 10 s
def test_gradients_are_those_published():
    net, params = _translator()

    def loss(params):
        return jax.nn.softplus(-net.apply({"params": params}, IMAGE, train=True)).mean()

    grads = jax.jit(jax.grad(loss))(params)
    expected = published.expected("cyclegan", "resnet")["grads"]
    published.assert_same_gradients("resnet", grads, _published, expected)


def test_a_residual_network_begins_with_a_copy():
    net = TINY(residual=True)
    variables = jax.jit(functools.partial(net.init, train=False))(KEY, IMAGE)
    np.testing.assert_array_equal(net.apply(variables, IMAGE, train=False), IMAGE)


def test_parameters_are_as_many_as_published():
    image = jnp.zeros((1, 128, 128, 3))
    nets = {
        "resnet": translators.Generator(),
        "patch": patch.Discriminator(norm="instance"),
    }
    for name, net in nets.items():
        shapes = jax.eval_shape(functools.partial(net.init, train=False), KEY, image)["params"]
        count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        assert count == published.expected("cyclegan", "parameters")[name]
    assert published.expected("cyclegan", "parameters") == {
        "resnet": 11_378_179,
        "patch": 2_764_737,
    }


@pytest.mark.parametrize("up", ["transposed", "bilinear"])
def test_any_size_will_do(up):
    net = TINY(up=up)
    image = jnp.zeros((1, 13, 18, 3))
    shape = jax.eval_shape(lambda: net.init_with_output(KEY, image, train=False))[0]
    assert shape.shape == (1, 13, 18, 3)


def test_an_unknown_way_to_double_is_named():
    with pytest.raises(UserError, match='up "nearest" is not one of transposed, bilinear'):
        jax.eval_shape(lambda: TINY(up="nearest").init(KEY, IMAGE, train=False))


def test_a_border_is_a_mirror():
    x = jnp.arange(4.0).reshape(1, 1, 4, 1) + jnp.zeros((1, 4, 4, 1))
    row = translators.reflected(x, 2)[0, 3, :, 0]
    np.testing.assert_array_equal(row, [2, 1, 0, 1, 2, 3, 2, 1])


def test_patches_of_two_images_are_of_the_same_places_and_of_length_one():
    maps = [jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)), jnp.float32)] * 2
    net = translators.PatchProjection(num=7, features=6)
    variables = net.init(KEY, maps, jax.random.key(1))
    ours, theirs = (net.apply(variables, maps, jax.random.key(2)) for _ in range(2))
    assert [x.shape for x in ours] == [(2, 7, 6)] * 2
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(jnp.linalg.norm(a, axis=-1), 1, rtol=1e-5)
    few = net.apply(variables, [x[:, :1] for x in maps], jax.random.key(2))
    assert few[0].shape == (2, 5, 6)  # all there are


def test_a_player_of_two_generators_goes_both_ways_and_back():
    net = translators.BothWays(TINY(), TINY())
    variables = jax.jit(functools.partial(net.init, train=False))(KEY, IMAGE, -IMAGE)
    assert set(variables["params"]) == {"ab", "ba"}
    made = jax.jit(functools.partial(net.apply, train=False))(variables, IMAGE, -IMAGE)
    assert set(made) == {"a", "b", "cycle_a", "cycle_b", "identity_a", "identity_b"}
    for direction, image, key in (("ab", IMAGE, "b"), ("ba", -IMAGE, "a")):
        one = translate.Translator(translators.Directed(TINY(), TINY(), direction))
        picture = translate.translate(one, variables, np.asarray(image[0]))
        np.testing.assert_allclose(picture, made[key][0], atol=1e-5)


def test_cuts_player_has_patches_of_what_it_made_and_of_what_it_saw():
    net = translators.Contrasted(TINY(), translators.PatchProjection(num=5, features=6))
    variables = jax.eval_shape(functools.partial(net.init, train=False), KEY, IMAGE, IMAGE)
    assert set(variables["params"]) == {"ab", "project"}
    apply = functools.partial(net.apply, train=True, rngs=KEY)
    made = jax.eval_shape(apply, variables, IMAGE, IMAGE)
    assert set(made) == {"b", "patches", "identity"} and made["b"].shape == IMAGE.shape
    query, positive = made["patches"]
    assert [x.shape for x in query] == [x.shape for x in positive] == [(2, 5, 6)] * 5


def test_contrast_is_the_cross_entropy_of_finding_the_own_patch():
    random = np.random.default_rng(0)
    query, positive = random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    found = losses.patch_nce(jnp.asarray(query), jnp.asarray(positive), temperature=0.5)
    for n in range(3):
        likeness = np.exp(query[n] @ positive[n].T / 0.5)
        expected = -np.log(np.diagonal(likeness) / likeness.sum(1)).mean()
        np.testing.assert_allclose(found[n], expected, rtol=1e-5)
    # No gradient goes to the patches of the image.
    grad = jax.grad(lambda p: losses.patch_nce(jnp.asarray(query), p).sum())(jnp.asarray(positive))
    np.testing.assert_array_equal(grad, 0)
