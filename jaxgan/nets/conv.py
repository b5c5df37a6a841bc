"""Convolutions closed under differentiation: three bilinear maps, each derived into the others.

A convolution, its input gradient (which is the transposed convolution) and its filter gradient
are bilinear, and each one's two derivatives are the other two. Given as such to JAX, derivatives
of every order stay among the three. JAX's own rules leave that set: the filter gradient of a
transposed convolution, and everything in a second derivative, becomes a convolution dilated on
both sides, which no library has a fast form for.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.types import Array

Pair = tuple[int, int]


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv(window: Window, x: Array, w: Array) -> Array:
    """Convolves: `y[i, o] = sum_{k, c} x[s i + k - p, c] w[k, c, o]`.

    Args:
      window: kernel, strides, padding and groups.
      x: input [B, H, W, C].
      w: kernel [kh, kw, C / groups, O].

    Returns:
      The output [B, oh, ow, O].
    """
    return _by_platform(_cpu_conv, _lax_conv)(window, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def input_grad(window: Window, g: Array, w: Array) -> Array:
    """Pulls an output's cotangent back to the input; also the transposed convolution of `g`.

    Args:
      window: of the convolution whose gradient this is.
      g: cotangent of the output [B, oh, ow, O].
      w: kernel [kh, kw, C / groups, O].

    Returns:
      The cotangent of the input [B, H, W, C].
    """
    return _by_platform(_cpu_input_grad, _lax_input_grad)(window, g, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def filter_grad(window: Window, x: Array, g: Array) -> Array:
    """Pulls an output's cotangent back to the kernel.

    Args:
      window: of the convolution whose gradient this is.
      x: input [B, H, W, C].
      g: cotangent of the output [B, oh, ow, O].

    Returns:
      The cotangent of the kernel [kh, kw, C / groups, O].
    """
    return _by_platform(_cpu_filter_grad, _lax_filter_grad)(window, x, g)


def _keep(function):
    return lambda window, a, b: (function(window, a, b), (a, b))


conv.defvjp(
    _keep(conv),
    lambda window, xw, g: (input_grad(window, g, xw[1]), filter_grad(window, xw[0], g)),
)
input_grad.defvjp(
    _keep(input_grad),
    lambda window, gw, x: (conv(window, x, gw[1]), filter_grad(window, x, gw[0])),
)
filter_grad.defvjp(
    _keep(filter_grad),
    lambda window, xg, w: (input_grad(window, xg[1], w), conv(window, xg[0], w)),
)


def _by_platform(cpu, default):
    """Chooses when the program is lowered, so that one trace serves every device."""

    def apply(window, a, b):
        bind = functools.partial
        return lax.platform_dependent(a, b, cpu=bind(cpu, window), default=bind(default, window))

    return apply


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
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def _dot_conv(window: Window, x: Array, w: Array) -> Array:
    """Convolves by space to depth, patches and one product of matrices.

    Blocks of s x s pixels become s^2 channels, which leaves a convolution of stride 1 with a
    kernel of ceil(k / s), few enough that all that an output sees can be laid side by side.
    """
    (kh, kw), (sh, sw), (rows, columns) = window.kernel, window.strides, window.outputs
    (batch, height, width, channels), features = x.shape, w.shape[-1]
    mh, mw = -(-kh // sh), -(-kw // sw)
    nh, nw = rows + mh - 1, columns + mw - 1
    (top, _), (left, _) = window.padding
    edges = (
        (0, 0, 0),
        (top, nh * sh - height - top, 0),
        (left, nw * sw - width - left, 0),
        (0, 0, 0),
    )
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    x = x.reshape(batch, nh, sh, nw, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, nh, nw, -1)  # [B, nh, nw, sh sw C]
    taps = [x[:, i : i + rows, j : j + columns] for i in range(mh) for j in range(mw)]
    w = jnp.pad(w, ((0, mh * sh - kh), (0, mw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(mh, sh, mw, sw, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return jnp.concatenate(taps, axis=-1) @ w.reshape(-1, features)


_lax_input_grad = _transposed_in_input(_lax_conv)
_lax_filter_grad = _transposed_in_kernel(_lax_conv)


# On CPU, XLA's own forms are good for many channels, poor for the one or three of an image; and
# the transposed one of a strided convolution spends its time on the zeros between the inputs.


def _image_channels(window: Window, channels: int) -> bool:
    return window.groups == 1 and channels <= 4


def _cpu_conv(window: Window, x: Array, w: Array) -> Array:
    form = _dot_conv if _image_channels(window, x.shape[-1]) else _lax_conv
    return form(window, x, w)


def _cpu_input_grad(window: Window, g: Array, w: Array) -> Array:
    sides = zip(window.kernel, window.strides, strict=True)
    strided = window.groups == 1 and all(s > 1 and k % s == 0 for k, s in sides)
    dots = strided or _image_channels(window, w.shape[2])
    return _transposed_in_input(_dot_conv if dots else _lax_conv)(window, g, w)


def _cpu_filter_grad(window: Window, x: Array, g: Array) -> Array:
    x, g = _materialised(x, g)
    form = _dot_conv if _image_channels(window, x.shape[-1]) else _lax_conv
    return _transposed_in_kernel(form)(window, x, g)


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
