"""Many devices: the only file that says device, mesh, pmap or process."""

import ctypes
import functools
import os
import pathlib
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, Metrics, PyTree, UserError

AXIS = "data"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"
RESIDENT = "data"  # the entry of a batch that holds a whole dataset: the same on every device


def initialize(
    *, cpu_devices: int = 0, compilation_cache: str = "", keep_memory: bool = True
) -> None:
    """Prepares the process; call it before anything touches a device.

    Args:
      cpu_devices: trains on this many fake CPU devices, for trying; 0 uses the devices there are.
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
    if jax.device_count() != cpu_devices or jax.default_backend() != "cpu":
        raise UserError(
            f"cpu_devices {cpu_devices} asked for after JAX started {jax.device_count()} "
            f"{jax.default_backend()} devices; ask before the first array is made"
        )


def make_mesh(devices: Any = None) -> Mesh:
    """Makes a mesh with one axis, "data", over which batches are split.

    Args:
      devices: sequence of devices; all of them by default.

    Returns:
      The mesh.
    """
    return Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))


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
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


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
        check_batch_size(leaf.shape[0] * jax.process_count(), mesh.size)
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
    compiler_options: Mapping[str, bool | int | str] | None = None,
) -> StepFn:
    """Compiles a step over a mesh in the global view: it is written as for one device.

    Args:
      step: `(key, state, batch) -> (state, metrics)`, without an axis name.
      mesh: the mesh.
      compiler_options: what to ask of XLA beyond its defaults; see the function of that name.

    Returns:
      The compiled step. It takes NumPy batches too, and donates the state: the one passed in cannot
      be used again.
    """
    compiled = jax.jit(
        step,
        donate_argnums=1,
        out_shardings=NamedSharding(mesh, PartitionSpec()),
        compiler_options=dict(compiler_options or {}),
    )
    return _placed(compiled, mesh)


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
        return compiled(key, _replicated(state, mesh), split, resident)

    return run


def _placed(compiled: Callable, mesh: Mesh) -> StepFn:
    """Puts state and batch where they belong before the compiled step sees them."""

    def run(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return compiled(key, _replicated(state, mesh), shard_batch(batch, mesh))

    return run


def _replicated(state: GANState, mesh: Mesh) -> GANState:
    """The state on every device; from the second step on it is there already."""
    sharding = getattr(state.step, "sharding", None)
    if sharding == NamedSharding(mesh, PartitionSpec()):
        return state
    return replicate(state, mesh)
