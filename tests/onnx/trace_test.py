"""ONNX models of traced functions, run by onnxruntime: operations, sizes, loops and networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from jaxgan import onnx, sentences
from jaxgan.nets import (
    cells,
    dcgan,
    light,
    r3gan,
    relational,
    resample,
    resnet,
    rnn,
    stylegan2,
    translators,
    unet,
)

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 4, 3)).astype(np.float32)
INDEX = np.array([2, 0, 1, 1, 0, 2], np.int32)


def _run(model, *inputs):
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def _converted(function, inputs, shapes):
    """The model of a function, for inputs of shapes that may have symbols."""
    specs = {
        f"x{n}": jax.ShapeDtypeStruct(shape, x.dtype)
        for n, (x, shape) in enumerate(zip(inputs, shapes, strict=True))
    }
    made = jax.eval_shape(function, *specs.values())
    names = [f"y{n}" for n in range(len(jax.tree.leaves(made)))]
    return onnx.convert(function, specs, names)


def _check(function, *inputs, shapes=None, tolerance=1e-5):
    """Compares with JAX, the first axis being of any size."""
    if shapes is None:
        (batch,) = export.symbolic_shape("b")
        shapes = [(batch, *x.shape[1:]) for x in inputs]
    made = _run(_converted(function, inputs, shapes), *inputs)
    expected = jax.tree.leaves(jax.jit(function)(*inputs))
    for x, y in zip(made, expected, strict=True):
        y = np.asarray(y)
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=tolerance)


def _scanned(x):
    def body(carry, now):
        carry = carry * 0.5 + now
        return carry, (carry.sum(-1), jnp.float32(2.0))

    last, (sums, twos) = lax.scan(body, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1), reverse=True)
    return last, sums, twos


OPERATIONS = {
    "arithmetic": lambda x: (x * 2 - 1) / (1 + jnp.square(x)) + x**3 + x**-2 + jnp.abs(x) ** 0.5,
    "functions": lambda x: jnp.expm1(jnp.tanh(x)) + jax.nn.gelu(x) + jnp.log1p(jnp.abs(x)),
    "activations": lambda x: jax.nn.softplus(x) + jax.nn.leaky_relu(x) + jax.nn.sigmoid(x),
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "comparisons": lambda x: jnp.where((x > 0) & ~(x >= 1) | (x != x), x, -x),
    "rounding": lambda x: jnp.round(x) + jnp.floor(x) + jnp.ceil(x) + jnp.clip(x, -0.5, 0.5),
    "sums": lambda x: (x.sum(1), x.max((1, 2)), x.mean(2), (x > 0).any(1), (x > -9).all(2)),
    "positions": lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 2), jnp.cumsum(x, 1)),
    "layout": lambda x: x.transpose(1, 0, 2)[::-1].reshape(4, -1, 3)[:, :, None],
    "joined": lambda x: jnp.concatenate([x, jnp.stack([x[:, 0], x[:, 1]], 1), x[:, :0]], 1),
    "split": lambda x: jnp.split(x, [1, 3], 1),
    "parts": lambda x: (x[:, 1:4:2], x[1:, :, -1], x[:, 2], x[:-1]),
    "padded": lambda x: lax.pad(x, 1.0, ((0, 0, 0), (2, -1, 1), (-1, 3, 0))),
    "reflected": lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 1)), mode="reflect"),
    "repeated": lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 1)), mode="edge"),
    "sizes": lambda x: jnp.arange(x.shape[0])[:, None] + jnp.zeros((2 * x.shape[0] // 2, 3)),
    "products": lambda x: (jnp.einsum("bij,bkj->bik", x, x), jnp.einsum("bij,kij->bk", x, X)),
    "matrix": lambda x: x @ X[0].T,
    "top": lambda x: lax.top_k(x, 2),
    "loop": _scanned,
    "devices": lambda x: lax.platform_dependent(x, cpu=lambda x: x + 1, default=lambda x: x + 1),
    "saved": lambda x: jax.checkpoint(lambda x: jnp.sin(x))(x),
    "doubled": lambda x: resample.upsample(x[..., None]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_jax(name):
    _check(OPERATIONS[name], X)


@pytest.mark.parametrize(
    "pick",
    [
        lambda x, i: x[:, 0][jnp.arange(x.shape[0]) % 6],
        lambda x, i: jnp.take(jnp.asarray(X), i, axis=0, mode="clip"),
        lambda x, i: jnp.take(x, i, axis=1, mode="clip"),
        lambda x, i: jnp.take_along_axis(x[:, 0], i[:, None], axis=1),
        lambda x, i: x[jnp.arange(x.shape[0]), i, i],
    ],
)
def test_places_are_picked_as_jax_does(pick):
    _check(pick, X, INDEX)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 1), "padding": ((1, 2), (0, 3))},
        {"window_strides": (1, 1), "padding": ((2, 2), (1, 1)), "lhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": ((4, 2), (-1, 1)), "lhs_dilation": (2, 3)},
        {"window_strides": (1, 2), "padding": ((1, 1), (-2, 1)), "rhs_dilation": (2, 1)},
    ],
)
def test_convolutions_of_every_kind(options):
    image = RANDOM.normal(size=(2, 7, 6, 4)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 4, 4, 5)).astype(np.float32)
    layout = ("NHWC", "HWIO", "NHWC")
    _check(
        lambda x: lax.conv_general_dilated(x, kernel, dimension_numbers=layout, **options), image
    )

    def grouped(x):
        half = kernel[:, :, :2, :4]
        return lax.conv_general_dilated(
            x, half, dimension_numbers=layout, feature_group_count=2, **options
        )

    _check(grouped, image)
    _check(  # the kernel is what is looked at
        lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=layout, **options),
        image,
        kernel,
        shapes=[image.shape, kernel.shape],
    )


def test_one_model_takes_any_number_of_examples():
    (batch,) = export.symbolic_shape("b")
    model = _converted(lambda x: jnp.tanh(x).sum(1), [X], [(batch, 4, 3)])
    for num in (1, 2, 5):
        (made,) = _run(model, X[:num])
        np.testing.assert_allclose(made, np.tanh(X[:num]).sum(1), atol=1e-5)


def test_what_depends_on_nothing_is_written_down():
    import onnx as library

    weights = jnp.asarray(X[0])
    (batch,) = export.symbolic_shape("b")
    model = _converted(lambda x: x @ (weights[::-1] * 2).T, [X], [(batch, 4, 3)])
    nodes = library.load_model_from_string(model).graph.node
    assert [node.op_type for node in nodes] == ["MatMul", "Identity"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x), "operation while"),
        (lambda x: x.astype(jnp.bfloat16) * 2, "computes in bfloat16"),
        (lambda x: lax.cond(x[0, 0, 0] > 0, lambda x: x, lambda x: -x, x), "depends on what it"),
        (lambda x: jnp.sort(x, 1), "operation sort, which has no rule"),
    ],
)
def test_what_onnx_cannot_say_is_named(function, message):
    with pytest.raises(onnx.Inexpressible, match=message):
        _converted(function, [X], [X.shape])


def _variables(module, *inputs, **options):
    """Variables that are not those of the start, where much is zero."""
    fresh = jax.jit(lambda key: module.init(key, *inputs, train=False, **options))
    made = jax.tree.map(np.asarray, fresh(jax.random.key(0)))
    random = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + np.float32(0.05) * random.random(x.shape, np.float32), made)


LATENT = {
    "dcgan": dcgan.Generator(8, 1, features=(4,), num_classes=3),
    "light": light.Generator((8, 8), 3, widths=(8, 8), num_classes=3),
}
SLOW = {
    "dcgan5": dcgan.Generator(28, 1, features=(8, 4, 4), kernel=5, num_classes=3),
    "r3gan": r3gan.Generator((8, 8), 3, (32, 32), num_classes=3),
    "resnet": resnet.Generator((8, 8), 3, widths=(8, 8), num_classes=3),
    "resnet_norm": resnet.Generator((8, 8), 3, widths=(8, 8), labels="norm", num_classes=3),
    "stylegan2": stylegan2.Generator(8, 3, (8, 8), features=8, mapping_layers=2, num_classes=3),
}


def _check_latent(module):
    z, label = RANDOM.normal(size=(5, 6)).astype(np.float32), np.arange(5, dtype=np.int32) % 3
    variables = _variables(module, z[:1], label[:1])
    _check(lambda z, label: module.apply(variables, z, label, train=False), z, label)


@pytest.mark.parametrize("name", LATENT)
def test_generators_of_latents(name):
    _check_latent(LATENT[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_generators_of_latents(name):
    _check_latent(SLOW[name])


@pytest.mark.parametrize(
    "module",
    [
        unet.Restorer(widths=(4, 8), blocks=1, channels=1),
        pytest.param(unet.Generator(widths=(4, 8), channels=1), marks=pytest.mark.slow),
        pytest.param(translators.Generator(width=4, blocks=1), marks=pytest.mark.slow),
    ],
    ids=["restorer", "unet", "translator"],
)
def test_generators_of_images_take_any_size(module):
    channels = getattr(module, "channels", 3)
    image = RANDOM.uniform(-1, 1, (2, 8, 16, channels)).astype(np.float32)
    variables = _variables(module, image)
    shape = (*export.symbolic_shape("b, 8*h, 8*w"), channels)
    _check(lambda x: module.apply(variables, x, train=False), image, shapes=[shape], tolerance=1e-4)


@pytest.mark.parametrize(
    "cell",
    [
        cells.LSTM(6),
        pytest.param(cells.GRU(6), marks=pytest.mark.slow),
        pytest.param(relational.Memory(heads=2, head_size=4), marks=pytest.mark.slow),
    ],
    ids=["lstm", "gru", "relational"],
)
def test_sentences_are_the_same_tokens(cell):
    module = rnn.Generator(80, cell, 6, num_classes=3)
    variables = _variables(module, jnp.ones((1, 5), jnp.int32), jnp.zeros(1, jnp.int32))
    uniform, label = RANDOM.random((9, 5), np.float32), np.arange(9, dtype=np.int32) % 3
    _check(
        lambda uniform, label: sentences.decode(uniform, module, variables, label=label),
        uniform,
        label,
    )
