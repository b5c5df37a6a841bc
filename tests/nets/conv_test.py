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
    max_examples=3,  # each compiles a program
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
    _check_roads(window, channels)


@pytest.mark.slow  # as before, for more windows
@hypothesis.settings(SETTINGS, max_examples=40)
@hypothesis.given(windows(), st.sampled_from((1, 3, 5)))
def test_the_three_maps_of_many_windows(window, channels):
    _check_roads(window, channels)


def _check_roads(window, channels):
    references = _references(window)
    wanted = {conv.conv: "g", conv.input_grad: "x", conv.filter_grad: "w"}
    accelerator = {m: conv._DEFAULT[name] for m, name in wanted.items()}

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


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, -1))])
def test_the_three_maps_of_a_single_tap(padding):
    _check_roads(conv.Window((5, 7), (1, 1), padding=padding), 24)


def test_many_groups_are_a_loop_over_them_with_the_same_derivatives():
    window = conv.Window((4, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), conv.MANY_GROUPS + 1)
    x, w, g = _arrays(window, 2)
    maps = {conv.conv: (x, w), conv.input_grad: (g, w), conv.filter_grad: (x, g)}
    for ours, (a, b) in maps.items():
        _close(jax.jit(functools.partial(ours, window))(a, b), _references(window)[ours](a, b))
    lowered = jax.jit(functools.partial(conv.conv, window)).lower(x, w).as_text()
    assert "stablehlo.while" in lowered and lowered.count("stablehlo.dot_general") == 1


@pytest.mark.parametrize("size, kernel, padding", [
    ((8, 6), (4, 4), ((1, 1), (1, 1))),
    ((6, 9), (5, 2), ((0, 3), (-1, 2))),
    ((7, 7), (1, 3), ((-2, 0), (4, 0))),
])  # fmt: skip
def test_the_maps_to_few_outputs_are_laxs(size, kernel, padding):
    window = conv.Window(size, kernel, padding=padding)
    x, w, g = _arrays(window, 20)
    references = _references(window)
    _close(conv._turned_conv(window, x, w), references[conv.conv](x, w))
    _close(conv._turned_filter_grad(window, x, g), references[conv.filter_grad](x, g))


