"""What this machine's CPU can do."""

import functools
import pathlib


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has products of bfloat16.

    Returns:
      Whether it says to have AVX512_BF16 or AMX; only Linux is asked.
    """
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    features = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    return "avx512_bf16" in features or "amx_bf16" in features
