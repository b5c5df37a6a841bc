"""Set-up of the process before anything touches a device: fake devices, memory, XLA's options."""

import ctypes
import functools
import os
import pathlib
import socket
import sys
import warnings

import jax
import jax.numpy as jnp

from jaxgan import cpu
from jaxgan.parallel import processes
from jaxgan.types import UserError

ONEDNN = "xla_cpu_experimental_onednn_custom_call"


def initialize(
    *, cpu_devices: int = 0, compilation_cache: str = "", keep_memory: bool = True
) -> None:
    """Prepares the process; call it before anything touches a device.

    Args:
      cpu_devices: number of fake CPU devices of each process, for tests; 0 for the real devices.
      compilation_cache: directory of compiled programs, so that the second start of a run compiles
        nothing; empty for none. JAX_COMPILATION_CACHE_DIR in the environment takes precedence.
      keep_memory: whether a process on CPU keeps freed memory for the next step; see
        `_keep_freed_memory`.

    Raises:
      UserError: JAX has started already, with another number of devices.
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
    """Chooses compiler options of XLA for the devices of this process.

    For bfloat16 on a CPU that multiplies it (AVX512_BF16 or AMX) that is oneDNN, whose convolutions
    take half the time of XLA's own or less; on others it may take a matrix product to its reference
    code, which needs seconds. XLA calls the option experimental: it is set only where this XLA has
    it, and not if XLA_FLAGS mentions it (`=false` there turns it off).

    Args:
      compute_dtype: of the networks, "float32" or "bfloat16".

    Returns:
      Options for `jit_step`, often none.
    """
    fast = jax.default_backend() == "cpu" and cpu.multiplies_bfloat16()
    if not fast or compute_dtype != "bfloat16" or ONEDNN in os.environ.get("XLA_FLAGS", ""):
        return {}
    options: dict[str, bool | int | str] = {ONEDNN: True}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    _report_uncached(options)
    return options


def _report_uncached(options: dict[str, bool | int | str]) -> None:
    """Reports once where the compilation cache cannot store programs that call oneDNN.

    XLA of jaxlib 0.12 has no serialised form of these calls, and fails with std::bad_alloc. JAX
    would warn of every such program at every start.
    """
    if not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    image = jax.ShapeDtypeStruct((4, 8, 8, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.bfloat16)
    convolve = jax.jit(
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        compiler_options=options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = convolve.lower(image, kernel).compile()
    try:
        program.runtime_executable().serialize()  # pyright: ignore[reportOptionalMemberAccess]
    except MemoryError:
        warnings.filterwarnings("ignore", message="Error writing persistent compilation cache")
        if processes.is_main():
            flag = f"XLA_FLAGS=--{ONEDNN}=false"
            print(
                "note: this XLA cannot store bfloat16 programs that call oneDNN; every start "
                f"compiles them again ({flag}: slower steps, faster starts)",
                file=sys.stderr,
                flush=True,
            )
