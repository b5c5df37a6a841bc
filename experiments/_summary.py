"""The table of `experiments.downstream`: means and intervals of what its units measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.metrics import intervals

NUMBERS = ("accuracy", "balanced_accuracy", "calibration_error")
PAIRS = (("c", "a"), ("d", "b"))
Read = Callable[[Mapping[str, Any]], float | None]


def rows(units: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Puts the units of each row together.

    Args:
      units: as the record has them, by name.

    Returns:
      For each row, by arm, (mean, half of the 95 % interval) of each number, and of the paired
      differences. What is independent counts: subsets where there are several, else generators,
      else seeds of the classifier; over the others is averaged first.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(unit["row"] for unit in units.values()):
        some = [unit for unit in units.values() if unit["row"] == name]
        arms = {
            arm: {
                number: intervals.interval(_values(some, arm, _reader(number)))
                for number in NUMBERS
            }
            | {"recall": _recalls(some, arm)}
            for arm in some[0]["scores"]
        }
        pairs = {f"{one}-{other}": _difference(some, one, other) for one, other in _pairs(arms)}
        found[name] = {
            "labelled": some[0]["labelled"],
            "examples": some[0]["examples"],
            "subsets": len(some),
            "interval_over": _independent(some),
            "arms": arms,
            "differences": pairs,
            "shares": _shares(some),
        }
    return found


def _pairs(arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is compared: generated examples with what they came on top of, and with baselines."""
    others = [name for name in arms if len(name) > 1]
    every = [*PAIRS, *((one, other) for one in ("c", "d") for other in others)]
    return [pair for pair in every if set(pair) <= set(arms)]


def _shares(units: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The shares chosen, by arm, of each generator of each unit."""
    every = [one.get("share", {}) for unit in units for one in unit["generators"]]
    return {arm: [one[arm] for one in every] for arm in (every[0] if every else ())}


def _reader(number: str) -> Read:
    return lambda report: report[number]


def _independent(units: Sequence[Mapping[str, Any]]) -> str:
    if len(units) > 1:
        return "subsets"
    return "generators" if len(units[0]["generators"]) > 1 else "seeds"


def _values(units: Sequence[Mapping[str, Any]], arm: str, read: Read) -> np.ndarray:
    """One number for each independent part: [subsets], [generators] or [seeds]."""
    table = [[[read(one) for one in seeds] for seeds in unit["scores"][arm]] for unit in units]
    most = max(1, *(len(unit["generators"]) for unit in units))
    values = np.asarray(
        [each * (most if len(each) == 1 else 1) for each in table], np.float64
    )  # [subsets, generators, seeds]: real examples are the same for every generator
    kind = _independent(units)
    if kind == "subsets":
        return values.mean((1, 2))
    return values[0].mean(1) if kind == "generators" else values[0].mean(0)


def _difference(units: Sequence[Mapping[str, Any]], one: str, other: str) -> dict[str, Any]:
    """Paired differences of two arms, in each number and in the recall of each class."""
    found: dict[str, Any] = {
        number: intervals.difference(
            *(_values(units, arm, _reader(number)) for arm in (one, other))
        )
        for number in NUMBERS
    }
    classes = range(len(units[0]["scores"][one][0][0]["recall"]))
    return {
        **found,
        "recall": [
            intervals.difference(*(_values(units, arm, _recall(k)) for arm in (one, other)))
            for k in classes
        ],
    }


def _recalls(units: Sequence[Mapping[str, Any]], arm: str) -> list[tuple[float, float]]:
    classes = range(len(units[0]["scores"][arm][0][0]["recall"]))
    return [intervals.interval(_values(units, arm, _recall(k))) for k in classes]


def _recall(number: int) -> Read:
    return lambda report: report["recall"][number]


def table(
    record: Mapping[str, Any],
    arms: Mapping[str, str],
    thinned: Sequence[int],
    class_names: Sequence[str],
) -> str:
    """Lays the rows out, in per cent.

    Args:
      record: with "rows".
      arms: what each is called.
      thinned: classes of which few images were kept; their recall is shown.
      class_names: names by class, or none.

    Returns:
      Lines.
    """
    shown = {k: f"recall {class_names[k] if class_names else k}" for k in thinned}
    lines: list[str] = []
    for name, row in record["rows"].items():
        over = row["interval_over"]
        over = f"{row[over]} {over}" if over == "subsets" else over
        lines.append(f"{name}: {row['examples']} labelled examples, ± 95 % over {over}")
        heads = ("accuracy", "balanced", "calibration", "worst class", *shown.values())
        lines.append(f"{'':34}" + "".join(f"{head:>16}" for head in heads))
        for arm, numbers in row["arms"].items():
            label = f"({arm}) {arms[arm]}" if len(arm) == 1 else arms[arm]
            cells = _cells(numbers, shown)
            lines.append(f"{label:34}" + "".join(f"{_cell(cell):>16}" for cell in cells))
        for arm, chosen in row["shares"].items():
            lines.append(f"share of generated examples in ({arm}): {', '.join(map(str, chosen))}")
        lines += [_compared(pair, one, shown) for pair, one in row["differences"].items()]
    return "\n".join(lines)


def _cells(numbers: Mapping[str, Any], shown: Mapping[int, str]) -> list[Sequence[float]]:
    """What stands in a line of the table."""
    recall = numbers["recall"]
    worst = min((one for one in recall if not math.isnan(one[0])), default=(math.nan, math.nan))
    return [*(numbers[name] for name in NUMBERS), worst, *(recall[k] for k in shown)]


def _compared(pair: str, numbers: Mapping[str, Any], shown: Mapping[int, str]) -> str:
    """The line of a paired difference."""
    parts = {"accuracy": numbers["accuracy"], **{shown[k]: numbers["recall"][k] for k in shown}}
    text = [f"{name} {_cell(one, '+')}{_verdict(one)}" for name, one in parts.items()]
    return f"{pair.replace('-', ' - ')}: {'; '.join(text)}"


def _cell(value: Sequence[float], sign: str = "") -> str:
    """Mean and half interval in per cent."""
    mean, half = value
    spread = "" if math.isnan(half) else f" ± {100 * half:.2f}"
    return "-" if math.isnan(mean) else f"{100 * mean:{sign}.2f}{spread}"


def _verdict(value: Sequence[float]) -> str:
    """Whether a difference is larger than its interval."""
    mean, half = value
    if math.isnan(half):
        return ""
    return (
        " (within the interval)" if abs(mean) <= half else " (better)" if mean > 0 else " (worse)"
    )


def memorised(numbers: Mapping[str, float]) -> str:
    """Says how near generated examples are to those the generator was trained on.

    Args:
      numbers: of `neighbours.memorisation`, and "copies".

    Returns:
      One line.
    """
    found = ""
    if "nearer_to_train" in numbers:
        found = (
            f"{numbers['nearer_to_train']:.3f} of the generated examples are nearer to a training "
            f"than to a test image (.5 without copying), distance ratio {numbers['ratio']:.3f}; "
        )
    return f"memorisation: {found}{numbers['copies']:.4f} nearer than training images to each other"


def finite(value: Any) -> Any:
    """The same with None for what JSON has no number for.

    Args:
      value: dicts and lists of numbers and texts.

    Returns:
      The same of dicts and lists.
    """
    if isinstance(value, Mapping):
        return {str(name): finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
