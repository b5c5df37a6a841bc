"""Many devices, of this process or of several: the only file that says device, mesh or pmap."""

import ctypes
import functools
import os
import pathlib
import socket
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.state import GANState, Player, StepFn
from jaxgan.types import Batch, Key, Metrics, PyTree, UserError

AXIS = "data"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"
RESIDENT = "data"  # the entry of a batch that holds a whole dataset: the same on every device
MIN_SHARDED = 2**12  # numbers in a leaf; of smaller ones each device keeps its own copy


def initialize(
    *, cpu_devices: int = 0, compilation_cache: str = "", keep_memory: bool = True
) -> None:
    """Prepares the process; call it before anything touches a device.

    Args:
      cpu_devices: trains on this many fake CPU devices, for trying, in each process; 0 uses the
        devices there are.
      compilation_cache: directory in which compiled programs are kept, so that the second start of
        a run compiles nothing; empty for none. JAX_COMPILATION_CACHE_DIR in the environment wins.
      keep_memory: lets a process on CPU keep what a step has freed for the next step; see
        `_keep_freed_memory`.

    Raises:
      UserError: devices are in use already, and are not that many.
    """
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if compilation_cache and not chosen:
        # Programs for one machine's CPU need not run on another that shares the home directory.
        folder = pathlib.Path(compilation_cache).expanduser() / socket.gethostname()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if keep_memory:
        _keep_freed_memory()
    if cpu_devices:
        _make_cpu_devices(cpu_devices)


def _keep_freed_memory() -> None:
    """Stops glibc from giving each step's buffers back to the system and asking for them again.

    XLA on CPU allocates a step's temporary memory anew each time; glibc maps and unmaps blocks of
    that size, and the page faults cost about a fifth of a DCGAN's step. Heap memory that is never
    trimmed costs none. Elsewhere than on Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is free at the top of the heap stays
    mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap too
    mallopt(-8, 1)  # M_ARENA_MAX: and from the same one in every thread


def _make_cpu_devices(cpu_devices: int) -> None:
    """Makes fake devices, unless there are as many already."""
    # Collectives block their thread: with fewer threads than this, steps in flight wait for each
    # other for ever on jax 0.10 and 0.11.
    os.environ.setdefault("PJRT_NPROC", str(max(2 * cpu_devices, os.cpu_count() or 1)))
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    except RuntimeError:
        pass  # devices exist already; whether they are right is checked below
    if jax.local_device_count() != cpu_devices or jax.default_backend() != "cpu":
        raise UserError(
            f"cpu_devices {cpu_devices} asked for after JAX started {jax.local_device_count()} "
            f"{jax.default_backend()} devices; ask before the first array is made"
        )


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


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Refuses a batch that cannot be split evenly.

    Args:
      batch_size: examples in the global batch.
      num_devices: devices it is split over.

    Raises:
      UserError: the remainder is not 0; the message names the nearest sizes that work.
    """
    if batch_size % num_devices:
        below = batch_size // num_devices * num_devices
        near = f"{below} or {below + num_devices}" if below else f"{num_devices}"
        raise UserError(
            f"batch_size {batch_size} does not divide over {num_devices} devices; try {near}"
        )


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


@functools.cache
def compiler_options(compute_dtype: str) -> dict[str, bool | int | str]:
    """Names what XLA is to be asked for, on the devices at hand, beyond its defaults.

    For bfloat16 on CPU that is oneDNN, whose convolutions take half the time of XLA's own. XLA
    calls the option experimental, so it is asked for only if this XLA knows it, not in float32,
    where it gains nothing, and not if XLA_FLAGS mentions it: `=false` there turns it off.

    Args:
      compute_dtype: of the networks, "float32" or "bfloat16".

    Returns:
      Options for `jit_step`, often none.
    """
    cpu = jax.default_backend() == "cpu"
    if not cpu or compute_dtype != "bfloat16" or ONEDNN in os.environ.get("XLA_FLAGS", ""):
        return {}
    options: dict[str, bool | int | str] = {ONEDNN: True}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


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


class Vote:
    """Makes one number of those that the processes give, the same in all, without a wait.

    Every so many calls the largest of them is taken on the devices, behind the steps under way; it
    is read as many calls later. So all processes learn of a signal at the same step.
    """

    def __init__(self, mesh: Mesh, *, every: int = 4):
        """Prepares for votes.

        Args:
          mesh: the devices of all processes.
          every: calls between votes; of one process, every call is one.
        """
        self._mesh, self._every = mesh, every
        self._alone = len(mesh.local_devices) == mesh.size
        self._calls, self._pending = 0, None
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._largest = jax.jit(lambda values: values.max(), out_shardings=everywhere)

    def __call__(self, value: int) -> int:
        """Takes this process's number; every process must call it equally often.

        Args:
          value: 0 for nothing.

        Returns:
          The largest given at the vote before, or 0; for one process, the number itself.
        """
        if self._alone:
            return value
        self._calls += 1
        if self._calls % self._every:
            return 0
        result = 0 if self._pending is None else int(self._pending)
        values = np.full(len(self._mesh.local_devices), value, np.int32)
        split = shard_batch({"value": values}, self._mesh)["value"]
        # What was heard of is not asked for again: whoever gave it may go on.
        self._pending = None if result else self._largest(split)
        return result
