"""The metrics of a step as numbers for logs and console, also of several seeds at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxgan.metrics import intervals
from jaxgan.types import Array


def by_seed(value: np.ndarray | Array, seeds: Sequence[int]) -> dict[int, float]:
    """Splits a metric by seed.

    Args:
      value: [] or [S].
      seeds: the S seeds; empty for 0 to S - 1.

    Returns:
      Its value of each seed; a scalar belongs to the first.
    """
    values = [float(one) for one in np.atleast_1d(np.asarray(value))]
    return dict(zip(seeds or range(len(values)), values, strict=False))


def summary(metrics: Mapping[str, np.ndarray], seeds: Sequence[int]) -> dict[str, float]:
    """Makes numbers to log of metrics.

    Args:
      metrics: [] or [S], by name.
      seeds: see `by_seed`.

    Returns:
      A scalar under its name. Of [S] the mean, "NAME/interval" (half the width of its 95 %
      interval, NaN for one seed) and "NAME/seed_K" of each seed K.
    """
    values = {}
    for name, value in metrics.items():
        if not value.ndim:
            values[name] = float(value)
            continue
        each = by_seed(value, seeds)
        values[name], values[f"{name}/interval"] = intervals.interval(list(each.values()))
        values |= {f"{name}/seed_{seed}": one for seed, one in each.items()}
    return values


def text(name: str, values: Mapping[str, float]) -> str:
    """Writes a metric for the console.

    Args:
      name: of the metric.
      values: from `summary`.

    Returns:
      "0.693", or "0.693 +- 0.010" over seeds.
    """
    width = values.get(f"{name}/interval", np.nan)
    return f"{values[name]:.3f}" + (f" +- {width:.3f}" if np.isfinite(width) else "")


def alarms(values: Mapping[str, float]) -> list[str]:
    """Lists the signs of collapse in the metrics of a step.

    Args:
      values: numbers by name; those that are missing or NaN raise no alarm.

    Returns:
      A phrase for each: all samples alike, or all of a class, D right about every image, G without
      gradient.
    """
    nan = float("nan")
    diversity, gradient = values.get("gen/diversity", nan), values.get("gen/gradient", nan)
    within = values.get("gen/class_diversity", nan)
    alike = diversity < 0.02
    signs = {
        f"G's samples are all alike (diversity {diversity:.2g} of the data's)": alike,
        f"G's samples of a class are alike (diversity {within:.2g} of the data's)": (
            within < 0.05 and not alike
        ),
        "D is right about every image": values.get("disc/accuracy", nan) >= 1.0,
        f"G's gradient has vanished (norm {gradient:.2g})": gradient < 1e-7,
    }
    return [text for text, seen in signs.items() if seen]


def signs(metrics: Mapping[str, np.ndarray], seeds: Sequence[int]) -> list[str]:
    """Lists the alarms of a step, also of several seeds.

    Args:
      metrics: [] or [S], by name.
      seeds: see `by_seed`.

    Returns:
      A phrase for each; of several seeds it begins with the seed.
    """
    if not any(value.ndim for value in metrics.values()):
        return alarms({name: float(value) for name, value in metrics.items()})
    found: dict[int, dict[str, float]] = {}
    for name, value in metrics.items():
        for seed, one in by_seed(value, seeds).items() if value.ndim else ():
            found.setdefault(seed, {})[name] = one
    return [f"seed {seed}: {sign}" for seed, values in found.items() for sign in alarms(values)]
