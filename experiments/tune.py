r"""Which penalty and learning rate for my images? A short sweep that ends with the flags to use.

    python -m experiments.tune --flagfile=experiments/flags/own.flags --dataset=folder \
        --data_dir=DIR --workdir=runs/tune

takes the flags of `experiments.images` and trains one small run for each gamma and rate, all over
the same batches, each for --tune_steps steps in which its schedules run to their end. Each is
scored by the Frechet distance between its samples and the images, on the features of a small
autoencoder that is trained first (no labels needed), and by diversity. `WORKDIR/tune.json` holds
the numbers, and a picture of each run lies beside it: look at them. A short run favours settings
that learn fast; the ranking is a start, not a promise.
"""

import contextlib
import copy
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import images
from jaxgan import images as images_lib
from jaxgan import steps
from jaxgan.data import pipeline
from jaxgan.data import spec as specs
from jaxgan.data.registry import Source
from jaxgan.data.spec import Spec
from jaxgan.metrics import features, frechet, reference
from jaxgan.run import cli, driver, launch
from jaxgan.state import GANState
from jaxgan.types import Array, Batch, Key, Metrics

SETTING = "setting"  # where the state keeps what it is trained with
DIVERSITIES = ("gen/diversity", "gen/class_diversity")
LAST = 0.1  # of the steps, whose diversity counts
DIVERSE = 0.7  # of the data's: a run below it has collapsed


@cli.config(beta1=0.0)
class Config(images.Config):
    """The flags of `experiments.images`, and what to try."""

    gammas: str = cli.field("", "Weights of the penalty to try; empty for 1/10, 1 and 10 gamma.")
    rates: str = cli.field("", "Rates of G to try, D's in proportion; empty for 1 and 3 gen_lr.")
    tune_steps: int = cli.field(500, "Steps of each run.", minimum=1)
    tune_samples: int = cli.field(1000, "Samples, and images, that are compared.", minimum=10)
    at_once: int = cli.field(
        0, "Runs side by side under vmap; 0 for one on CPU, all elsewhere.", minimum=0
    )

    def settings(self) -> list[dict[str, float]]:
        """The settings to try: every gamma with every rate."""
        gammas = cli.floats(self, "gammas") if self.gammas else _times(self.gamma, 0.1, 1, 10)
        rates = cli.floats(self, "rates") if self.rates else _times(self.gen_lr, 1, 3)
        ratio = self.disc_lr / self.gen_lr
        return [
            {"gamma": gamma, "gen_lr": rate, "disc_lr": ratio * rate}
            for gamma, rate in itertools.product(gammas, rates)
        ]


def run(config: Config) -> list[dict[str, float]]:
    """Trains, scores and prints; returns the settings with their scores, the best one first."""
    launch.initialize(config)
    source = driver.load_source(config)
    spec = specs.describe(source)
    config = launch.resolved(config, spec)
    settings = config.settings()
    if config.workdir:
        pathlib.Path(config.workdir).expanduser().mkdir(parents=True, exist_ok=True)
    real, feature_fn = _reference(config, source)
    floor = _distance(*np.array_split(real, 2))
    at_once = config.at_once or (1 if jax.default_backend() == "cpu" else len(settings))
    print(f"{len(settings)} runs of {config.tune_steps} steps; Frechet distance of the images "
          f"among themselves: {floor:.3g}")  # fmt: skip
    results: list[dict[str, float]] = []
    for start in range(0, len(settings), at_once):
        chosen = settings[start : start + at_once]
        for setting, (made, scores) in zip(
            chosen, _train(config, spec, source, chosen), strict=True
        ):
            code = features.extract(feature_fn, made)["features"]
            scores = {"frechet_distance": _distance(real, code), **scores}
            results.append({**setting, **scores})
            print(_line(results[-1]), flush=True)
            _draw(config, setting, made)
    results.sort(key=rank)
    if config.workdir:
        place = pathlib.Path(config.workdir).expanduser() / "tune.json"
        place.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not _diverse(results[0]):
        print("all of them collapsed: try larger --gammas, smaller --rates, or --augment=diffaug")
    flags = " ".join(f"--{name}={results[0][name]:.3g}" for name in settings[0])
    print(f"best: {flags}")
    return results


