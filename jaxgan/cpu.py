"""What this machine's CPU can do."""

import functools
import pathlib


@functools.cache
def has(*features: str) -> bool:
    """Whether the CPU has instructions.

    Args:
      *features: names as Linux has them, such as "avx512f".

    Returns:
      Whether it says to have one of them; only Linux is asked.
    """
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return cpuinfo.is_file() and not set(features).isdisjoint(cpuinfo.read_text().split())
