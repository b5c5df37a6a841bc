"""Layers against Flax's of the same name: parameters, values, gradients, running statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import types
from jaxgan.nets import dcgan, layers

KEY = jax.random.key(0)


def _close(ours, theirs, tolerance=3e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = 1 + float(jnp.abs(b).max())
        np.testing.assert_allclose(a.astype(float), b.astype(float), atol=tolerance * scale)


def _value_and_grads(module, variables, x, **kwargs):
    def loss(variables, x):
        y = module.apply(variables, x, **kwargs)
        return jnp.sin(y.astype(jnp.float32)).sum(), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, x)


@pytest.mark.parametrize(
    "kernel,strides,padding",
    [
        (4, 2, "SAME"),
        (4, 2, "VALID"),
        ((2, 3), (1, 2), ((1, 2), (0, 1))),
        (1, 3, "SAME"),
        (3, 1, 1),
        # `conv_test` draws windows, too.
        pytest.param(5, 2, "SAME", marks=pytest.mark.slow),
        pytest.param(2, 3, "VALID", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_convolutions_are_flaxs(name, kernel, strides, padding):
    x = jax.random.normal(KEY, (2, 7, 6, 3))
    ours = getattr(layers, name)(4, kernel, strides, padding)
    pair = [(n, n) if isinstance(n, int) else n for n in (kernel, strides)]
    theirs = getattr(nn, name)(4, *pair, padding)
    variables = jax.jit(theirs.init)(KEY, x)
    _close(jax.jit(ours.init)(KEY, x), variables, tolerance=0)
    variables = jax.tree.map(lambda v: np.asarray(v) + np.float32(0.1), variables)  # a bias not 0
    _close(_value_and_grads(ours, variables, x), _value_and_grads(theirs, variables, x))


def test_groups_dtypes_and_no_bias_are_flaxs():
    x = jax.random.normal(KEY, (2, 6, 6, 4))
    options = dict(use_bias=False, dtype=jnp.bfloat16, kernel_init=nn.initializers.normal(0.02))
    for ours, theirs in (
        (layers.Conv(6, 3, feature_group_count=2), nn.Conv(6, (3, 3), feature_group_count=2)),
        (layers.Conv(6, 3, **options), nn.Conv(6, (3, 3), **options)),
        (layers.ConvTranspose(6, 4, 2, **options), nn.ConvTranspose(6, (4, 4), (2, 2), **options)),
    ):
        variables = jax.jit(theirs.init)(KEY, x)
        _close(jax.jit(ours.init)(KEY, x), variables, tolerance=0)
        outputs = [jax.jit(net.apply)(variables, x) for net in (ours, theirs)]
        _close(*outputs, tolerance=1e-2)


def test_a_padding_that_does_not_exist_is_named():
    with pytest.raises(types.UserError, match='padding "SAM".*did you mean "SAME"'):
        layers.Conv(3, 3, padding="SAM").init(KEY, jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(types.UserError, match='padding "CIRCULAR"'):
        layers.ConvTranspose(3, 3, padding="CIRCULAR").init(KEY, jnp.zeros((1, 4, 4, 1)))


NORMS = {
    "batch": nn.BatchNorm(use_running_average=False, momentum=0.9),
    "group": nn.GroupNorm(num_groups=4, epsilon=1e-5),
    "layer": nn.LayerNorm(epsilon=1e-5, reduction_axes=(1, 2, 3), feature_axes=-1),
}


@pytest.mark.parametrize(
    ("kind", "slope"),  # what is averaged and the activation do not know of each other
    [("batch", None), ("batch", 0.2), ("group", 0.0), ("layer", None), ("layer", 0.2)],
)
def test_norms_are_flaxs_up_to_the_second_derivative(kind, slope):
    x = 2 * jax.random.normal(KEY, (6, 5, 3, 8)) + 1
    norm = layers.Norm(kind, num_groups=4, slope=slope)
    variables = norm.init(KEY, x, True)
    _close(variables, NORMS[kind].init(KEY, x))
    keys = jax.random.split(KEY, 2)
    params = {
        n: v + 0.3 * jax.random.normal(k, v.shape)
        for k, (n, v) in zip(keys, variables["params"].items(), strict=True)
    }

    def ours(params, x):
        return norm.apply({**variables, "params": params}, x, True, mutable="batch_stats")

    def theirs(params, x):
        y, stats = NORMS[kind].apply({**variables, "params": params}, x, mutable="batch_stats")
        return (y if slope is None else nn.leaky_relu(y, slope)), stats

    def derivatives(apply):
        def first(params, x):
            return jax.grad(lambda p, x: jnp.sin(apply(p, x)[0]).sum(), (0, 1))(params, x)

        def penalty(params, x):
            return sum(jnp.square(d).sum() for d in jax.tree.leaves(first(params, x)))

        return jax.jit(lambda p, x: (apply(p, x), first(p, x), jax.grad(penalty, (0, 1))(p, x)))

    _close(derivatives(ours)(params, x), derivatives(theirs)(params, x), tolerance=3e-4)


@pytest.mark.parametrize(("kind", "slope"), [("batch", 0.2), ("group", None), ("layer", 0.0)])
def test_norms_have_flaxs_derivatives_forward_in_reverse_and_mixed(kind, slope):
    x, v = jax.random.normal(KEY, (2, 3, 2, 2, 8))
    norm = layers.Norm(kind, num_groups=4, slope=slope)
    variables = norm.init(KEY, x, True)

    def ours(x):
        return jnp.sin(norm.apply(variables, x, True, mutable="batch_stats")[0]).sum()

    def theirs(x):
        y, _ = NORMS[kind].apply(variables, x, mutable="batch_stats")
        return jnp.sin(y if slope is None else nn.leaky_relu(y, slope)).sum()

    @jax.jit
    def derivatives(x, v):
        first, second = _ways_to_first_and_second(ours, x, v)
        tangent, product = _ways_to_first_and_second(theirs, x, v)
        along = jax.vmap(lambda x, v: jax.jvp(ours, (x,), (v,))[1])
        first.append(along(x[None], v[None])[0])
        return (first, second), ([tangent[0]] * 4, [product[0]] * 3)

    _close(*derivatives(x, v), tolerance=3e-4)


def _ways_to_first_and_second(value, x, v):
    """The slope along v and the Hessian's product with v, in reverse, forward and mixed."""

    def along(x):
        return jax.jvp(value, (x,), (v,))[1]

    def dot(tree):
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, tree, v)))

    first = [dot(jax.grad(value)(x)), along(x), jax.linearize(value, x)[1](v)]
    second = [
        jax.grad(lambda x: dot(jax.grad(value)(x)))(x),
        jax.jvp(jax.grad(value), (x,), (v,))[1],
        jax.grad(along)(x),
    ]
    return first, second


