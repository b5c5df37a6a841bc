"""Scores of runs beside their floors, for the page of `experiments.report`."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from experiments._facts import Row
from experiments._runs import Story, is_number
from jaxgan.metrics import evaluate, intervals
from jaxgan.run import scoring

# Numbers that stand beside a score, and what they are called.
COMPANIONS = {"floor": "floor", "halves": "two halves of the truth", "input": "input"}
NOT_SCORES = {  # of evaluation.json and results.json
    *("step", "seeds", "seconds", "num_samples", "num_real", "num_fake", "num_floor", "seed", "k"),
    *("feature_dim", "frechet_distance_error", "kernel_distance_error", "score_std"),
}


def tables(stories: Sequence[Story]) -> list[tuple[str, list[Row]]]:
    """Lays the scores of runs beside their floors.

    Args:
      stories: of the runs.

    Returns:
      (title, rows) of each way of measuring that some run has: experiments.evaluate, the row at the
      end of training, and the last evaluation during training.
    """
    found = []
    for title, read in (
        ("experiments.evaluate", lambda story: story.evaluation),
        ("At the end of training", lambda story: story.results),
        ("During training, the last", _last_scores),
    ):
        each = [read(story) for story in stories]
        repeated = read is _last_scores and all(story.results for story in stories)
        if any(each) and not repeated:
            protocols = dict.fromkeys(p for p in map(_protocol, each) if p)
            more = f" ({'; '.join(protocols)})" if protocols else ""
            found.append((title + more, _score_rows(each)))
    return [(title, rows) for title, rows in found if rows]


def floors(story: Story) -> dict[str, float]:
    """What perfect samples would get, for the curves of scores.

    Args:
      story: of the run.

    Returns:
      By the name of the score; of `experiments.evaluate`, else of the experiment.
    """
    found = {}
    for source in (story.results, story.evaluation):
        floor = source.get("floor")
        floor = floor if isinstance(floor, dict) else {}
        found |= {str(name): float(x) for name, x in floor.items() if is_number(x)}
    last = _last_scores(story)
    for name in last:
        floor = beside(name, "floor", last)
        if floor:
            found.setdefault(name, last[floor])
    return found


def _protocol(numbers: Mapping[str, Any]) -> str:
    """How numbers were measured, in words."""
    step = numbers.get("step")
    at = f"step {step:,}" if isinstance(step, int) else ""
    reference = numbers.get("reference")
    how = str(numbers.get("protocol", ""))
    if isinstance(reference, dict):
        how = f"{numbers.get('num_fake', '?')} samples, {reference.get('split', '?')}"
    return ", ".join(filter(None, [how, at]))


def _last_scores(story: Story) -> dict[str, Any]:
    """The last evaluation during training."""
    if not len(story.scores["step"]):
        return {}
    left_out = ("seconds", "epoch")
    numbers = {k: float(v[-1]) for k, v in story.scores.items() if k not in left_out}
    how = story.protocols[-1] if story.protocols else ""
    return {**numbers, "step": int(numbers["step"]), "protocol": how}


def _score_rows(each: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row a score; numbers of the input, or of a floor, stand beside it."""
    names = dict.fromkeys(name for of in each for name in of if _is_score(of, name))
    companions = {beside(name, what, names) for name in names for what in COMPANIONS}
    rows = []
    for name in names:
        if name not in companions:
            better = evaluate.BETTER.get(name) or ("higher" if name in scoring.HIGHER else "")
            more = f" ({better} is better)" if better else ""
            rows.append((name.replace("_", " ") + more, [_score(of, name) for of in each]))
    return rows


def _is_score(numbers: Mapping[str, Any], name: str) -> bool:
    if name in NOT_SCORES or name.endswith("/interval"):
        return False
    return bool(len(_values(numbers.get(name))))


def _values(value: Any) -> list[float]:
    """The numbers of one run or of several seeds."""
    values = value if isinstance(value, list) else [value]
    good = all(map(is_number, values))
    return [float(one) for one in values] if good else []


def beside(name: str, what: str, names: Collection[str]) -> str:
    """Finds the number of the input, or of a floor, that belongs to a score.

    Args:
      name: of the score, such as "psnr" or "ab_top1".
      what: "input", "floor" or "halves".
      names: of all numbers.

    Returns:
      Such as "input_psnr" or "ab_input_top1"; empty where there is none.
    """
    parts = name.split("_")
    for cut in range(len(parts)):
        other = "_".join([*parts[:cut], what, *parts[cut:]])
        if other in names and other != name:
            return other
    return ""


def _score(numbers: Mapping[str, Any], name: str) -> str:
    """One score with its interval and what stands beside it."""
    values = _values(numbers.get(name))
    if not values:
        return "-"
    mean, half = intervals.interval(values)
    given = numbers.get("interval")
    for known in (
        numbers.get(f"{name}/interval"),
        given.get(name) if type(given) is dict else None,
    ):
        half = float(known) if is_number(known) else half
    text = f"{mean:.4g}" + (f" ± {half:.2g}" if math.isfinite(half) else "")
    floor = numbers.get("floor")
    floor = floor.get(name) if isinstance(floor, dict) else None
    told = [f"floor {floor:.4g}"] if is_number(floor) else []
    for what, called in COMPANIONS.items():
        other = _values(numbers.get(beside(name, what, numbers)))
        told += [f"{called} {np.mean(other):.4g}"] if other else []
    return text + (f" ({', '.join(told)})" if told else "")
