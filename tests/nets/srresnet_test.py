"""SRResNet against EDSR as published; bicubic and nearest neighbour starts; any size."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxgan.nets import srresnet
from jaxgan.types import UserError
from tests.nets import editing_references, published, references

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (2, 5, 7, 3), minval=-1.0)
TINY = {"width": 4, "blocks": 1}


def _published(scale, blocks, player, name):
    """The published name of a parameter, and how its axes are turned there."""
    del player
    *layer, kind = name.split(".")
    if block := re.fullmatch(r"block_(\d+)", layer[0]):
        at = f"1.sub.{block[1]}.res.{2 * int(layer[1].removeprefix('Conv_'))}"
    elif up := re.fullmatch(r"up_(\d+)", layer[0]):
        at = str(2 + 2 * int(up[1]))
    else:
        last = 2 + 2 * len(srresnet.STEPS[scale])
        at = {"first": "0", "join": f"1.sub.{blocks}", "to_image": str(last)}[layer[0]]
    shuffled = f"shuffled {srresnet.STEPS[scale][0]}" if layer[0].startswith("up") else ""
    turn = shuffled or ("conv" if kind == "kernel" else "")
    return f"{at}.{'weight' if kind == 'kernel' else 'bias'}", turn


@pytest.mark.parametrize("scale", editing_references.EDSR_SCALES)
def test_images_and_gradients_are_those_published(scale):
    blocks, width = editing_references.EDSR
    net = srresnet.Generator(scale, width=width, blocks=blocks, bicubic=False)
    names = functools.partial(_published, scale, blocks)
    image = editing_references.image(editing_references.SIDE)
    shapes = jax.eval_shape(lambda: net.init(KEY, image, train=True))["params"]
    params = published.weights("edsr", shapes, names, references.weight)

    @functools.partial(jax.grad, has_aux=True)
    def loss(params):
        made = net.apply({"params": params}, image, train=True)
        return jax.nn.softplus(-made).mean(), made

    grads, made = jax.jit(loss)(params)
    expected = published.expected("kair", f"edsr {scale}")
    np.testing.assert_allclose(
        editing_references.some(made), expected["made"], rtol=published.RTOL, atol=1e-5
    )
    published.assert_same_gradients("edsr", grads, names, expected["grads"])


def test_parameters_are_as_many_as_published():
    shapes = jax.eval_shape(lambda: srresnet.Generator().init(KEY, IMAGE, train=True))
    expected = published.expected("kair", "parameters")["edsr"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected == 1_517_571


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_starts_as_the_bicubic_enlargement_of_pillow(scale, direct):
    net = srresnet.Generator(scale, channels=1, **TINY, direct=direct)
    image = IMAGE[..., :1]
    made, _ = jax.jit(lambda: net.init_with_output(KEY, image, train=True))()
    size = (7 * scale, 5 * scale)
    for ours, seen in zip(made, image, strict=True):
        picture = PIL.Image.fromarray(np.asarray(seen[..., 0]))
        theirs = picture.resize(size, PIL.Image.Resampling.BICUBIC)
        np.testing.assert_allclose(ours[..., 0], np.asarray(theirs), atol=1e-5)


@pytest.mark.parametrize("direct", [False, True])
def test_each_step_of_the_enlargement_starts_as_nearest_neighbour(direct):
    net = srresnet.Generator(3, **TINY, bicubic=False, direct=direct)
    made, _ = jax.jit(lambda: net.init_with_output(KEY, jnp.ones((1, 7, 7, 3)), train=True))()
    assert np.ptp(np.asarray(made)) > 0
    # Away from the edge, where zeros lie beyond, nothing changes from pixel to pixel.
    inside = made[:, 9:12, 9:12] if direct else made[:, 10:11, 10:11]
    np.testing.assert_allclose(inside, jnp.broadcast_to(inside[:, :1, :1], inside.shape), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_any_height_and_width_will_do_in_either_precision(scale, size):
    net = srresnet.Generator(scale, **TINY, dtype=jnp.bfloat16)
    image = jnp.zeros((2, *size, 3))
    made, variables = jax.eval_shape(lambda: net.init_with_output(KEY, image, train=True))
    assert made.shape == (2, scale * size[0], scale * size[1], 3)
    assert {x.dtype for x in jax.tree.leaves((made, variables))} == {jnp.dtype("float32")}


def test_bfloat16_images_are_near_those_of_float32():
    net = srresnet.Generator(2, **TINY)
    variables = published.random_variables(net, IMAGE)
    single, half = (
        jax.jit(functools.partial(net.clone(dtype=dtype).apply, train=False))(variables, IMAGE)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_allclose(single, half, atol=0.1)


def test_rematerialised_blocks_give_the_same_numbers():
    results = []
    for remat in (False, True):
        net = srresnet.Generator(2, **TINY, direct=True, remat=remat)
        variables = published.random_variables(net, IMAGE)

        def loss(variables, net=net):
            return jnp.square(net.apply(variables, IMAGE, train=True)).sum()

        results.append(jax.jit(jax.value_and_grad(loss))(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


def test_there_is_no_scale_of_five():
    with pytest.raises(UserError, match="scale 5 is not one of 2, 3, 4"):
        jax.eval_shape(lambda: srresnet.Generator(5).init(KEY, IMAGE, train=True))
