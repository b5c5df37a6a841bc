"""Scores during training: the generator against images it has not seen, and which step did best.

A score is a line of metrics.jsonl, written before any checkpoint of its step; lines beyond the
checkpoint that a run resumes from are dropped. So the best step is a function of the log and of the
steps that are saved, and needs no record of its own to survive whatever kills the run.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxgan import data, images, parallel
from jaxgan.data.registry import Source
from jaxgan.metrics import evaluate, features, reference
from jaxgan.run import watchdog
from jaxgan.run.experiment import Experiment, Score
from jaxgan.types import Key, UserError

Draw = Callable[[Key, int], Mapping[str, np.ndarray]]  # key, num -> entries of one generator
PROTOCOL = "eval/protocol"  # says in a line of the log how its numbers were measured
HIGHER = ("psnr", "ssim")  # of experiments' own numbers those of which more is better
KEY = 0  # seed of the samples that are scored, as of those that `experiments.evaluate` draws


class Scorer(Protocol):
    """Measures a generator.

    Attributes:
      protocol: how, in a few words.
    """

    protocol: str

    def prepare(self) -> None:
        """Computes what all measurements share."""
        ...

    def __call__(self, draw: Draw) -> dict[str, float]:
        """Returns the numbers of the generator that `draw` draws from, by name."""
        ...


class ImageScorer:
    """Measures a generator against the test split; as `experiments.evaluate` does."""

    def __init__(
        self,
        *,
        dataset: str,
        data_dir: str,
        image_shape: tuple[int, int, int],
        kind: str,
        weights: str,
        num: int,
        holdout: float = 0.0,
        train: Source | None = None,
    ):
        """Opens weights and images, and checks that they fit; no features are extracted yet.

        Args:
          dataset: what the generator is trained on; its test split is the reference.
          data_dir: where it lies.
          image_shape: height, width and channels that the generator makes.
          kind: one of `reference.KINDS`.
          weights: file of the features' weights, where not in its usual place.
          num: samples, and reference images at most.
          holdout: see `data.load`.
          train: the training images, where they are open already.

        Raises:
          UserError: there is no test split, or no weights, or they do not fit.
        """
        height, width, channels = image_shape
        load = functools.partial(
            data.load,
            dataset,
            data_dir=data_dir,
            image_size=(height, width),
            channels=channels,
            holdout=holdout,
        )
        self._source = load(split="test")
        self._feature_fn, record = reference.open_features(
            kind,
            dataset=dataset,
            train=train or load(split="train"),
            data_dir=data_dir,
            path=weights,
        )
        self._warnings = reference.feature_warnings(record)
        reference.check_fit(self._source, self._feature_fn)
        self._digest, self._num = str(record["sha256"]), num
        self._real: Mapping[str, np.ndarray] | None = None
        self.protocol = f"{num} samples, {dataset} test split, {kind} {self._digest[:12]}"

    def prepare(self) -> None:
        """Extracts the features of the reference, or finds those extracted before."""
        self._real = reference.extract(
            reference.take(self._source, self._num),
            self._feature_fn,
            digest=self._digest,
            place=parallel.spread(),
        )
        num, dim = self._real["features"].shape
        for text in [*self._warnings, *evaluate.sample_warnings(min(num, self._num), dim)]:
            print(f"note: {text}", flush=True)

    def __call__(self, draw: Draw) -> dict[str, float]:
        """Measures a generator.

        Args:
          draw: draws entries of it, "image" among them.

        Returns:
          {"frechet_distance", ...} as `evaluate.compare` has them.
        """
        assert self._real is not None, "prepare comes first"
        # As bytes, and of the latents that `experiments.evaluate` draws: the numbers are its own.
        generated = images.to_uint8(draw(jax.random.key(KEY), self._num)["image"])
        fake = features.extract(self._feature_fn, generated, place=_counted(parallel.spread()))
        return evaluate.compare(self._real, fake)


class TaskScorer:
    """Measures a generator as its experiment says; see `experiment.Score`."""

    def __init__(self, score: Score):
        """Takes the experiment's measure."""
        self._score = score
        self.protocol = f"{score.protocol}, {score.num} samples"

    def prepare(self) -> None:
        """Has nothing to prepare."""

    def __call__(self, draw: Draw) -> dict[str, float]:
        """Measures a generator.

        Args:
          draw: draws entries of it.

        Returns:
          The numbers, by name.
        """
        return self._score.measure(draw(jax.random.key(KEY), self._score.num))


def _counted(place: features.Place) -> features.Place:
    """Tells the watchdog of each batch."""

    def counted(batch: np.ndarray) -> Any:
        watchdog.progress()
        return place(batch)

    return counted


def best_metric(config: Any, experiment: Experiment) -> str:
    """Names the number by which the best checkpoint of a run is kept.

    Args:
      config: of the run.
      experiment: its task.

    Returns:
      The experiment's own choice, or the config's `eval_metric`; empty where there is neither.
    """
    return experiment.score.best if experiment.score else getattr(config, "eval_metric", "")


def best_step(
    lines: Sequence[Mapping[str, Any]], metric: str, steps: Collection[int]
) -> int | None:
    """Finds the step with the best score; only scores measured as the last one was compare.

    Args:
      lines: of the log, oldest first.
      metric: a name in `evaluate.BETTER`, or an experiment's own.
      steps: those that are saved.

    Returns:
      The step, the first of equals; None if no saved step was scored.
    """
    name = f"eval/{metric}"
    scored = [line for line in lines if type(line.get(name)) in (int, float)]
    alike = [line for line in scored if line.get(PROTOCOL) == scored[-1].get(PROTOCOL)]
    values = {line["step"]: line[name] for line in alike if line["step"] in steps}
    better = evaluate.BETTER.get(metric, "higher" if metric in HIGHER else "lower")
    choose = min if better == "lower" else max
    return choose(values, key=values.__getitem__) if values else None


def choose_step(
    text: str,
    *,
    lines: Sequence[Mapping[str, Any]],
    metric: str,
    steps: Sequence[int],
    flag: str = "--checkpoint",
) -> int:
    """Finds the checkpoint that a person asks for.

    Args:
      text: "newest", "best", or a step.
      lines: of the log.
      metric: by which the best is chosen.
      steps: those that are saved, oldest first; at least one.
      flag: by which the person asks, for the message.

    Returns:
      The step.

    Raises:
      UserError: it is not one of them, or no saved step was scored.
    """
    if text == "newest":
        return steps[-1]
    if text == "best":
        best = best_step(lines, metric, steps)
        if best is None:
            raise UserError(
                f"{flag}=best: no saved step has a score of {metric}; train with --eval_every"
            )
        return best
    if text.isdecimal() and int(text) in steps:
        return int(text)
    raise UserError(f"{flag}={text} is not one of newest, best, {', '.join(map(str, steps))}")
