"""How labels reach a discriminator: planes of the image, a projection, a head of classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import conditions, dcgan, r3gan, stylegan2
from jaxgan.types import UserError

IMAGE = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
LABEL = jnp.array([0, 1, 2, 1])
DISCS = {
    "dcgan": lambda **given: dcgan.Discriminator(features=(4,), norm="none", **given),
    "r3gan": lambda **given: r3gan.Discriminator(widths=(8, 8), blocks=1, **given),
    "stylegan2": lambda **given: stylegan2.Discriminator(widths=(4, 4), mapping_layers=1, **given),
}


def _random(variables):
    """What starts at zero made random, so that it has an effect."""
    random = np.random.default_rng(0)
    # In NumPy: to add arrays of JAX compiles a program for every shape.
    return jax.tree.map(
        lambda a: np.asarray(a) + random.normal(0, 0.3, a.shape).astype(a.dtype), variables
    )


@pytest.mark.parametrize("name", DISCS)
def test_a_head_of_classes_names_every_label_and_needs_none(name):
    disc = DISCS[name](num_classes=3, head="class")
    init = functools.partial(disc.init, train=False)
    variables = _random(jax.jit(init)(jax.random.key(1), IMAGE))
    apply = jax.jit(functools.partial(disc.apply, train=True))
    out = apply(variables, IMAGE)
    assert out["logits"].shape == (4,) and out["class"].shape == (4, 3)
    assert out["logits"].dtype == out["class"].dtype == jnp.float32
    told = apply(variables, IMAGE, LABEL)
    np.testing.assert_array_equal(told["class"], out["class"])
    with pytest.raises(UserError, match='head "classes" is not one of'):
        DISCS[name](num_classes=3, head="classes").init(jax.random.key(1), IMAGE, train=False)


def test_label_planes_tell_labels_apart_and_leave_the_discriminator_as_it_is():
    disc = conditions.LabelPlanes(DISCS["dcgan"](), 3)
    variables = disc.init(jax.random.key(1), IMAGE, LABEL, train=False)
    same = jnp.broadcast_to(IMAGE[:1], IMAGE.shape)
    logits = disc.apply(variables, same, LABEL, train=True)
    assert logits.shape == (4,) and len({float(x) for x in logits}) == 3
    np.testing.assert_allclose(logits[1], logits[3], rtol=1e-6)
    first = variables["params"]["disc"]["Conv_0"]["kernel"]
    assert first.shape[2] == 3 + 3  # colours and planes
    with pytest.raises(UserError, match="needs labels"):
        disc.apply(variables, IMAGE, train=True)


NETS = {
    "dcgan": (
        lambda **given: dcgan.Generator(image_size=8, features=(4, 4), **given),
        DISCS["dcgan"],
    ),
    "r3gan": (
        lambda **given: r3gan.Generator(image_size=8, widths=(8, 8), blocks=1, **given),
        DISCS["r3gan"],
    ),
    "stylegan2": (
        lambda **given: stylegan2.Generator(
            image_size=8, widths=(4, 4), features=4, mapping_layers=1, **given
        ),
        DISCS["stylegan2"],
    ),
}


# The generator of StyleGAN2 is the largest of these programs, and compiled twice.
PAIRS = [(name, player) for name in NETS for player in (0, 1) if (name, player) != ("stylegan2", 0)]


@pytest.mark.parametrize(
    ("name", "player"), [*PAIRS, pytest.param("stylegan2", 0, marks=pytest.mark.slow)]
)
def test_rematerialised_networks_have_the_same_parameters_values_and_gradients(name, player):
    x = (jnp.ones((4, 4)), IMAGE)[player]
    plain, kept = (NETS[name][player](remat=remat) for remat in (False, True))
    key = jax.random.key(2)
    inits = [functools.partial(net.init, train=False) for net in (plain, kept)]
    variables = _random(jax.jit(inits[0])(key, x))
    shapes = [jax.eval_shape(init, key, x) for init in inits]
    assert shapes[0] == shapes[1]

    def value(net, params):
        out, stats = net.apply(
            {**variables, "params": params},
            x,
            train=True,
            rngs=key,
            mutable=[name for name in variables if name != "params"],
        )
        return jnp.square(out).sum(), stats

    found = [
        jax.jit(jax.value_and_grad(lambda p, net=net: value(net, p), has_aux=True))(
            variables["params"]
        )
        for net in (plain, kept)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)
