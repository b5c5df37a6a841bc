"""The process before anything touches a device: fake devices, memory, what XLA is asked for."""

import ctypes
import functools
import os
import pathlib
import socket
import sys

import jax

from jaxgan.types import UserError

ONEDNN = "xla_cpu_experimental_onednn_custom_call"


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
