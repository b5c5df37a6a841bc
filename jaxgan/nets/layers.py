"""Layers that every network is built from: convolutions fast at every derivative, and norms.

Parameters, initialisers and options are those of the Flax layers of the same name, so that
checkpoints and recipes carry over.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import dtypes
from jax import lax

from jaxgan import types
from jaxgan.nets import conv
from jaxgan.types import Array

Padding = str | int | Sequence[int | tuple[int, int]]
PADDINGS = {"SAME": "SAME", "VALID": "VALID"}  # those that have a name


class Conv(nn.Module):
    """Convolves images in two dimensions; `flax.linen.Conv` with fast derivatives.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel, or one number for both.
      strides: steps between outputs, in pixels.
      padding: "SAME", "VALID", or zeros to add: one number, one a side, or (before, after).
      feature_group_count: groups of channels that do not see each other.
      use_bias: adds a bias for each output channel.
      dtype: of the computation; by default that of inputs and parameters together.
      param_dtype: of the parameters.
      kernel_init: initialiser of the kernel [kh, kw, C / groups, O].
      bias_init: initialiser of the bias [O].
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.constant(0.0)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps images [B, H, W, C] to [B, h, w, features]."""
        groups, kernel, strides = (
            self.feature_group_count,
            _pair(self.kernel_size),
            _pair(self.strides),
        )
        shape = (*kernel, x.shape[-1] // groups, self.features)
        x, w, bias = _parameters(self, x, shape)
        padding = _conv_padding(self.padding, x.shape[1:3], kernel, strides)
        window = conv.Window(_pair(x.shape[1:3]), kernel, strides, padding, groups)
        y: Array = conv.conv(window, x, w)
        return y if bias is None else y + spread(bias, y)


class ConvTranspose(nn.Module):
    """Convolves transposed, in two dimensions; `flax.linen.ConvTranspose` with fast derivatives.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel, or one number for both.
      strides: outputs to each input, in each direction.
      padding: "SAME", "VALID", or as `flax.linen.ConvTranspose` has it: zeros around the
        dilated input.
      use_bias: adds a bias for each output channel.
      dtype: of the computation; by default that of inputs and parameters together.
      param_dtype: of the parameters.
      kernel_init: initialiser of the kernel [kh, kw, C, O].
      bias_init: initialiser of the bias [O].
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.constant(0.0)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps images [B, H, W, C] to [B, h, w, features]."""
        kernel, strides = _pair(self.kernel_size), _pair(self.strides)
        x, w, bias = _parameters(self, x, (*kernel, x.shape[-1], self.features))
        size, padding = _transposed_window(self.padding, x.shape[1:3], kernel, strides)
        window = conv.Window(size, kernel, strides, padding)
        # The convolution whose gradient this is has its kernel turned and its channels swapped.
        y: Array = conv.input_grad(window, x, w[::-1, ::-1].swapaxes(2, 3))
        return y if bias is None else y + spread(bias, y)


def spread(a: Array, x: Array) -> Array:
    """Broadcasts an array over images, and then brings it to their number format.

    The gradient is thereby a sum in float32: more exact than one in bfloat16, for which XLA on CPU
    takes 60 times as long.

    Args:
      a: that broadcasts to the shape of x, such as a bias [C] or a scale [B, 1, 1, C].
      x: images [B, H, W, C].

    Returns:
      [B, H, W, C] in the dtype of x.
    """
    wide = a.astype(jnp.promote_types(a.dtype, jnp.float32))
    return jnp.broadcast_to(wide, x.shape).astype(x.dtype)


def pointwise(x: Array, w: Array, *dimension_numbers: Any, **options: Any) -> Array:
    """The same map at each pixel: `dot_general` of a `flax.linen.Dense` for images.

    As a convolution its filter gradient reads arrays that are in memory (`conv`): on CPU, XLA makes
    the operands of a sum over pixels as it turns them over, at a tenth of the speed.

    Args:
      x: images [B, H, W, C].
      w: kernel [C, O].
      *dimension_numbers: those of such a product, as the layer gives them.
      **options: of `dot_general`, without effect.

    Returns:
      [B, H, W, O].
    """
    del dimension_numbers, options
    return conv.conv(conv.Window(_pair(x.shape[1:3]), (1, 1)), x, w[None, None])


class Norm(nn.Module):
    """Normalises over the batch, over channels of each example, or not at all.

    Attributes:
      kind: "batch", "group", "layer" (all of an example, with a scale for each channel: one
        group), "instance" (each channel of an example by itself) or "none".
      momentum: of the running statistics, "batch" only.
      epsilon: added to the variance.
      num_groups: "group" only; must divide the channels.
      axis_name: pmap axis over which batch statistics are taken; none under `jit`.
      dtype: of the result; statistics are float32.
      slope: leaky ReLU with this slope follows, 0 being ReLU; None for no activation.
      affine: scales and shifts each channel by parameters.
    """

    kind: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    num_groups: int = 32
    axis_name: str | None = None
    dtype: Any = None
    slope: float | None = None
    affine: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises x [B, ..., C]; with `train`, "batch" uses and records x's statistics."""
        pool = types.lookup(POOLS, self.kind, "norm")
        if pool is None:
            return x if self.slope is None else nn.leaky_relu(x, self.slope)
        scale, bias = jnp.ones(x.shape[-1:]), jnp.zeros(x.shape[-1:])
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        normalise = functools.partial(_normalise, pool(self, x), self.epsilon, self.slope)
        if self.kind == "batch":
            y = self._with_running_statistics(normalise, x, scale, bias, train)
        else:
            y, _, _ = normalise(x, scale, bias)
        return y.astype(self.dtype or x.dtype)

    def _with_running_statistics(self, normalise, x, scale, bias, train):
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:], jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:], jnp.float32)
        if not train:
            return _affine(self.epsilon, self.slope, x, mean.value, var.value, scale, bias)
        y, batch_mean, batch_var = normalise(x, scale, bias)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean.ravel()
            var.value = self.momentum * var.value + (1 - self.momentum) * batch_var.ravel()
        return y