@pytest.mark.slow  # to compile two networks and three ways takes 4 s; the layers are tried alone
def test_a_hessian_vector_product_of_a_dcgan_loss_is_the_gradient_of_a_product():
    gen = dcgan.Generator(image_size=8, width=2)
    disc = dcgan.Discriminator(width=2, norm="group")
    z, image = jnp.ones((2, 3)) * jnp.array([[1.0], [-0.5]]), jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(lambda: (gen.init(KEY, z, train=False), disc.init(KEY, image, train=False)))
    gen_variables, disc_variables = variables()
    stats = gen_variables["batch_stats"]

    def loss(params):
        fake, _ = gen.apply(
            {"params": params[0], "batch_stats": stats}, z, train=True, mutable="batch_stats"
        )
        return jax.nn.softplus(-disc.apply({"params": params[1]}, fake, train=True)).mean()

    params = jax.tree.map(lambda p: 5 * p, (gen_variables["params"], disc_variables["params"]))
    v = jax.tree.map(jnp.cos, params)
    first, second = jax.jit(functools.partial(_ways_to_first_and_second, loss))(params, v)
    _close(first, [first[0]] * 3, tolerance=1e-4)
    _close(second, [second[0]] * 3, tolerance=1e-4)
    assert max(jnp.abs(p).max() for p in jax.tree.leaves(second)) > 1e-3


def test_statistics_have_the_derivative_of_a_mean_and_a_variance():
    x, v = jax.random.normal(KEY, (2, 4, 3, 5))
    norm = layers.Norm("batch", momentum=0.0)
    variables = norm.init(KEY, x, True)

    def stats(x):
        return norm.apply(variables, x, True, mutable="batch_stats")[1]["batch_stats"]

    _, ours = jax.jvp(stats, (x,), (v,))
    _, theirs = jax.jvp(lambda x: {"mean": x.mean((0, 1)), "var": x.var((0, 1))}, (x,), (v,))
    _close(ours, theirs)


def test_without_train_the_running_statistics_are_used_and_kept():
    x = jax.random.normal(KEY, (6, 8))
    norm, variables = layers.Norm("batch"), layers.Norm("batch").init(KEY, x, True)
    _, variables = norm.apply(variables, x, True, mutable="batch_stats")
    params = {"scale": jnp.full(8, 2.0), "bias": jnp.ones(8)}
    y, after = norm.apply({**variables, "params": params}, x, False, mutable="batch_stats")
    _close(after, variables)
    stats = variables["batch_stats"]
    _close(y, (x - stats["mean"][None]) / jnp.sqrt(stats["var"][None] + 1e-5) * 2 + 1)


