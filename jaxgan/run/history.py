"""history.jsonl: who trained in a run directory, when, on what, and what went wrong.

One JSON object a line, each with its "step", its "event" and the "time" (UTC): "start" with
versions and devices, "rollback" with the reason, "end" with why, the seconds and the most memory.
Unlike the lines of metrics.jsonl those of a rollback or of a resumed run are never removed.
"""

import contextlib
import datetime
import importlib.metadata
import pathlib
import platform
import resource
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from jaxgan import __version__, types
from jaxgan.run import logfile

FILE = "history.jsonl"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> dict[str, Any]:
    """Describes what a run trains on; the name of the host is left out.

    Returns:
      {"versions": by package, "devices": "2 x NVIDIA H100", "processes": how many, "system"}.
    """
    found = {"jaxgan": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {
        "versions": found,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def peak_memory() -> dict[str, int]:
    """Tells the most memory that this process has needed so far.

    Returns:
      {"host_bytes"}, and "device_bytes" of the first device where it counts them.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host_bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        found["device_bytes"] = int(stats["peak_bytes_in_use"])
    return found


@contextlib.contextmanager
def session(folder: Any, step: int) -> Iterator[None]:
    """Notes the start and the end of training, whatever ends it.

    Args:
      folder: the `rundir.RunDir`.
      step: that training begins after.

    Yields:
      Nothing.
    """
    began = time.perf_counter()
    folder.note("start", step=step, **machine())
    why = "finished"
    try:
        yield
    except BaseException as error:
        why = _why(error)
        raise
    finally:
        seconds = round(time.perf_counter() - began, 1)
        folder.note("end", why=why, seconds=seconds, **peak_memory())


def _why(error: BaseException) -> str:
    """What ended training, in a line."""
    code = error.code if isinstance(error, SystemExit) else 0
    if isinstance(code, int):
        with contextlib.suppress(ValueError):  # not the number of a signal
            return f"stopped by {signal.Signals(code - 128).name}"
    return types.one_line(f"{type(error).__name__}: {error}", limit=200)


def now() -> str:
    """The time, to the second.

    Returns:
      "2026-11-28T17:05:00+00:00".
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what happened in a run directory.

    Args:
      path: the run directory.

    Returns:
      The lines, oldest first; none of a run of an older version.
    """
    return logfile.read(path / FILE)