def required(label: Array | None) -> Array:
    """Refuses a conditional network without labels.

    Args:
      label: [B] int32, or None.

    Returns:
      The label.

    Raises:
      UserError: it is None.
    """
    if label is None:
        raise types.UserError("a network with num_classes > 0 needs labels; pass label [B]")
    return label


def with_label(
    z: Array,
    label: Array | None,
    num_classes: int,
    *,
    init: Any,
) -> Array:
    """Puts the embedding of its label beside each latent; call it in a compact method.

    Args:
      z: [B, Z] latents.
      label: [B] int32 in [0, num_classes); None where there are none.
      num_classes: number of labels; 0 leaves latents as they are.
      init: of the embedding.

    Returns:
      [B, 2 Z], or [B, Z] without labels.

    Raises:
      UserError: there are labels, but none is given.
    """
    if not num_classes:
        return z
    embed = nn.Embed(num_classes, z.shape[-1], embedding_init=init)
    return jnp.concatenate([z, embed(required(label))], axis=-1)


def verdict(
    x: Array,
    label: Array | None,
    *,
    num_classes: int,
    head: str,
    init: Any,
    dtype: Any = jnp.float32,
) -> Array | dict[str, Array]:
    """Ends a discriminator in a dense layer, and in what it says of labels; as `with_label`.

    Args:
      x: [B, F] features.
      label: [B] int32 in [0, num_classes); None where there is no projection.
      num_classes: 0, or the number of labels.
      head: "projection" adds the inner product of the features and the label's embedding to the
        logit ("cGANs with Projection Discriminator" by Miyato and Koyama,
        https://arxiv.org/abs/1802.05637); "class" leaves the label to the network (AC-GAN).
      init: of kernels and embedding.
      dtype: of the dense layers.

    Returns:
      [B] float32 logits; with the head "class" {"logits": [B], "class": [B, num_classes]}.

    Raises:
      UserError: an unknown head, or no labels for the projection.
    """
    logits = nn.Dense(1, kernel_init=init, dtype=dtype)(x)[:, 0].astype(jnp.float32)
    if not num_classes:
        return logits
    if by_class(head):
        classes = nn.Dense(num_classes, kernel_init=init, dtype=dtype)(x)
        return {"logits": logits, "class": classes.astype(jnp.float32)}
    embedded = nn.Embed(num_classes, x.shape[-1], embedding_init=init)(required(label))
    return logits + jnp.sum(embedded * x.astype(jnp.float32), axis=-1)


