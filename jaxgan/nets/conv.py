"""Convolutions closed under differentiation: three bilinear maps, each derived into the others.

A convolution, its input gradient (which is the transposed convolution) and its filter gradient
are bilinear, and each one's two derivatives are the other two. Given as such to JAX, derivatives
of every order stay among the three. JAX's own rules leave that set: the filter gradient of a
transposed convolution, and everything in a second derivative, becomes a convolution dilated on
both sides, which no library has a fast form for.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from jaxgan import cpu
from jaxgan.types import Array

Pair = tuple[int, int]
_NHWC = ("NHWC", "HWIO", "NHWC")
MANY_GROUPS = 32


class Window(NamedTuple):
    """The static side of a 2-D convolution; hashable, so that it can key a compilation.

    Attributes:
      size: height and width of the input, before padding.
      kernel: height and width of the kernel.
      strides: steps between outputs, in input pixels.
      padding: zeros ((above, below), (left, right)); a negative number crops.
      groups: the channels fall into this many groups, which do not see each other.
    """

    size: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    groups: int = 1

    @property
    def outputs(self) -> Pair:
        """Height and width of the output."""
        rows, columns = (
            (size + sum(pad) - kernel) // stride + 1
            for size, kernel, stride, pad in zip(
                self.size, self.kernel, self.strides, self.padding, strict=True
            )
        )
        return rows, columns


def conv(window: Window, x: Array, w: Array) -> Array:
    """Convolves: `y[i, o] = sum_{k, c} x[s i + k - p, c] w[k, c, o]`.

    Args:
      window: kernel, strides, padding and groups.
      x: input [B, H, W, C].
      w: kernel [kh, kw, C / groups, O].

    Returns:
      The output [B, oh, ow, O].
    """
    return _map_p.bind(x, w, window=window, wanted="g", batched=())


def input_grad(window: Window, g: Array, w: Array) -> Array:
    """Pulls an output's cotangent back to the input; also the transposed convolution of `g`.

    Args:
      window: of the convolution whose gradient this is.
      g: cotangent of the output [B, oh, ow, O].
      w: kernel [kh, kw, C / groups, O].

    Returns:
      The cotangent of the input [B, H, W, C].
    """
    return _map_p.bind(g, w, window=window, wanted="x", batched=())


def filter_grad(window: Window, x: Array, g: Array) -> Array:
    """Pulls an output's cotangent back to the kernel.

    Args:
      window: of the convolution whose gradient this is.
      x: input [B, H, W, C].
      g: cotangent of the output [B, oh, ow, O].

    Returns:
      The cotangent of the kernel [kh, kw, C / groups, O].
    """
    return _map_p.bind(x, g, window=window, wanted="w", batched=())


# Each way to convolve gives its two gradients by transposition: all are linear in x and in w.


def _transposed_in_input(form):
    def apply(window, g, w):
        shape = (g.shape[0], *window.size, w.shape[2] * window.groups)
        x = jax.ShapeDtypeStruct(shape, g.dtype)
        return jax.linear_transpose(lambda x: form(window, x, w), x)(g)[0]

    return apply


def _transposed_in_kernel(form):
    def apply(window, x, g):
        shape = (*window.kernel, x.shape[-1] // window.groups, g.shape[-1])
        w = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.linear_transpose(lambda w: form(window, x, w), w)(g)[0]

    return apply


def _lax_conv(window: Window, x: Array, w: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        dimension_numbers=_NHWC,
        feature_group_count=window.groups,
    )


def _dot_conv(window: Window, x: Array, w: Array) -> Array:
    """Convolves by space to depth, patches and one product of matrices.

    Blocks of s x s pixels become s^2 channels, which leaves a convolution of stride 1 with a
    kernel of ceil(k / s), few enough that all that an output sees can be laid side by side.
    """
    return _patches(window, x) @ _flat_kernel(window, w)


def _dot_filter_grad(window: Window, x: Array, g: Array) -> Array:
    """Pulls back to the kernel of `_dot_conv`; the patches are the forward pass's own."""
    kernel = jax.ShapeDtypeStruct((*window.kernel, x.shape[-1], g.shape[-1]), x.dtype)
    patches = _patches(window, x)
    flat = patches.reshape(-1, patches.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return jax.linear_transpose(functools.partial(_flat_kernel, window), kernel)(flat)[0]


def _turned(window: Window) -> Window:
    """Of stride 1, the convolution whose input is this one's output: its patches are of few."""
    top, left = (
        (kernel - 1 - before, kernel - 1 - after)
        for kernel, (before, after) in zip(window.kernel, window.padding, strict=True)
    )
    return Window(window.outputs, window.kernel, padding=(top, left))


def _turned_conv(window: Window, x: Array, w: Array) -> Array:
    """Convolves to few outputs: adds up what each input gives to the outputs around it."""
    form = _transposed_in_input(_dot_conv)
    return form(_turned(window), x, w[::-1, ::-1].swapaxes(2, 3))


def _turned_filter_grad(window: Window, x: Array, g: Array) -> Array:
    """Pulls back to the kernel of few outputs: one product on the patches of their cotangent."""
    return _dot_filter_grad(_turned(window), g, x)[::-1, ::-1].swapaxes(2, 3)


def _tap_filter_grad(window: Window, x: Array, g: Array) -> Array:
    """Pulls back to the kernel tap by tap: each is one product over batch and pixels."""
    (kh, kw), (sh, sw), (rows, columns) = window.kernel, window.strides, window.outputs
    (top, _), (left, _) = window.padding
    height, width = kh + sh * (rows - 1), kw + sw * (columns - 1)  # of what the outputs see
    edges = (
        (0, 0, 0),
        (top, height - window.size[0] - top, 0),
        (left, width - window.size[1] - left, 0),
        (0, 0, 0),
    )
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    flat = g.reshape(-1, g.shape[-1])
    taps = [
        x[:, i : i + height - kh + 1 : sh, j : j + width - kw + 1 : sw].reshape(-1, x.shape[-1])
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.stack([tap.T @ flat for tap in taps]).reshape(kh, kw, x.shape[-1], g.shape[-1])


def _phased_input_grad(window: Window, g: Array, w: Array) -> Array:
    """Pulls back to the input one phase at a time, without the zeros between the cotangents.

    Rows a stride apart see the same rows of the kernel, so that each phase of the input is a
    convolution of stride 1; the phases are then interleaved.
    """
    (height, width), (sh, sw), channels = window.size, window.strides, w.shape[2]
    (top, _), (left, _) = window.padding
    phase = functools.partial(_phase, g.shape[1], height, sh, window.kernel[0], top)
    column = functools.partial(_phase, g.shape[2], width, sw, window.kernel[1], left)
    w = w.swapaxes(2, 3)
    rows = []
    for taps, pads in map(phase, range(sh)):
        columns = [
            lax.conv_general_dilated(
                g, w[taps][:, across], (1, 1), (pads, sides), dimension_numbers=_NHWC
            )
            for across, sides in map(column, range(sw))
        ]
        rows.append(jnp.stack(columns, axis=3))
    return jnp.stack(rows, axis=2).reshape(g.shape[0], height, width, channels)


def _phase(outputs: int, size: int, stride: int, kernel: int, before: int, at: int):
    """Which taps the inputs at, at + stride, ... see, in order, and the padding that aligns them.

    Input p sees output i through tap p + before - stride i.
    """
    shift, first = divmod(at + before, stride)
    taps = range(first, kernel, stride)
    pads = len(taps) - 1 - shift, size // stride + shift - outputs
    return jnp.array(taps[::-1]), pads


def _patches(window: Window, x: Array) -> Array:
    """Lays side by side the blocks that an output sees: [B, oh, ow, mh mw sh sw C]."""
    (mh, mw), (sh, sw), (rows, columns) = _blocks(window), window.strides, window.outputs
    batch, height, width, _ = x.shape
    nh, nw = rows + mh - 1, columns + mw - 1
    (top, _), (left, _) = window.padding
    edges = (
        (0, 0, 0),
        (top, nh * sh - height - top, 0),
        (left, nw * sw - width - left, 0),
        (0, 0, 0),
    )
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    x = x.reshape(batch, nh, sh, nw, sw, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, nh, nw, -1)  # [B, nh, nw, sh sw C]
    taps = [x[:, i : i + rows, j : j + columns] for i in range(mh) for j in range(mw)]
    return jnp.concatenate(taps, axis=-1)


def _flat_kernel(window: Window, w: Array) -> Array:
    """Orders a kernel as the patches are: [mh mw sh sw C, O]."""
    (mh, mw), (sh, sw), (kh, kw) = _blocks(window), window.strides, window.kernel
    w = jnp.pad(w, ((0, mh * sh - kh), (0, mw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(mh, sh, mw, sw, *w.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    return w.reshape(-1, w.shape[-1])


def _blocks(window: Window) -> Pair:
    """How many blocks of strides x strides pixels cover a kernel."""
    (kh, kw), (sh, sw) = window.kernel, window.strides
    return -(-kh // sh), -(-kw // sw)


_lax_input_grad = _transposed_in_input(_lax_conv)
_lax_filter_grad = _transposed_in_kernel(_lax_conv)


def _single(window: Window) -> bool:
    """Whether each output sees the pixel at its place and no other."""
    return window == Window(window.size, (1, 1))


def _default_conv(window: Window, x: Array, w: Array) -> Array:
    return x @ w[0, 0] if _single(window) else _lax_conv(window, x, w)


# On CPU, XLA's own forms are good for many channels, poor for the one or three of an image; and
# the transposed one of a strided convolution spends its time on the zeros between the inputs.


def _image_channels(channels: int) -> bool:
    return channels <= 4


def _product(window: Window, dtype: Any) -> bool:
    """Whether it is best one product of matrices: in bfloat16 oneDNN's convolution is faster."""
    return _single(window) and dtype != jnp.bfloat16


def _makes_image(window: Window, outputs: int) -> bool:
    return _image_channels(outputs) and window.strides == (1, 1)


def _group_by_group(form, window: Window, a: Array, b: Array) -> Array:
    """Applies one of the three maps to each group by itself, which has its share of last axes.

    XLA's own form of the filter gradient of groups is a loop without a fast inside: seconds for
    what this does in milliseconds. The other two gain a factor of three to ten. Many groups share
    one program, which compiles in a fraction of the time.
    """
    alone = window._replace(groups=1)
    if window.groups > MANY_GROUPS:
        first = [jnp.moveaxis(x.reshape(*x.shape[:-1], window.groups, -1), -2, 0) for x in (a, b)]
        y = lax.map(lambda pair: form(alone, *pair), tuple(first))
        y = jnp.moveaxis(y, 0, -2)
        return y.reshape(*y.shape[:-2], -1)
    pairs = zip(jnp.split(a, window.groups, -1), jnp.split(b, window.groups, -1), strict=True)
    return jnp.concatenate([form(alone, *pair) for pair in pairs], -1)


def _cpu_conv(window: Window, x: Array, w: Array) -> Array:
    if window.groups > 1:
        return _group_by_group(_cpu_conv, window, x, w)
    if _image_channels(x.shape[-1]):
        form = _dot_conv
    elif _product(window, x.dtype):
        return x @ w[0, 0]
    elif _makes_image(window, w.shape[-1]) and math.prod(window.kernel) <= 49:
        form = _turned_conv  # from 9 x 9 on the sum over the kernel takes longer
    else:
        form = _lax_conv
    return form(window, x, w)


def _cpu_input_grad(window: Window, g: Array, w: Array) -> Array:
    if window.groups > 1:
        return _group_by_group(_cpu_input_grad, window, g, w)
    sides = list(zip(window.size, window.kernel, window.strides, strict=True))
    strided = min(window.strides) > 1
    if _image_channels(w.shape[2]):
        form = _transposed_in_input(_dot_conv)
    elif _product(window, g.dtype):
        return g @ w[0, 0].T
    elif g.dtype == jnp.bfloat16 and all(h % s == 0 and k >= s for h, k, s in sides):
        form = _phased_input_grad  # of convolutions, which oneDNN has; it lacks their gradients
    elif strided and all(k % s == 0 for _, k, s in sides):
        form = _transposed_in_input(_dot_conv)
    else:
        form = _lax_input_grad
    return form(window, g, w)


def _cpu_filter_grad(window: Window, x: Array, g: Array) -> Array:
    if window.groups > 1:
        return _group_by_group(_cpu_filter_grad, window, x, g)
    if _image_channels(x.shape[-1]):
        return _dot_filter_grad(window, x, g)
    if _makes_image(window, g.shape[-1]):
        return _turned_filter_grad(window, x, g)
    form = _tap_filter_grad if _taps_are_faster(window, x, g) else _lax_filter_grad
    return form(window, *_materialised(x, g))


def _taps_are_faster(window: Window, x: Array, g: Array) -> bool:
    """Whether there are pixels enough that XLA's form suffers.

    XLA convolves the one array with the other in place of a kernel, as large as the outputs. Of
    bfloat16 oneDNN has that form, and it is the faster one for long, or where a CPU has no
    bfloat16 products.
    """
    pixels, channels = math.prod(window.outputs), (x.shape[-1], g.shape[-1])
    single = window.kernel == (1, 1)
    if g.dtype != jnp.bfloat16:
        return (single or pixels >= 64) and max(channels) > 16
    large = window.strides == (1, 1) and pixels * math.prod(channels) >= 2**21
    return (single or large) and min(channels) > 16 and cpu.multiplies_bfloat16()


def _materialised(x: Array, g: Array) -> tuple[Array, Array]:
    """Has both written to memory before what follows, which sums over the batch, reads them.

    For such a sum XLA turns the arrays over first. Left alone it fuses what made them (a norm,
    say) into the turning, whose strided reads are ten times slower.
    """
    if jax.__version_info__ >= (0, 11):
        return lax.optimization_barrier((x, g))
    # jaxlib 0.10 drops the barrier before it fuses, but keeps a branch on what it cannot know.
    nan = jnp.isnan(x[0, 0, 0, 0])
    return lax.cond(nan, lambda *xg: tuple(a * jnp.nan for a in xg), lambda *xg: xg, x, g)


# All three maps are derivatives of one trilinear form, <conv(x, w), g>, and one primitive computes
# them: `wanted` is the factor of the form that is left out, the other two are the operands. Under
# `jax.vmap` it keeps a pair for each new leading axis, outermost first: which operand has it. The
# derivatives of a batched map are thereby batched maps, fast as well.

_OPERANDS = {"g": ("x", "w"), "x": ("g", "w"), "w": ("x", "g")}
_CPU = {"g": _cpu_conv, "x": _cpu_input_grad, "w": _cpu_filter_grad}
_DEFAULT = {
    "g": _default_conv,
    "x": _transposed_in_input(_default_conv),
    "w": _transposed_in_kernel(_default_conv),
}

_map_p = core.Primitive("convolution_map")


def _compute(forms, a: Array, b: Array, *, window: Window, wanted: str, batched) -> Array:
    form = functools.partial(forms[wanted], window)
    for axes in reversed(batched):
        form = jax.vmap(form, tuple(0 if has else None for has in axes))
    return form(a, b)


def by_lax(a: Array, b: Array, **static) -> Array:
    """Computes one of the maps by XLA's own operations, as accelerators do.

    Args:
      a: the first operand.
      b: the second.
      **static: the parameters of the primitive, as a traced program has them.

    Returns:
      What the map makes of them.
    """
    return _compute(_DEFAULT, a, b, **static)


def _transpose(at: int, cotangent: Array, *operands, window: Window, wanted: str, batched) -> Array:
    """Pulls back to operand `at`: the map that wants it, of the cotangent and the other operand."""
    name, other = _OPERANDS[wanted][at], _OPERANDS[wanted][1 - at]
    given = {
        wanted: (cotangent, [True] * len(batched)),
        other: (operands[1 - at], [axes[1 - at] for axes in batched]),
    }
    (a, a_has), (b, b_has) = (given[operand] for operand in _OPERANDS[name])
    axes = tuple(zip(a_has, b_has, strict=True))
    grad = _map_p.bind(a, b, window=window, wanted=name, batched=axes)
    shared = tuple(i for i, axes in enumerate(batched) if not axes[at])
    return grad.sum(shared) if shared else grad


def _batch(operands, axes, *, window: Window, wanted: str, batched):
    a, b = (
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    )
    batched = (tuple(axis is not None for axis in axes), *batched)
    return _map_p.bind(a, b, window=window, wanted=wanted, batched=batched), 0


_map_p.def_impl(jax.jit(_map_p.bind, static_argnames=("window", "wanted", "batched")))
_map_p.def_abstract_eval(
    lambda a, b, **static: jax.make_jaxpr(functools.partial(_compute, _DEFAULT, **static))(
        a, b
    ).out_avals[0]
)
ad.defbilinear(_map_p, functools.partial(_transpose, 0), functools.partial(_transpose, 1))
batching.primitive_batchers[_map_p] = _batch
for _platform, _forms in ((None, _DEFAULT), ("cpu", _CPU)):
    mlir.register_lowering(
        _map_p,
        mlir.lower_fun(functools.partial(_compute, _forms), multiple_results=False),
        platform=_platform,
    )
