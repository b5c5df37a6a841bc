"""What training remembers, as pytrees of arrays only, and one Optax update of a player."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxgan import collectives
from jaxgan.types import Array, Batch, Key, Metrics, PyTree


class Player(flax.struct.PyTreeNode):
    """One network in training.

    Attributes:
      params: its parameters.
      stats: its other variables by collection ({"batch_stats": ...}); {} where it has none.
      opt_state: the state of its Optax transformation.
    """

    params: PyTree
    stats: PyTree
    opt_state: PyTree

    @property
    def variables(self) -> dict[str, PyTree]:
        """Everything that `module.apply` takes."""
        return {"params": self.params, **self.stats}


class GANState(flax.struct.PyTreeNode):
    """A GAN in training.

    Attributes:
      step: [] int32, steps taken.
      gen: the generator.
      disc: the discriminator.
      gen_ema: moving average of the generator's variables (parameters and statistics).
      extra: whatever else a step must remember, by name.
    """

    step: Array
    gen: Player
    disc: Player
    gen_ema: PyTree
    extra: dict[str, PyTree]


StepFn = Callable[[Key, GANState, Batch], tuple[GANState, Metrics]]
LossFn = Callable[[PyTree], tuple[Array, tuple[PyTree, Metrics]]]


def init_player(variables: Mapping[str, Any], tx: optax.GradientTransformation) -> Player:
    """Makes a player from freshly initialised variables.

    Args:
      variables: what `module.init` returned.
      tx: the Optax transformation that will update it.

    Returns:
      The player, its optimiser's state at the start.
    """
    stats = {name: value for name, value in variables.items() if name != "params"}
    return Player(params=variables["params"], stats=stats, opt_state=tx.init(variables["params"]))


def init_state(gen: Player, disc: Player, **extra: PyTree) -> GANState:
    """Puts two players together, at step 0.

    Args:
      gen: the generator.
      disc: the discriminator.
      **extra: what else a step must remember; found again at `state.extra[name]`.

    Returns:
      The state.
    """
    # A copy: a donated state may hold each buffer once only.
    gen_ema = jax.tree.map(jnp.copy, gen.variables)
    return GANState(
        step=jnp.zeros((), jnp.int32), gen=gen, disc=disc, gen_ema=gen_ema, extra=dict(extra)
    )


def apply_gradients(
    player: Player, tx: optax.GradientTransformation, grads: PyTree, stats: PyTree
) -> Player:
    """Takes one Optax step along given gradients.

    Args:
      player: the player to update.
      tx: its Optax transformation.
      grads: pytree like `player.params`, already averaged over devices.
      stats: the player's new statistics.

    Returns:
      The updated player.
    """
    updates, opt_state = tx.update(grads, player.opt_state, player.params)
    params = optax.apply_updates(player.params, updates)
    return Player(params=params, stats=stats, opt_state=opt_state)


def update(
    player: Player,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    *,
    axis_name: str | None = None,
) -> tuple[Player, Metrics]:
    """Differentiates a player's loss and takes one Optax step.

    Args:
      player: the player to update.
      tx: its Optax transformation.
      loss_fn: `params -> (loss [], (stats, metrics))`.
      axis_name: the mapped axis to average gradients and metrics over, under `pmap` or
        `shard_map(..., check_vma=False)`. With shard_map's default `check_vma=True` gradients are
        summed already, and the average would be wrong by the number of devices.

    Returns:
      The updated player, and the loss function's metrics.
    """
    grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(player.params)
    grads, metrics = collectives.mean((grads, metrics), axis_name)
    return apply_gradients(player, tx, grads, stats), metrics
