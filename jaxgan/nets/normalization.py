"""Norms of weights and of features: spectral, weight, pixel, and minibatch standard deviation.

The norms of weights wrap a layer made in place, whose parameters stay its own, as they were:

    x = normalization.SpectralNorm(layers.Conv(64, 4, strides=2))(x, train=train)
    x = normalization.WeightNorm(nn.Dense(64))(x)

`flax.linen.SpectralNorm` writes normalised weights into the parameters at initialisation; these
compute them on the way, and parameters only ever change by their gradient.
"""

import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.types import Array, PyTree, UserError


class SpectralNorm(nn.Module):
    """Divides a layer's kernel by its largest singular value, which bounds the layer's slope.

    See "Spectral Normalization for Generative Adversarial Networks" by Miyato et al.
    (https://arxiv.org/abs/1802.05957), algorithm 1:

      v <- W u / |W u|,  u <- W^T v / |W^T v|,  W / (v^T W u)

    W [.., O] is the kernel with all axes but the last one flattened, for convolutions (transposed
    too), dense layers and embeddings alike; a dense layer becomes 1-Lipschitz. The vector u is in
    the collection "spectral". It follows from the weights alone, so it is the same on all devices
    that have the same weights, and passes of real and fake images only ever bring it nearer.

    Attributes:
      layer: a convolution, `nn.Dense` or `nn.Embed`; every kernel or embedding in it counts.
      num_steps: power iterations each time it is called in training.
      warm_up: power iterations at initialisation, so that training starts from a good u.
      epsilon: norms up to this are taken for 0, and not divided by.
    """

    layer: nn.Module
    num_steps: int = 1
    warm_up: int = 50
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Applies the layer; with `train`, iterates and remembers u, else both stay as they are."""
        weights = _own_parameters(self, self.layer, x)
        normalised = jax.tree_util.tree_map_with_path(
            lambda path, w: self._normalised(path, w, train) if w.ndim > 1 else w, weights
        )
        return _applied(self.layer, normalised, x)

    def _normalised(self, path, kernel: Array, train: bool) -> Array:
        matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
        constant = lax.stop_gradient(matrix)
        u = self.variable("spectral", _name(path), self._first, constant)
        if train and not self.is_initializing():
            u.value = self._iterated(constant, u.value, self.num_steps)
        v = self._unit(constant @ u.value)
        # The derivative of a singular value is that of v^T W u with both vectors held. The length
        # of u matters only in a moving average of states, where it is not quite 1.
        sigma = jnp.vdot(v, matrix @ self._unit(u.value))
        return (kernel / jnp.where(sigma > self.epsilon, sigma, 1.0)).astype(kernel.dtype)

    def _first(self, matrix: Array) -> Array:
        u = jax.random.normal(self.make_rng("params"), matrix.shape[-1:])
        return self._iterated(matrix, self._unit(u), self.warm_up)

    def _iterated(self, matrix: Array, u: Array, num: int) -> Array:
        def step(_, u: Array) -> Array:
            new = self._unit(matrix @ u) @ matrix
            # A kernel of zeros keeps its u: from u = 0 there would be no way back.
            return jnp.where(jnp.linalg.norm(new) > self.epsilon, self._unit(new), u)

        return lax.fori_loop(0, num, step, u, unroll=num <= 4)

    def _unit(self, vector: Array) -> Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), self.epsilon)


class WeightNorm(nn.Module):
    """Separates the length of each output's weights from their direction.

    See "Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural
    Networks" by Salimans and Kingma (https://arxiv.org/abs/1602.07868), equation 2:

      w = scale v / |v|

    The norm is over all of a kernel's axes but the last one, of the outputs. The scale [O] starts
    as |v|, so that a wrapped layer starts as the one it wraps.

    Attributes:
      layer: a convolution, `nn.Dense` or `nn.Embed`; every kernel or embedding in it counts.
      epsilon: added to the squared norm.
    """

    layer: nn.Module
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layer."""
        weights = _own_parameters(self, self.layer, x)
        normalised = jax.tree_util.tree_map_with_path(
            lambda path, w: self._normalised(path, w) if w.ndim > 1 else w, weights
        )
        return _applied(self.layer, normalised, x)

    def _normalised(self, path, kernel: Array) -> Array:
        direction = kernel.astype(jnp.float32)
        squares = jnp.square(direction).sum(tuple(range(kernel.ndim - 1)))
        scale = self.param(f"{_name(path)}_scale", lambda key: jnp.sqrt(squares))
        # One factor for each output, so that the kernel is read once.
        factor = scale * lax.rsqrt(squares + self.epsilon)
        return (direction * factor.reshape((1,) * (kernel.ndim - 1) + (-1,))).astype(kernel.dtype)