def _distance(real: np.ndarray, fake: np.ndarray) -> float:
    return float(frechet.frechet_distance(real, fake)) if np.isfinite(fake).all() else math.inf


def _times(value: float, *factors: float) -> tuple[float, ...]:
    return tuple(value * factor for factor in factors)


def _reference(config: Config, source: Source) -> tuple[np.ndarray, features.FeatureFn]:
    """The features of the images, and the function that makes them."""
    feature_fn, _ = reference.open_features(
        "autoencoder", dataset=config.dataset, train=source, data_dir=config.data_dir
    )
    real = reference.take(source, config.tune_samples)
    return features.extract(feature_fn, real)["features"], feature_fn


def _train(
    config: Config, spec: Spec, source: Source, settings: Sequence[Mapping[str, float]]
) -> list[tuple[np.ndarray, dict[str, float]]]:
    """Trains one run for each setting; returns their samples, and how diverse they were."""
    length = dataclasses.replace(config, num_steps=config.tune_steps, decay_steps=0)
    experiment = images.build(length, spec)
    keys = jax.tree.map(lambda key: jnp.stack([key] * len(settings)), length.keys(config.seed))
    state = jax.jit(lambda keys: steps.init_ensemble(keys, experiment.init))(keys.init)
    asked = {name: jnp.array([one[name] for one in settings]) for name in settings[0]}
    state = state.replace(extra={**state.extra, SETTING: asked})

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        one = images.build(_traced(length, state.extra[SETTING]), spec).step
        return one(key, state, pipeline.prepare(batch))

    trained = jax.jit(steps.ensemble(step, unroll=jax.default_backend() == "cpu"), donate_argnums=1)
    seen: list[Metrics] = []
    with contextlib.closing(
        pipeline.batches(source, batch_size=config.batch_size, seed=config.seed)
    ) as batches:
        for batch in itertools.islice(batches, length.num_steps):
            state, metrics = trained(keys.train, state, batch)
            seen.append({name: metrics[name] for name in DIVERSITIES if name in metrics})
    last = jax.device_get(seen[-max(1, round(LAST * length.num_steps)) :])
    results = []
    for number in range(len(settings)):
        gen_ema = jax.tree.map(lambda leaf, n=number: leaf[n], state.gen_ema)
        made = experiment.sample(gen_ema, keys.sample[number], config.tune_samples)["image"]
        means = {name: float(np.mean([one[name][number] for one in last])) for name in last[0]}
        results.append((images_lib.to_uint8(np.asarray(made)), means))
    return results


def _traced(config: Config, setting: Mapping[str, Array]) -> Config:
    """The config with traced numbers for some of its own, which checks of fields cannot read."""
    changed = copy.copy(config)
    for name, value in setting.items():
        object.__setattr__(changed, name, value)
    return changed


def rank(result: Mapping[str, float]) -> tuple[bool, float]:
    """What a sweep is sorted by: those that collapsed come last."""
    return not _diverse(result), result["frechet_distance"]


def _diverse(result: Mapping[str, float]) -> bool:
    """Whether a run made different images, as far as its samples have no NaN."""
    least = min(result[name] for name in DIVERSITIES if name in result)
    return least >= DIVERSE and math.isfinite(result["frechet_distance"])


def _line(result: Mapping[str, float]) -> str:
    """One row of the table, as it is printed."""
    named = {name.removeprefix("gen/"): value for name, value in result.items()}
    return "  ".join(f"{name} {value:.3g}" for name, value in named.items())


def _draw(config: Config, setting: Mapping[str, float], made: np.ndarray) -> None:
    """Keeps a picture of some samples, where there is a place for it."""
    if config.workdir:
        name = "_".join(
            f"{name}_{value:.3g}" for name, value in setting.items() if name != "disc_lr"
        )
        path = pathlib.Path(config.workdir).expanduser() / f"tune_{name}.png"
        images_lib.save_png(path, images_lib.grid(made[: config.num_samples]))


if __name__ == "__main__":
    cli.main(Config, run)
