"""What wrote a checkpoint: which run, and with what library, devices and cores.

On the latter the last bits of results depend.
"""

import os
import pathlib
from collections.abc import Mapping

import jax
import jaxlib.version

from jaxgan.run import manifest
from jaxgan.run.manifest import Damaged

_WORDS = {
    "jax": "jax",
    "jaxlib": "jaxlib",
    "platform": "platform",
    "device_kind": "device",
    "devices": "number of devices",
    "cores": "number of cores",
}


def here() -> dict[str, str | int]:
    """Describes what this process computes with.

    Returns:
      {"jax": version, "jaxlib": version, "platform", "device_kind", "devices": number, "cores":
      number}; cores only where they compute.
    """
    device = jax.devices()[0]
    described: dict[str, str | int] = {
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
    }
    return {**described, "cores": os.cpu_count() or 1} if device.platform == "cpu" else described


def check(folder: pathlib.Path, run_id: str) -> None:
    """Checks that a verified step is the one that its folder is named after.

    Args:
      folder: the step.
      run_id: the run it must be of; empty for any.

    Raises:
      Damaged: it is another step, or of another run.
    """
    record = manifest.record(folder)
    step, run = record.get("step"), record.get("run")
    if isinstance(step, int) and step != int(folder.name):
        raise Damaged(f"it is step {step} of the run, renamed")
    if run_id and isinstance(run, str) and run not in ("", run_id):
        raise Damaged(
            f"it was saved by another run (if by this one, whose config.json was replaced, set "
            f'"run": "{_shown(run)}" there)'
        )


def differences(folder: pathlib.Path) -> str | None:
    """Says in what this process differs from that which wrote a checkpoint.

    Args:
      folder: the step, verified.

    Returns:
      "jax 0.10.2 (here 0.11.0), number of cores 8 (here 2)"; None if in nothing, or if it is not
      known.
    """
    try:
        then = manifest.record(folder).get("written_with")
    except Damaged:  # an older version's, without a manifest
        return None
    if not isinstance(then, Mapping):
        return None
    now = here()
    said = [
        f"{words} {_shown(then[name])} (here {now[name]})"
        for name, words in _WORDS.items()
        if name in now and type(then.get(name)) in (str, int) and then[name] != now[name]
    ]
    return ", ".join(said) or None


def _shown(value: str | int) -> str:
    """A value of a file that may be anybody's, short and in one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:40])