def by_class(head: str) -> bool:
    """Tells the two heads of a conditional discriminator apart.

    Args:
      head: "projection" or "class".

    Returns:
      Whether it says what class an image is of.

    Raises:
      UserError: it is neither.
    """
    return types.lookup({"projection": False, "class": True}, head, "head")


def rematerialised(function: Callable[..., Any], wanted: bool) -> Callable[..., Any]:
    """Has what a part of a network computes made anew in the backward pass, in place of kept.

    See "Training Deep Nets with Sublinear Memory Cost" by Chen et al.
    (https://arxiv.org/abs/1604.06174). Numbers and parameters stay the same.

    Args:
      function: `(module, *arrays) -> arrays`, called in a compact method with the module itself.
      wanted: False for the function as it is.

    Returns:
      The function.
    """
    return nn.remat(function) if wanted else function


def _over_batch(norm: Norm, x: Array):
    axis_name = None if norm.is_initializing() else norm.axis_name
    del x

    def pool(means: Array) -> Array:
        mean = means.mean(0, keepdims=True)
        return mean if axis_name is None else lax.pmean(mean, axis_name)

    return pool


def _over_group(norm: Norm, x: Array):
    groups, channels = 1 if norm.kind == "layer" else norm.num_groups, x.shape[-1]
    if channels % groups:
        raise types.UserError(
            f"num_groups {groups} does not divide {channels} channels; try a common divisor"
        )

    def pool(means: Array) -> Array:
        mean = means.reshape(means.shape[0], groups, channels // groups).mean(2)
        return jnp.repeat(mean, channels // groups, axis=-1)

    return pool


def _over_instance(norm: Norm, x: Array):
    del norm, x
    return lambda means: means


# What each kind of norm averages over, beyond the pixels of an example: (norm, x) -> a function
# from the means of each example and channel [B, C] to what they share [B, C] or [1, C].
POOLS = {
    "batch": _over_batch,
    "group": _over_group,
    "layer": _over_group,
    "instance": _over_instance,
    "none": None,
}


def _affine(epsilon, slope, x, mean, var, scale, bias) -> Array:
    """Normalises by given statistics, scales and activates, in float32 or better."""
    row = (1,) * (x.ndim - 1) + (-1,)
    scale, bias = scale.reshape(row), bias.reshape(row)
    mean, var = (m.reshape(row) if m.ndim == 1 else m for m in (mean, var))
    y = (_widened(x) - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
    return y if slope is None else nn.leaky_relu(y, slope)


def _widened(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _normalise(pool, epsilon, slope, x, scale, bias):
    """Normalises by x's own statistics, which come second and third."""
    x = _made_once(x)
    mean = pool(_means(_widened(x)))
    var = jnp.maximum(pool(_means(jnp.square(_widened(x)))) - jnp.square(mean), 0)  # rounding
    mean, var = _beside(mean, x), _beside(var, x)
    return _affine(epsilon, slope, x, mean, var, scale, bias), mean, var


@_normalise.defjvp
def _normalise_jvp(pool, epsilon, slope, primals, tangents):
    """Written so that its transpose, the gradient, takes two passes over memory; JAX's takes four.

    Of what has pixels the tangent is dx, 1 and u, the centred x, with factors that have none. The
    gradient is thereby the sums of g and g u, in one pass, and then g, 1 and u in another.
    """
    x, scale, bias = primals
    x = _made_once(x)
    y, mean, var = _normalise(pool, epsilon, slope, x, scale, bias)
    row = (1,) * (x.ndim - 1) + (-1,)
    inverse = lax.rsqrt(var + epsilon)
    gain, centred = inverse * scale.reshape(row), _widened(x) - mean

    dx, scale_dot, bias_dot = tangents
    dx = _widened(dx)
    mean_dot = _beside(pool(_means(dx)), x)
    half_var_dot = _beside(pool(_means(centred * dx)), x)
    shift = bias_dot.reshape(row) - gain * mean_dot
    slant = inverse * scale_dot.reshape(row) - gain * jnp.square(inverse) * half_var_dot
    dy = _made_once(gain * dx + _to_each(shift, x) + centred * _to_each(slant, x))
    if slope is not None:
        dy *= jnp.where(centred * gain + bias.reshape(row) >= 0, 1.0, slope)
    return (y, mean, var), (dy, mean_dot, 2 * half_var_dot)


def _means(x: Array) -> Array:
    """Averages over the pixels of each example: [B, ..., C] to [B, C]."""
    return x.mean(tuple(range(1, x.ndim - 1)))


def _to_each(means: Array, x: Array) -> Array:
    """Repeats [1, ..., C] for each example, so that the transpose sums over the pixels first.

    The two factors, which cancel, keep XLA from making one sum of the two: it splits over cores.
    """
    pixels = x[0, ..., 0].size
    return jnp.broadcast_to(means * pixels, (x.shape[0], *means.shape[1:])) / pixels


def _beside(means: Array, x: Array) -> Array:
    """Shapes [B, C] or [1, C] so that it broadcasts against x [B, ..., C]."""
    return means.reshape(-1, *(1,) * (x.ndim - 2), x.shape[-1])


def _made_once(x: Array) -> Array:
    """Has x written to memory; on CPU, XLA otherwise makes it anew in each loop that reads it."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


def _parameters(layer, x: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array | None]:
    """The input and the kernel in the dtype of the computation, and the bias as it is."""
    w = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, shape[-1:], layer.param_dtype)
    x, w = dtypes.promote_dtype(x, w, dtype=layer.dtype)
    return x, w, bias


def _pair(value: int | Sequence[int]) -> conv.Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def _conv_padding(padding: Padding, size, kernel, strides) -> tuple[conv.Pair, conv.Pair]:
    if isinstance(padding, str):
        padding = types.lookup(PADDINGS, padding, "padding")
        padding = lax.padtype_to_pads(size, kernel, strides, padding)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return _pair(rows), _pair(columns)


def _transposed_window(
    padding: Padding, size, kernel, strides
) -> tuple[conv.Pair, tuple[conv.Pair, conv.Pair]]:
    """Output size and padding of the convolution that this transposed one is the gradient of."""
    if isinstance(padding, str):
        padding = types.lookup(PADDINGS, padding, "padding")
        padding = [_transposed_pads(padding, k, s) for k, s in zip(kernel, strides, strict=True)]
    pads = _conv_padding(padding, size, kernel, strides)
    rows, columns = (
        (n - 1) * s + 2 - k + sum(pad)
        for n, k, s, pad in zip(size, kernel, strides, pads, strict=True)
    )
    top, left = ((k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel, pads, strict=True))
    return (rows, columns), (top, left)


def _transposed_pads(padding: str, kernel: int, stride: int) -> conv.Pair:
    total = kernel + stride - 2 + (max(kernel - stride, 0) if padding == "VALID" else 0)
    before = kernel - 1 if padding == "VALID" or stride >= kernel else -(-total // 2)
    return before, total - before