def test_no_norm_has_no_parameters_and_still_activates():
    x = jnp.array([[-1.0, 2.0]])
    assert layers.Norm("none", slope=0.2).init(KEY, x, True) == {}
    _close(layers.Norm("none", slope=0.2).apply({}, x, True), jnp.array([[-0.2, 2.0]]))
    _close(layers.Norm("none").apply({}, x, True), x)


def test_an_unknown_norm_and_groups_that_do_not_divide_are_named():
    x = jnp.zeros((2, 4, 4, 6))
    with pytest.raises(types.UserError, match='norm "bach".*did you mean "batch"'):
        layers.Norm("bach").init(KEY, x, True)
    with pytest.raises(types.UserError, match="num_groups 4 does not divide 6 channels"):
        layers.Norm("group", num_groups=4).init(KEY, x, True)


def test_in_bfloat16_statistics_and_parameters_stay_float32():
    x = jax.random.normal(KEY, (64, 8)) + 100  # bfloat16 sums of these would be far off
    norm = layers.Norm("batch", momentum=0.0, dtype=jnp.bfloat16, slope=0.2)
    variables = norm.init(KEY, x, True)
    y, after = norm.apply(variables, x.astype(jnp.bfloat16), True, mutable="batch_stats")
    assert y.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves((variables, after))} == {jnp.dtype(jnp.float32)}
    mean = x.astype(jnp.bfloat16).astype(jnp.float32).mean(0)
    _close(after["batch_stats"]["mean"], mean, tolerance=1e-6)


def _norm_step(norm, variables):
    def apply(x):
        def loss(x):
            y, stats = norm.apply(variables, x, True, mutable="batch_stats")
            return jnp.sin(y).sum(), (y, stats)

        return jax.grad(loss, has_aux=True)(x)

    return apply


def test_under_pmap_with_an_axis_name_the_batch_is_everyones():
    x = 3 * jax.random.normal(KEY, (8, 2, 3, 3, 4)) + 1
    norm = layers.Norm("batch", axis_name="data", slope=0.2)
    variables = norm.init(KEY, x[0], True)
    grads, (y, stats) = jax.pmap(_norm_step(norm, variables), axis_name="data")(x)
    whole = jax.jit(_norm_step(layers.Norm("batch", slope=0.2), variables))
    whole_grads, (whole_y, whole_stats) = whole(x.reshape(16, 3, 3, 4))
    _close(np.asarray(y).reshape(16, 3, 3, 4), np.asarray(whole_y))
    _close(np.asarray(grads).reshape(16, 3, 3, 4), np.asarray(whole_grads))
    for shards, one in zip(jax.tree.leaves(stats), jax.tree.leaves(whole_stats), strict=True):
        _close(np.asarray(shards), np.broadcast_to(one, shards.shape))


class Tower(nn.Module):
    """One of each layer."""

    @nn.compact
    def __call__(self, x):
        x = layers.Norm("batch", slope=0.2)(layers.Conv(8, 4, 2)(x), True)
        return layers.ConvTranspose(1, 4, 2)(x)


def _tower_loss(params, stats, x):
    y, _ = Tower().apply({"params": params, "batch_stats": stats}, x, mutable="batch_stats")
    return jnp.square(y - 1).mean()


def test_eight_devices_under_jit_equal_one():
    x = jax.random.normal(KEY, (16, 8, 8, 1))
    variables = jax.jit(Tower().init)(KEY, x)
    grad = jax.jit(jax.grad(_tower_loss))
    mesh = Mesh(np.array(jax.devices()), ("data",))
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    shards = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    ours = grad(everywhere["params"], everywhere["batch_stats"], shards)
    _close(
        jax.device_get(ours), jax.device_get(grad(variables["params"], variables["batch_stats"], x))
    )


def test_several_seeds_at_once_equal_each_in_turn():
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    seeds = jax.random.split(KEY, 3)
    variables = jax.jit(jax.vmap(functools.partial(Tower().init, x=x)))(seeds)
    grad = jax.jit(jax.grad(_tower_loss))
    together = jax.jit(jax.vmap(grad, (0, 0, None)))(
        variables["params"], variables["batch_stats"], x
    )
    for i in range(3):
        one = jax.tree.map(lambda v, i=i: v[i], variables)
        alone = grad(one["params"], one["batch_stats"], x)
        _close(jax.tree.map(lambda v, i=i: v[i], together), alone)
