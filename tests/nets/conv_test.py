"""Values and derivatives of the three maps, on every road, against `jax.lax` and its own rules."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

from jaxgan.nets import conv

SETTINGS = hypothesis.settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@st.composite
def windows(draw):
    pads = st.tuples(st.integers(-1, 3), st.integers(-1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    size = draw(st.tuples(st.integers(7, 9), st.integers(7, 9)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return conv.Window(
        size, kernel, strides, draw(st.tuples(pads, pads)), draw(st.sampled_from((1, 1, 2)))
    )


def _reference(window, x, w):
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def _arrays(window, channels):
    """An input, a kernel and an output's cotangent."""
    shapes = (
        (2, *window.size, channels * window.groups),
        (*window.kernel, channels, 2 * window.groups),
        (2, *window.outputs, 2 * window.groups),
    )
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


def _close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * (1 + float(jnp.abs(b).max())))


def _references(window):
    """The three maps as `jax.lax` has them: a convolution, and its transposes."""
    convolve = functools.partial(_reference, window)
    return {
        conv.conv: convolve,
        conv.input_grad: lambda g, w: jax.vjp(
            lambda x: convolve(x, w), jnp.zeros((2, *window.size, w.shape[2] * window.groups))
        )[1](g)[0],
        conv.filter_grad: lambda x, g: jax.vjp(
            lambda w: convolve(x, w),
            jnp.zeros((*window.kernel, x.shape[-1] // window.groups, g.shape[-1])),
        )[1](g)[0],
    }


@SETTINGS
@hypothesis.given(windows(), st.sampled_from((1, 3, 5)))
def test_the_three_maps_are_laxs_convolution_and_its_transposes_on_every_road(window, channels):
    references = _references(window)
    accelerator = {
        conv.conv: conv._lax_conv,
        conv.input_grad: conv._lax_input_grad,
        conv.filter_grad: conv._lax_filter_grad,
    }

    @jax.jit  # one compilation an example
    def roads(x, w, g):
        arguments = {conv.conv: (x, w), conv.input_grad: (g, w), conv.filter_grad: (x, g)}
        return [
            (references[m](*ab), m(window, *ab), accelerator[m](window, *ab))
            for m, ab in arguments.items()
        ]

    for reference, chosen, other in roads(*_arrays(window, channels)):
        _close(chosen, reference)
        _close(other, reference)


@pytest.mark.parametrize("size, kernel, strides, padding", [
    ((8, 6), (4, 4), (2, 2), ((1, 1), (1, 1))),
    ((6, 9), (5, 4), (2, 3), ((1, 2), (0, 3))),
    ((6, 6), (3, 3), (3, 3), ((0, 0), (2, 1))),
    ((4, 8), (5, 2), (2, 2), ((3, 0), (-1, 2))),
])  # fmt: skip
def test_the_input_gradient_by_phases_is_laxs(size, kernel, strides, padding):
    window = conv.Window(size, kernel, strides, padding)
    _, w, g = _arrays(window, 5)
    _close(
        jax.jit(functools.partial(conv._phased_input_grad, window))(g, w),
        _references(window)[conv.input_grad](g, w),
    )


def test_bfloat16_takes_the_way_by_phases_on_cpu():
    window = conv.Window((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)))
    _, w, g = _arrays(window, 8)
    count = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        lowered = jax.jit(functools.partial(conv.input_grad, window)).lower(
            g.astype(dtype), w.astype(dtype)
        )
        count[dtype] = lowered.as_text().count("stablehlo.convolution")
    assert count == {jnp.float32: 0, jnp.bfloat16: 4}


def _first_three_derivatives(function):
    """Of a scalar that bends, so that no derivative of it is constant."""

    def first(a, b):
        return jax.grad(lambda a, b: jnp.sin(function(a, b)).sum(), (0, 1))(a, b)

    def norm_of(derivative):
        return lambda a, b: sum(jnp.sin(d).sum() for d in derivative(a, b))

    second = jax.grad(norm_of(first), (0, 1))
    third = jax.grad(norm_of(second), (0, 1))
    return jax.jit(lambda a, b: (first(a, b), second(a, b), third(a, b)))


WINDOWS = {
    "strided": conv.Window((6, 6), (4, 4), (2, 2), ((1, 1), (1, 1))),
    "uneven": conv.Window((7, 5), (3, 2), (2, 1), ((1, 0), (2, 1))),
    "grouped": conv.Window((5, 6), (3, 3), (1, 2), ((1, 1), (0, 1)), 2),
}


@pytest.mark.parametrize(
    ("which", "window"),  # the three derive into each other, whatever the window
    [
        ("conv", "strided"),
        ("conv", "uneven"),
        ("conv", "grouped"),
        ("input_grad", "uneven"),
        ("filter_grad", "grouped"),
    ],
)
def test_first_second_and_third_derivatives_are_laxs(which, window):
    window = WINDOWS[window]
    x, w, g = _arrays(window, 2)
    a, b = {"conv": (x, w), "input_grad": (g, w), "filter_grad": (x, g)}[which]
    ours = getattr(conv, which)
    a, b = 0.3 * a, 0.3 * b  # keeps third derivatives within what float32 resolves
    _close(
        _first_three_derivatives(functools.partial(ours, window))(a, b),
        _first_three_derivatives(_references(window)[ours])(a, b),
    )


def test_no_derivative_is_a_convolution_dilated_on_both_sides():
    window = conv.Window((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x, w, _ = _arrays(window, 8)

    def penalty(x, w):
        return jnp.square(jax.grad(lambda x: jnp.sin(conv.conv(window, x, w)).sum())(x)).sum()

    text = jax.jit(jax.grad(penalty, (0, 1))).lower(x, w).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions
    assert not [
        c for c in convolutions if "lhs_dilate = [2, 2]" in c and "rhs_dilate = [2, 2]" in c
    ]


@pytest.mark.parametrize("channels", [1, 8])
def test_several_kernels_at_once_equal_each_in_turn(channels):
    window = conv.Window((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x, w, _ = _arrays(window, channels)
    ws = jnp.stack([w, 2 * w, -w])

    def loss(w, x):
        return jnp.sin(conv.conv(window, x, w)).sum()

    grads = jax.vmap(jax.grad(loss, (0, 1)), (0, None))(ws, x)
    _close(
        grads, jax.tree.map(lambda *g: jnp.stack(g), *(jax.grad(loss, (0, 1))(w, x) for w in ws))
    )


def test_the_dtype_is_kept_through_both_derivatives():
    window = conv.Window((6, 6), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x, w, _ = (a.astype(jnp.bfloat16) for a in _arrays(window, 5))
    grads = jax.grad(lambda x, w: conv.conv(window, x, w).astype(jnp.float32).sum(), (0, 1))(x, w)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]