def pixel_norm(x: Array, *, epsilon: float = 1e-8) -> Array:
    """Normalises the feature vector of each pixel to a root mean square of 1.

    See "Progressive Growing of GANs" by Karras et al. (https://arxiv.org/abs/1710.10196),
    section 4.2:

      x / sqrt(mean_c x_c^2 + epsilon)

    Args:
      x: [..., C].
      epsilon: added to the mean of squares.

    Returns:
      [..., C], of the dtype of x.
    """
    x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.square(x32).mean(-1, keepdims=True)
    return (x32 * lax.rsqrt(square + epsilon)).astype(x.dtype)


def minibatch_std(x: Array, *, group_size: int = 4, num_features: int = 1) -> Array:
    """Appends how much the examples of a group differ, so that the discriminator sees collapse.

    See "Progressive Growing of GANs" by Karras et al. (https://arxiv.org/abs/1710.10196),
    section 3. Groups are of neighbouring examples, so that a batch split over devices falls into
    the same groups as on one. The logit of an example then depends on its neighbours'.

    Args:
      x: [B, ..., C]; B divides into groups, or is smaller than one.
      group_size: examples a group.
      num_features: new channels; each describes its share of the C channels, which they divide.

    Returns:
      [B, ..., C + num_features], of the dtype of x.

    Raises:
      UserError: the batch does not fall into groups, or the channels into features.
    """
    batch, channels = x.shape[0], x.shape[-1]
    size = min(group_size, batch)
    if size < 1 or batch % size:
        raise UserError(
            f"a batch of {batch} does not fall into groups of {group_size}; "
            f"use {math.gcd(batch, max(group_size, 1))} for group_size, or another batch size"
        )
    if num_features < 1 or channels % num_features:
        raise UserError(f"num_features {num_features} does not divide {channels} channels")
    groups = x.astype(jnp.float32).reshape(
        batch // size, size, -1, num_features, channels // num_features
    )
    # Under the root, an epsilon: equal examples would have a gradient of NaN.
    std = jnp.sqrt(groups.var(1) + 1e-8).mean((1, 3))  # [groups, num_features]
    std = jnp.repeat(std, size, axis=0).astype(x.dtype)
    std = std.reshape(batch, *(1,) * (x.ndim - 2), num_features)
    return jnp.concatenate([x, jnp.broadcast_to(std, (*x.shape[:-1], num_features))], axis=-1)


def _own_parameters(wrapper: nn.Module, layer: nn.Module, x: Array) -> PyTree:
    """The parameters of a wrapped layer, in its own scope; made there at initialisation."""
    if wrapper.is_initializing():
        layer(x)
    return layer.variables["params"]


def _applied(layer: nn.Module, params: PyTree, x: Array) -> Array:
    """A layer's output with parameters in place of its own."""
    return cast(Array, layer.clone(parent=None).apply({"params": params}, x))


def _name(path) -> str:
    """A parameter's place in its layer, as one name: "kernel"."""
    return "_".join(str(entry.key) for entry in path)
