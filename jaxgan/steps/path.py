"""Path length regularisation of a generator that makes images of latents w: a step of its own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgan import collectives, regularizers
from jaxgan import state as states
from jaxgan.state import GANState, StepFn
from jaxgan.steps.accumulate import accumulated
from jaxgan.types import Array, Batch, Key, Metrics, PyTree

PATH = "path"  # its place in `state.extra`


def path_length_step(
    latents: Callable[[Key, PyTree, Batch], Array],
    synthesize: Callable[[Key, PyTree, Array], Array],
    tx: optax.GradientTransformation,
    *,
    weight: float = 2.0,
    shrink: int = 2,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> StepFn:
    """Draws the lengths of G's images' moves, per move of w, towards their running mean.

    See "Analyzing and Improving the Image Quality of StyleGAN" by Karras et al.
    (https://arxiv.org/abs/1912.04958), section 3.2, and `regularizers.path_lengths`. Lazy, as in
    the paper: `steps.every(n, path_length_step(..., weight=2.0 * n))`.

    Args:
      latents: `(key, variables, batch) -> w [B, L, W]`, differentiated as well.
      synthesize: `(key, variables, w) -> images [B, H, W, C]`.
      tx: the generator's Optax transformation, the one of its other step.
      weight: of the penalty.
      shrink: the lengths of the first 1 / shrink of a device's batch are measured.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`. The lengths of
        each are drawn to the running mean as it is after this one's own.
      axis_name: the mapped axis, if any.

    Returns:
      A step for a state with `extra["path"]`, a float32 zero at the start: the running mean of the
      lengths. Its metrics are "gen/path" (that mean) and "gen/path_penalty" (unweighted).
      Statistics stay as they are.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        def find(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
            latent_key, net_key, direction_key = jax.random.split(key, 3)
            direction_key, net_key = (
                collectives.own_key(k, axis_name) for k in (direction_key, net_key)
            )
            few = {name: x[: -(-x.shape[0] // shrink)] for name, x in batch.items()}

            def loss_fn(params: PyTree) -> tuple[Array, Metrics]:
                variables = {"params": params, **state.gen.stats}
                lengths = regularizers.path_lengths(
                    direction_key,
                    lambda w: synthesize(jax.random.clone(net_key), variables, w),
                    latents(latent_key, variables, few),
                )
                common = collectives.mean(lengths.mean(), axis_name)
                mean = regularizers.update_path_mean(state.extra[PATH], common)
                penalty = regularizers.path_length(lengths, mean).mean()
                metrics = {"gen/path": mean, "gen/path_penalty": penalty}
                return weight * penalty, metrics

            return jax.grad(loss_fn, has_aux=True)(state.gen.params), ()

        (grads, metrics), _ = accumulated(find, accumulate)(key, batch)
        grads, metrics = collectives.mean((grads, metrics), axis_name)
        player = states.apply_gradients(state.gen, tx, grads, state.gen.stats)
        return state.replace(gen=player, extra={**state.extra, PATH: metrics["gen/path"]}), metrics

    return step


def init_path() -> Array:
    """The running mean before the first step, to put into `state.extra["path"]`.

    Returns:
      [] float32.
    """
    return jnp.zeros(())
