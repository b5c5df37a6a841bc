"""Regularisers of weights and of the generator: orthogonality, gradient norms, path length, clips.

Those of the discriminator's inputs are in `penalties`. A regulariser of weights is a function
`params -> []`, and joins any training step through Optax, in front of the optimiser:

    tx = optax.chain(regularizers.add(regularizers.orthogonal, 1e-4), optax.adam(2e-4, b1=0.0))

Path length needs the generator's latents and a running mean: `steps.path_length_step`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgan.types import Array, Key, PyTree, UserError

Regularizer = Callable[[PyTree], Array]  # params -> []


def orthogonal(params: PyTree) -> Array:
    """Orthogonal regularisation that leaves the norms free: a sum over all kernels.

    See "Large Scale GAN Training for High Fidelity Natural Image Synthesis" by Brock et al.
    (https://arxiv.org/abs/1809.11096), section 3.1; its factor beta is 1e-4 there:

      |W^T W o (1 - I)|_F^2

    Args:
      params: pytree; leaves [..., O] of two axes or more count, their columns being the O outputs.

    Returns:
      [] float32.
    """
    return _over_kernels(params, lambda gram: gram * (1.0 - jnp.eye(gram.shape[0])))


def orthonormal(params: PyTree) -> Array:
    """Orthogonal regularisation that draws norms to 1 as well: a sum over all kernels.

    See "Neural Photo Editing with Introspective Adversarial Networks" by Brock et al.
    (https://arxiv.org/abs/1609.07093), in the squared form that Brock et al. (2018) give it:

      |W^T W - I|_F^2

    Args:
      params: pytree; leaves [..., O] of two axes or more count, their columns being the O outputs.

    Returns:
      [] float32.
    """
    return _over_kernels(params, lambda gram: gram - jnp.eye(gram.shape[0]))


def _over_kernels(params: PyTree, distance: Callable[[Array], Array]) -> Array:
    """Sums the squares of a function of W^T W over all W."""
    kernels = [w.reshape(-1, w.shape[-1]) for w in jax.tree.leaves(params) if w.ndim > 1]
    squares = [jnp.square(distance(w.T @ w)).sum() for w in (k.astype("float32") for k in kernels)]
    return jnp.stack([jnp.zeros(()), *squares]).sum()


def gradient_norm(loss: Regularizer, params: PyTree) -> Array:
    """Squared length of a loss's gradient in weight space, over all leaves together.

    See "Gradient descent GAN optimization is locally stable" by Nagarajan and Kolter
    (https://arxiv.org/abs/1706.04156), section 4: the generator minimises its loss plus eta times
    this, of the discriminator's objective and parameters. "The Numerics of GANs" by Mescheder et
    al. (https://arxiv.org/abs/1705.10461) takes half of it over both players.

      |grad_params loss(params)|^2

    Args:
      loss: `params -> []`, the mean over the batch.
      params: pytree.

    Returns:
      [] float32.
    """
    grads = jax.tree.leaves(jax.grad(loss)(params))
    return jnp.stack([jnp.square(g.astype(jnp.float32)).sum() for g in grads]).sum()


def path_lengths(key: Key, generate: Callable[[Array], Array], z: Array) -> Array:
    """How far a random direction in image space moves each latent.

    See "Analyzing and Improving the Image Quality of StyleGAN" by Karras et al.
    (https://arxiv.org/abs/1912.04958), section 3.2:

      |J^T y|    with J = d generate(z) / d z and y ~ N(0, 1 / number of pixels)

    Args:
      key: consumed.
      generate: latents -> images [B, H, W, C], each from its own latent alone.
      z: [B, Z], or [B, L, Z] with a latent a layer, over which the root mean square is taken.

    Returns:
      [B] float32.
    """
    shape = jax.eval_shape(generate, z).shape
    y = jax.random.normal(key, shape) / math.sqrt(math.prod(shape[1:-1]))
    return lengths_along(generate, z, y)


def lengths_along(generate: Callable[[Array], Array], z: Array, y: Array) -> Array:
    """The lengths of `path_lengths` along given directions: its deterministic twin.

    Args:
      generate: latents -> images [B, H, W, C].
      z: [B, Z] or [B, L, Z].
      y: [B, H, W, C] directions.

    Returns:
      [B] float32.
    """
    grads = jax.grad(lambda z: (generate(z) * y).sum())(z).astype(jnp.float32)
    squares = jnp.square(grads).sum(-1).reshape(z.shape[0], -1).mean(1)
    return jnp.sqrt(squares + 1e-12)  # the gradient of a root at zero is NaN otherwise


def path_length(lengths: Array, mean: Array) -> Array:
    """Path length penalty: deviations from the running mean, without its factor gamma.

    See "Analyzing and Improving the Image Quality of StyleGAN" by Karras et al.
    (https://arxiv.org/abs/1912.04958), equation 4:

      (|J^T y| - a)^2

    Args:
      lengths: [B], of `path_lengths`.
      mean: [], the a: running mean of the lengths.

    Returns:
      [B] float32.
    """
    return jnp.square(lengths - mean)


def update_path_mean(mean: Array, lengths: Array, *, decay: float = 0.99) -> Array:
    """Moves the running mean of path lengths; kept in `state.extra`, zero at the start.

    Args:
      mean: [] float32.
      lengths: [B]; over several devices, give the mean of all.
      decay: weight of the old mean, in [0, 1).

    Returns:
      [] float32, without a gradient.
    """
    return jax.lax.stop_gradient(decay * mean + (1.0 - decay) * lengths.mean())


def add(regularizer: Regularizer, weight: float) -> optax.GradientTransformation:
    """Adds the gradient of a regulariser of weights to the updates; goes before the optimiser.

    Args:
      regularizer: `params -> []`.
      weight: its coefficient, at least 0.

    Returns:
      An Optax transformation without state.
    """

    def update(updates: PyTree, params: PyTree | None) -> PyTree:
        return jax.tree.map(
            lambda u, g: u + (weight * g).astype(u.dtype), updates, jax.grad(regularizer)(params)
        )

    return optax.stateless(update)


def clip_weights(limit: float) -> optax.GradientTransformation:
    """Keeps every weight within a limit after the update; goes last in the chain.

    See "Wasserstein GAN" by Arjovsky et al. (https://arxiv.org/abs/1701.07875), algorithm 1, where
    the limit is 0.01:

      w <- clip(w + update, -limit, limit)

    Args:
      limit: above 0.

    Returns:
      An Optax transformation without state; weights keep to the limit up to rounding.

    Raises:
      UserError: the limit is not above 0.
    """
    if not limit > 0:
        raise UserError(f"weights cannot be clipped at {limit}; use a limit above 0, such as 0.01")

    def update(updates: PyTree, params: PyTree | None) -> PyTree:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -limit, limit) - p, updates, params)

    return optax.stateless(update)
