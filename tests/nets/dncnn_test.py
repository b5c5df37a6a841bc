"""DnCNN against the published one without batch norm; folds; any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import dncnn
from tests.nets import editing_references, published, references

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (2, 7, 6, 3), minval=-1.0)
TINY = {"width": 4, "depth": 3}


def _published(player, name):
    """The published name of a parameter, and how its axes are turned there."""
    del player
    layer, kind = name.split(".")
    depth = editing_references.DNCNN[1]
    at = depth - 1 if layer == "correct" else int(layer.removeprefix("Conv_"))
    suffix, turn = ("weight", "conv") if kind == "kernel" else ("bias", "")
    return f"model.{2 * at}.{suffix}", turn


def _turned_round(params):
    """The last layer with the other sign: what is published is subtracted."""
    return {**params, "correct": jax.tree.map(jnp.negative, params["correct"])}


def test_images_and_gradients_are_those_published():
    channels, depth, width = editing_references.DNCNN
    net = dncnn.Restorer(channels, width, depth)
    image = editing_references.image(editing_references.SIDE, channels)
    shapes = jax.eval_shape(lambda: net.init(KEY, image, train=True))["params"]
    params = published.weights("dncnn", shapes, _published, references.weight)

    @functools.partial(jax.grad, has_aux=True)
    def loss(params):
        made = net.apply({"params": _turned_round(params)}, image, train=True)
        return jax.nn.softplus(-made).mean(), made

    grads, made = jax.jit(loss)(params)
    expected = published.expected("kair", "dncnn")
    np.testing.assert_allclose(
        editing_references.some(made), expected["made"], rtol=published.RTOL, atol=1e-5
    )
    published.assert_same_gradients("dncnn", grads, _published, expected["grads"])


def test_parameters_are_as_many_as_published():
    image = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(lambda: dncnn.Restorer(1).init(KEY, image, train=True))
    expected = published.expected("kair", "parameters")["dncnn"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected == 555_137


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_it_starts_as_the_image_it_sees(fold):
    net = dncnn.Restorer(**TINY, fold=fold)
    made, _ = jax.jit(lambda: net.init_with_output(KEY, IMAGE, train=True))()
    np.testing.assert_array_equal(made, IMAGE)


@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_any_height_and_width_will_do_in_either_precision(fold, size):
    net = dncnn.Restorer(**TINY, fold=fold, dtype=jnp.bfloat16)
    image = jnp.zeros((2, *size, 3))
    made, variables = jax.eval_shape(lambda: net.init_with_output(KEY, image, train=True))
    assert made.shape == image.shape
    assert {x.dtype for x in jax.tree.leaves((made, variables))} == {jnp.dtype("float32")}