@pytest.mark.parametrize("size, kernel, strides, padding", [
    ((8, 9), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((9, 7), (4, 3), (2, 1), ((2, 1), (-1, 2))),
])  # fmt: skip
def test_the_filter_gradient_tap_by_tap_is_laxs(size, kernel, strides, padding):
    window = conv.Window(size, kernel, strides, padding)
    x, _, g = _arrays(window, 17)
    _close(
        jax.jit(functools.partial(conv._tap_filter_grad, window))(x, g),
        _references(window)[conv.filter_grad](x, g),
    )


@pytest.mark.parametrize("products", [True, False])
def test_large_filter_gradients_in_bfloat16_go_tap_by_tap_where_the_cpu_multiplies_it(
    monkeypatch, products
):
    monkeypatch.setattr(conv.cpu, "multiplies_bfloat16", lambda: products)

    def taps(side, channels, kernel=3, stride=1):
        window = conv.Window((side, side), (kernel, kernel), (stride, stride), ((1, 1), (1, 1)))
        x, g = (jax.ShapeDtypeStruct((2, side, side, channels), jnp.bfloat16) for _ in range(2))
        return conv._taps_are_faster(window, x, g)

    assert taps(32, 64) == taps(16, 128) == taps(8, 32, kernel=1) == products
    assert not taps(32, 32) and not taps(64, 16) and not taps(64, 64, stride=2)


@pytest.mark.parametrize("size, kernel, strides, padding", [
    ((8, 6), (4, 4), (2, 2), ((1, 1), (1, 1))),
    ((6, 9), (5, 4), (2, 3), ((1, 2), (0, 3))),
    ((6, 6), (3, 3), (3, 3), ((0, 0), (2, 1))),
    ((4, 8), (5, 2), (2, 2), ((3, 0), (-1, 2))),
    ((5, 7), (3, 2), (1, 1), ((1, 1), (-1, 2))),
])  # fmt: skip
def test_the_input_gradient_by_phases_is_laxs(size, kernel, strides, padding):
    window = conv.Window(size, kernel, strides, padding)
    _, w, g = _arrays(window, 5)
    _close(
        jax.jit(functools.partial(conv._phased_input_grad, window))(g, w),
        _references(window)[conv.input_grad](g, w),
    )


@pytest.mark.parametrize(("stride", "phases"), [(1, 1), (2, 4)])
def test_bfloat16_takes_the_way_by_phases_on_cpu(stride, phases):
    window = conv.Window((8, 8), (4, 4), (stride, stride), ((1, 1), (1, 1)))
    _, w, g = _arrays(window, 8)

    def convolutions(dtype):  # not dilated ones: those have no fast form
        lowered = jax.jit(functools.partial(conv.input_grad, window)).lower(
            g.astype(dtype), w.astype(dtype)
        )
        return lowered.as_text().count("stablehlo.convolution")

    assert convolutions(jnp.bfloat16) == phases
    assert convolutions(jnp.float32) == (stride == 1)  # else a product


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


AXES = [(0, None), (None, 1), (0, 0)]
MAPS = {  # the operands of each, of (x, w, g)
    "conv": (0, 1),
    "input_grad": (2, 1),
    "filter_grad": (0, 2),
}


@pytest.mark.parametrize(
    ("which", "window"),
    [("conv", "strided"), ("input_grad", "uneven"), ("filter_grad", "grouped")],
)
def test_forward_and_reverse_derivatives_and_finite_differences_agree(which, window):
    window = WINDOWS[window]
    arrays = _arrays(window, 1)
    with jax.enable_x64(True):
        ab = tuple(jnp.asarray(np.asarray(arrays[i]), jnp.float64) for i in MAPS[which])
        keys = jax.random.split(jax.random.key(1))
        v = tuple(jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, ab, strict=True))

        def value(ab):
            return jnp.sin(getattr(conv, which)(window, *ab)).mean()

        @jax.jit
        def products(ab, v):
            def dot(u):
                return sum(jnp.vdot(*uv) for uv in zip(u, v, strict=True))

            gradient, hessian_v = jax.jvp(jax.grad(value), (ab,), (v,))
            _, linear = jax.linearize(value, ab)
            step = [value(tuple(a + h * b for a, b in zip(ab, v, strict=True)))
                    for h in (-1e-4, 0.0, 1e-4)]  # fmt: skip
            first = dot(gradient), jax.jvp(value, (ab,), (v,))[1], linear(v)
            second = (
                dot(hessian_v),
                dot(jax.grad(lambda ab: dot(jax.grad(value)(ab)))(ab)),
                jax.jvp(lambda ab: jax.jvp(value, (ab,), (v,))[1], (ab,), (v,))[1],
                dot(jax.grad(lambda ab: jax.jvp(value, (ab,), (v,))[1])(ab)),
            )
            return (
                first,
                second,
                (step[2] - step[0]) / 2e-4,
                (step[2] - 2 * step[1] + step[0]) / 1e-8,
            )

        first, second, slope, bend = products(ab, v)
        np.testing.assert_allclose(first, np.full(3, slope), rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(second, np.full(4, second[0]), rtol=1e-10)
        np.testing.assert_allclose(second[0], bend, rtol=1e-4, atol=1e-5)


def test_jacobians_and_hessians_are_laxs():
    window = conv.Window((4, 3), (2, 2), (2, 1), ((1, 0), (0, 0)))
    x, w, _ = _arrays(window, 1)

    def derivatives(function):
        bent = functools.partial(lambda x, w: jnp.sin(function(x, w)).sum(), x)
        return jax.jit(
            lambda w: (
                jax.jacfwd(lambda w: function(x, w))(w),
                jax.jacrev(lambda w: function(x, w))(w),
                jax.hessian(bent)(w),
            )
        )(w)

    ours = derivatives(functools.partial(conv.conv, window))
    _close(ours, derivatives(functools.partial(_reference, window)))
    _close(ours[0], ours[1])


TURNS = [*(("conv", axes) for axes in AXES), ("input_grad", AXES[1]), ("filter_grad", AXES[0])]
OTHERS = [(which, axes) for which in MAPS for axes in AXES if (which, axes) not in TURNS]


@pytest.mark.parametrize(
    ("which", "axes"), [*TURNS, *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)]
)
def test_many_at_once_equal_each_in_turn(which, axes):
    window = WINDOWS["strided"]
    arrays = _arrays(window, 1)
    a, b = (arrays[i] for i in MAPS[which])
    many = [
        x if axis is None else jnp.stack([x, -2 * x], axis)
        for x, axis in zip((a, b), axes, strict=True)
    ]

    def tangent_and_gradient(a, b):
        def value(a, b):
            return jnp.sin(getattr(conv, which)(window, a, b)).sum()

        return jax.jvp(value, (a, b), (b.sum() * a, b)), jax.grad(value, (0, 1))(a, b)

    def gradient_of_all(a, b):  # the operand that all share has the sum
        each = jax.vmap(lambda a, b: getattr(conv, which)(window, a, b), axes)
        return jax.grad(lambda a, b: jnp.sin(each(a, b)).sum(), (0, 1))(a, b)

    @jax.jit
    def both_ways(a, b):
        turns = [
            tangent_and_gradient(
                *(x if n is None else jnp.take(x, i, n) for x, n in zip((a, b), axes, strict=True))
            )
            for i in range(2)
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *turns)
        totals = [
            g.sum(0) if n is None else jnp.moveaxis(g, 0, n)
            for g, n in zip(stacked[1], axes, strict=True)
        ]
        together = jax.vmap(tangent_and_gradient, axes)(a, b), gradient_of_all(a, b)
        return together, (stacked, tuple(totals))

    _close(*both_ways(*many))


def test_a_program_for_a_graphics_card_is_laxs_convolution():
    window = conv.Window((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x, w, _ = _arrays(window, 1)
    traced = jax.jit(functools.partial(conv.conv, window)).trace(x, w)
    lowered = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "stablehlo.convolution" in lowered["cuda"]
    assert "stablehlo.convolution" not in lowered["cpu"]  # one channel: a product of matrices


def test_the_dtype_is_kept_through_both_derivatives():
    window = conv.Window((6, 6), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x, w, _ = (a.astype(jnp.bfloat16) for a in _arrays(window, 5))
    grads = jax.grad(lambda x, w: conv.conv(window, x, w).astype(jnp.float32).sum(), (0, 1))(x, w)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]
