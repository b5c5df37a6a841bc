"""Batches and states laid out over the devices of a mesh."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.types import PyTree, UserError

AXIS = "data"


RESIDENT = "data"  # the entry of a batch that holds a whole dataset: the same on every device


MIN_SHARDED = 2**12  # numbers in a leaf; of smaller ones each device keeps its own copy


def make_mesh(devices: Any = None) -> Mesh:
    """Makes a mesh with one axis, "data", over which batches are split.

    Args:
      devices: sequence of devices; all of them by default, of all processes.

    Returns:
      The mesh. The devices of a process stand together, so that its rows of a batch do.

    Raises:
      UserError: processes have different numbers of devices.
    """
    devices = sorted(
        jax.devices() if devices is None else devices, key=lambda each: each.process_index
    )
    mesh = Mesh(np.array(devices), (AXIS,))
    owners = [device.process_index for device in devices]
    counts = {owner: owners.count(owner) for owner in owners}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"process {owner} has {count}" for owner, count in counts.items())
        raise UserError(f"processes have different numbers of devices: {told}; give each the same")
    return mesh


def check_batch_size(batch_size: int, num_devices: int, *, accumulate: int = 1) -> None:
    """Refuses a batch that cannot be split evenly.

    Args:
      batch_size: examples in the global batch.
      num_devices: devices it is split over.
      accumulate: micro-batches that each device's share is split into.

    Raises:
      UserError: the remainder is not 0; the message names the nearest sizes that work.
    """
    shares = num_devices * accumulate
    if batch_size % shares:
        below = batch_size // shares * shares
        near = f"{below} or {below + shares}" if below else f"{shares}"
        over = f"over {num_devices} devices" if num_devices > 1 or accumulate == 1 else ""
        into = f"into {accumulate} micro-batches" if accumulate > 1 else ""
        told = f"{over}, each share {into}" if over and into else over or into
        raise UserError(f"batch_size {batch_size} does not divide {told}; try {near}")


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Puts a copy of every leaf on every device of the mesh.

    Args:
      tree: pytree of arrays, the same in every process.
      mesh: the mesh.

    Returns:
      The tree on the devices; leaves that were there already are not copied.
    """
    return place(tree, jax.tree.map(lambda leaf: NamedSharding(mesh, PartitionSpec()), tree))


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Puts every leaf where it belongs.

    Args:
      tree: pytree of arrays, the same in every process.
      shardings: pytree like it, of shardings, as `state_sharding` makes them.

    Returns:
      The tree on the devices; leaves that were there already are not copied.
    """

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        here = sharding.is_fully_addressable
        if here or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return jax.device_put(leaf, sharding)
        rows = np.asarray(leaf)
        return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])

    return jax.tree.map(put, tree, shardings)


def state_sharding(
    state: PyTree, mesh: Mesh, *, shard_params: bool = False, min_size: int = MIN_SHARDED
) -> PyTree:
    """Says how a state lies on the devices.

    See "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" by Rajbhandari et al.
    (https://arxiv.org/abs/1910.02054): parameters, the optimiser's state and the moving average are
    split over the devices that split the batch, and gathered only while a step needs them.

    Args:
      state: pytree of arrays or of their shapes.
      mesh: the mesh.
      shard_params: splits each leaf along its longest axis that divides over the mesh; otherwise,
        and where there is no such axis, every device has all of it.
      min_size: leaves of fewer numbers are not split.

    Returns:
      Pytree of shardings.
    """

    def of(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0]
        if not shard_params or not axes or np.prod(leaf.shape) < min_size:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, AXIS))

    return jax.tree.map(of, state)


def local_copy(tree: PyTree) -> PyTree:
    """Makes global arrays this process's own, to be used without the other processes.

    In a run of several processes all must call this: what is split over them is gathered.

    Args:
      tree: pytree of arrays, equal on all devices or split over them.

    Returns:
      The tree on the devices of this process, whole on each; its buffers may be those of `tree`.
    """
    mesh = make_mesh(jax.local_devices())
    whole = NamedSharding(mesh, PartitionSpec())

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())  # pyright: ignore
        if not leaf.is_fully_replicated:
            leaf = jax.jit(lambda x: x, out_shardings=everywhere)(leaf)
        pieces = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, whole, pieces)

    return jax.tree.map(own, tree)


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, PyTree]:
    """Splits a batch over the devices of the mesh, along its first axis.

    Args:
      batch: arrays [B, ...], this process's rows of the global batch; an entry "data" (a dataset
        that stays on the devices, see `data.pipeline`) is replicated instead.
      mesh: the mesh.

    Returns:
      The same entries as global arrays on the devices.

    Raises:
      UserError: the batch does not divide over the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    def split(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        check_batch_size(leaf.shape[0] * mesh.size // len(mesh.local_devices), mesh.size)
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return {
        name: replicate(value, mesh) if name == RESIDENT else jax.tree.map(split, value)
        for name, value in batch.items()
    }


def spread() -> Callable[[Any], jax.Array]:
    """Makes the function that spreads a batch's rows over all devices of this process.

    Returns:
      rows [B, ...] -> [B or more, ...]: the last row is repeated until they divide.
    """
    mesh = make_mesh(jax.local_devices())

    def place(rows: Any) -> jax.Array:
        rows = np.asarray(rows)
        rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % mesh.size, 0)])
        return shard_batch({"rows": rows}, mesh)["rows"]

    return place
