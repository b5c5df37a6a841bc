"""Results of several seeds under a protocol: mean, confidence interval, and the table's row."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.types import UserError

# Student's t at 97.5 % for 1, 2, ... degrees of freedom; more have that of the normal, rounded up.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent runs and half the width of its 95 % confidence interval.

    Student's: `mean +- t s / sqrt(n)`, s the standard deviation with n - 1 in the denominator.

    Args:
      values: one a run.

    Returns:
      (mean, half width); the half width of one run is not known: NaN.

    Raises:
      UserError: no values.
    """
    if not len(values):
        raise UserError("no values: a mean needs at least one run")
    num, mean = len(values), float(np.mean(values))
    if num == 1:
        return mean, math.nan
    t = _STUDENT[num - 2] if num - 2 < len(_STUDENT) else 2.042
    return mean, t * float(np.std(values, ddof=1)) / math.sqrt(num)


def kl_floor(num_modes: int, num_samples: int) -> float:
    """The divergence that a perfect sampler of even modes is expected to show, to first order.

    `(K - 1) / (2 N)`: N samples never fall on K modes quite evenly.

    Args:
      num_modes: K.
      num_samples: N, several times K.

    Returns:
      Nats.
    """
    return (num_modes - 1) / (2 * num_samples)


def row(results: Mapping[str, Any]) -> str:
    """Writes results as a row of a Markdown table, with the floor beside each number.

    Args:
      results: {"protocol", "seeds", "modes": [...], "kl": [...], "floor": {...}, "seconds"}, and
        "high_quality" in percent where the protocol has it; lists with one number a seed.

    Returns:
      `| protocol | modes 8 +- 0 (floor 8) | ... | 10 seeds | 180 s |`.
    """
    digits = {"modes": 1, "high_quality": 2, "kl": 4}
    units = {"high_quality": " %"}
    cells = [str(results["protocol"])]
    for name, places in digits.items():
        if name not in results:
            continue
        mean, half = interval(results[name])
        spread = "" if math.isnan(half) else f" +- {half:.{places}f}"
        unit, floor = units.get(name, ""), results["floor"][name]
        cells.append(
            f"{name.replace('_', ' ')} {mean:.{places}f}{spread}{unit}"
            f" (perfect {floor:.{places}f}{unit})"
        )
    num = int(results["seeds"])
    cells += [f"{num} seed{'s' * (num > 1)}", f"{results['seconds']:.0f} s"]
    return "| " + " | ".join(cells) + " |"


def save(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Writes results as JSON; a reader never sees half of them.

    Args:
      path: of the file; its folder exists.
      results: as `row` takes them, and whatever else is to be remembered.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
