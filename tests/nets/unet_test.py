"""pix2pix's U-Net against the published one; the restoring U-Net: any size, no checkerboards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import unet
from jaxgan.steps import adaptors
from jaxgan.types import UserError
from tests.nets import editing_references, published, references

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (2, 8, 8, 3), minval=-1.0)
TINY = {"widths": (4, 6, 8), "channels": 3}


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    del player
    layer, kind = name.split(".")
    up, _, rest = layer.partition("_")
    inmost = editing_references.HALVINGS - 1
    if layer == "to_image":
        level, at = 0, 3
    else:
        number, _, norm = rest.partition("_")
        level = int(number) + (up == "up")
        first = (0 if level == 0 else 1) if up == "down" else 3 if level == inmost else 5
        at = first + bool(norm)
    place = "model" if level == 0 else "model.model.1" + ".model.3" * (level - 1)
    turn = "" if kind != "kernel" else "conv" if up == "down" else "transposed conv"
    return f"{place}.model.{at}.{'bias' if kind == 'bias' else 'weight'}", turn


def _translator(norm):
    """The U-Net with the published weights: parameters -> images."""
    width = editing_references.UNET_WIDTH
    widths = [width * min(2**i, 8) for i in range(editing_references.HALVINGS)]
    net = unet.Generator(widths=widths, norm=norm, dropout=0.0)
    image = editing_references.image(editing_references.UNET_SIDE)
    shapes = jax.eval_shape(lambda: net.init(KEY, image, train=True))
    params = published.weights("unet", shapes["params"], _published, references.weight)
    stats = jax.tree.map(lambda x: jnp.zeros(x.shape), dict(shapes, params={}))

    def translate(params):
        return net.apply({**stats, "params": params}, image, train=True, mutable=[*stats])[0]

    return translate, params


@pytest.mark.parametrize("norm", editing_references.UNET_NORMS)
def test_images_are_those_published(norm):
    translate, params = _translator(norm)
    made = jax.jit(translate)(params)
    expected = published.expected("pix2pix", f"unet {norm}")
    np.testing.assert_allclose(
        editing_references.some(made), expected["made"], rtol=published.RTOL, atol=1e-5
    )


@pytest.mark.slow  # to compile the gradients of twelve layers takes 10 s
@pytest.mark.parametrize("norm", editing_references.UNET_NORMS)
def test_gradients_are_those_published(norm):
    translate, params = _translator(norm)
    grads = jax.jit(jax.grad(lambda p: jax.nn.softplus(-translate(p)).mean()))(params)
    expected = published.expected("pix2pix", f"unet {norm}")
    published.assert_same_gradients("unet", grads, _published, expected["grads"])


def test_parameters_are_as_many_as_published():
    image = jnp.zeros((1, 256, 256, 3))
    shapes = jax.eval_shape(lambda: unet.Generator().init(KEY, image, train=True))["params"]
    expected = published.expected("pix2pix", "parameters")["unet"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected == 54_413_955


@pytest.mark.parametrize("make", [unet.Generator, unet.Restorer])
@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5), (33, 2), (1, 1)])
def test_any_height_and_width_will_do(make, size):
    image = jnp.zeros((2, *size, 3))
    made, _ = jax.eval_shape(lambda: make(**TINY).init_with_output(KEY, image, train=True))
    assert made.shape == image.shape and made.dtype == jnp.float32


def test_enlarged_maps_leave_no_checkerboard():
    def uneven(up):
        net = unet.Generator(widths=(4, 6), up=up, norm="none", dropout=0.0)
        variables = published.random_variables(net, IMAGE)
        constant = jnp.full((1, 32, 32, 3), 0.5)
        made = np.asarray(jax.jit(lambda v: net.apply(v, constant, train=False))(variables))
        return np.ptp(made[0, 12:20, 12:20], axis=(0, 1)).max()  # far from the edges

    assert uneven("bilinear") < 1e-5 and uneven("transposed") > 1e-2


@pytest.mark.parametrize("make", [unet.Generator, unet.Restorer])
def test_bfloat16_leaves_parameters_and_images_float32(make):
    net = make(**TINY, dtype=jnp.bfloat16)
    made, variables = jax.eval_shape(lambda: net.init_with_output(KEY, IMAGE, train=True))
    assert made.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("make", [unet.Generator, unet.Restorer])
def test_bfloat16_images_are_near_those_of_float32(make):
    net = make(widths=(4, 6))
    variables = published.random_variables(net, IMAGE)
    apply = jax.jit(
        lambda v, half: net.clone(dtype=half).apply(v, IMAGE, train=False), static_argnums=1
    )
    np.testing.assert_allclose(
        apply(variables, jnp.float32), apply(variables, jnp.bfloat16), atol=0.1
    )


@pytest.mark.parametrize("make", [unet.Generator, unet.Restorer])
def test_rematerialised_layers_give_the_same_numbers(make):
    own = {"widths": (2, 3), "dropout": 0.0} if make is unet.Generator else {"widths": (2,)}
    results = []
    for remat in (False, True):
        net = make(**own, remat=remat)
        variables = published.random_variables(net, IMAGE)

        def loss(variables, net=net):
            y, new = net.apply(variables, IMAGE, train=True, mutable=["batch_stats"])
            return jnp.square(y).sum(), new

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


def test_dropout_is_noise_in_training_alone():
    net = unet.Generator(**TINY, norm="none")
    variables = published.random_variables(net, IMAGE)

    @functools.partial(jax.jit, static_argnums=1)
    def made(key, train):
        return net.apply(variables, IMAGE, train=train, rngs={"dropout": key})

    keys = jax.random.split(KEY)
    assert not np.allclose(made(keys[0], True), made(keys[1], True))
    np.testing.assert_array_equal(made(keys[0], False), made(keys[1], False))


@pytest.mark.parametrize("channels, seen", [(3, 3), (3, 1), (1, 1), (3, 4)])
def test_restorer_starts_as_the_image_it_sees(channels, seen):
    net = unet.Restorer(channels=channels, widths=(4,), blocks=1)
    image = jnp.tile(IMAGE, (1, 1, 1, 2))[..., :seen]
    made, _ = jax.jit(lambda: net.init_with_output(KEY, image, train=True))()
    expected = jnp.broadcast_to(image[..., : min(seen, channels)], (2, 8, 8, channels))
    np.testing.assert_array_equal(made, expected)


def test_restorer_makes_no_checkerboards_whatever_its_weights():
    net = unet.Restorer(channels=1, widths=(4, 4, 4), blocks=1)
    image = jnp.full((1, 96, 96, 1), 0.3)
    made = jax.jit(lambda: net.apply(published.random_variables(net, image), image, train=False))()
    inside = made[:, 40:56, 40:56]  # no pixel of it sees the edge
    assert abs(inside.mean() - 0.3) > 1e-2
    np.testing.assert_allclose(inside, jnp.full_like(inside, inside.mean()), atol=1e-5)


def test_folded_restorer_is_as_large_and_starts_the_same():
    image = IMAGE[:, :7, :5]
    net = unet.Restorer(channels=3, widths=(4,), blocks=1, fold=2)
    made, _ = jax.jit(lambda: net.init_with_output(KEY, image, train=True))()
    np.testing.assert_array_equal(made, image)


def test_restorer_refuses_two_channels_for_three():
    net = unet.Restorer(widths=(4, 4))
    with pytest.raises(UserError, match="use channels=2"):
        jax.eval_shape(lambda: net.init(KEY, jnp.zeros((1, 4, 4, 2)), train=True))


def test_players_of_a_game_call_it():
    net = unet.Generator(**TINY)
    variables = jax.eval_shape(lambda: net.init(KEY, IMAGE, train=True))
    gen = adaptors.from_entry(net, "source", "image")
    made, stats = jax.eval_shape(lambda v: gen(KEY, v, {"source": IMAGE}), variables)
    assert made["image"].shape == IMAGE.shape and stats.keys() == {"batch_stats"}
