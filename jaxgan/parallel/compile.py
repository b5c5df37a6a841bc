"""A step compiled for many devices: in the global view with jit, or per device with pmap."""

from collections.abc import Mapping

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.parallel.mesh import (
    AXIS,
    RESIDENT,
    check_batch_size,
    make_mesh,
    place,
    replicate,
    shard_batch,
)
from jaxgan.state import GANState, Player, StepFn
from jaxgan.types import Batch, Key, Metrics, PyTree


def jit_step(
    step: StepFn,
    mesh: Mesh,
    *,
    shardings: PyTree = None,
    compiler_options: Mapping[str, bool | int | str] | None = None,
) -> StepFn:
    """Compiles a step over a mesh in the global view: it is written as for one device.

    Args:
      step: `(key, state, batch) -> (state, metrics)`, without an axis name.
      mesh: the mesh.
      shardings: how the state lies on the devices, from `state_sharding`; None for all of it on
        each.
      compiler_options: what to ask of XLA beyond its defaults; see the function of that name.

    Returns:
      The compiled step. It takes NumPy batches too, and donates the state: the one passed in cannot
      be used again.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def gathered(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return step(key, _with_whole_params(state, everywhere), batch)

    compiled = jax.jit(
        gathered if shardings else step,
        donate_argnums=1,
        out_shardings=(shardings or everywhere, everywhere),
        compiler_options=dict(compiler_options or {}),
    )

    def run(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return compiled(key, _placed(state, mesh, shardings), shard_batch(batch, mesh))

    return run


def _with_whole_params(state: GANState, everywhere: NamedSharding) -> GANState:
    """The state with the parameters that the networks need, gathered for this step.

    Left to itself the compiler may split a layer's arithmetic along its parameters, which moves
    activations instead.
    """

    def whole(player: Player) -> Player:
        return player.replace(
            params=jax.lax.with_sharding_constraint(player.params, everywhere),
            stats=jax.lax.with_sharding_constraint(player.stats, everywhere),
        )

    return state.replace(gen=whole(state.gen), disc=whole(state.disc))


def pmap_step(step: StepFn, axis_name: str = AXIS, *, mesh: Mesh | None = None) -> StepFn:
    """Compiles a step in the per-device view, with `pmap`.

    State and key have no replica axis: checkpoints, averages and samples are the same pytrees as
    under `jit_step`.

    Args:
      step: `(key, state, batch) -> (state, metrics)`, built with the same `axis_name`. What it
        returns must be equal on all devices; a step that forgets to average lets them drift apart
        silently.
      axis_name: name of the mapped axis.
      mesh: the devices; all of them by default.

    Returns:
      The compiled step, called with global batches exactly as `jit_step`'s; it donates the state.
    """
    mesh = mesh or make_mesh()
    num = len(mesh.local_devices)

    def mapped(
        key: Key, state: GANState, batch: Batch, resident: PyTree
    ) -> tuple[GANState, Metrics]:
        return step(key, state, {**batch, **resident})

    compiled = jax.pmap(
        mapped,
        axis_name=axis_name,
        in_axes=(None, None, 0, None),
        out_axes=None,  # pyright: ignore[reportArgumentType]
        devices=list(mesh.devices.flat),
        donate_argnums=1,
    )

    def run(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        resident = {name: replicate(v, mesh) for name, v in batch.items() if name == RESIDENT}
        rows = {name: v for name, v in batch.items() if name != RESIDENT}
        for value in jax.tree.leaves(rows):
            check_batch_size(value.shape[0], num)
        split = jax.tree.map(lambda v: v.reshape(num, v.shape[0] // num, *v.shape[1:]), rows)
        return compiled(key, _placed(state, mesh), split, resident)

    return run


def _placed(state: GANState, mesh: Mesh, shardings: PyTree = None) -> GANState:
    """The state on its devices; from the second step on it is there already."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    if getattr(state.step, "sharding", None) == everywhere:  # a number, which is never split
        return state
    return place(state, shardings) if shardings else replicate(state, mesh)
