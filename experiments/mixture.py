r"""Ring and grid of Gaussians in the plane: the standard benchmark of mode collapse.

    python -m experiments.mixture --flagfile=experiments/flags/ring.flags --workdir=runs/ring

trains all seeds at once in one compiled program, and ends with the benchmark's table row, which
`results.json` in the run directory holds too; `samples/` has the points drawn over the modes.
"""

import functools
import math
from collections.abc import Mapping

import jax
import numpy as np

from jaxgan.data import synthetic
from jaxgan.data.spec import Spec
from jaxgan.metrics import modes
from jaxgan.nets import mlp
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.config import Keys
from jaxgan.run.experiment import Experiment, Score
from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, Metrics

NUM_SAMPLES = 2500  # of the protocol


@cli.config(
    seeds=10,
    num_steps=8000,
    steps_per_call=500,
    log_every=500,
    sample_every=2000,
    save_every=2000,
    num_samples=2500,
    gamma=1e-3,  # for points within [-1, 1]
    gamma_decay="geometric",
    update="alternating",
    gen_lr=1e-3,
    disc_lr=1e-3,
    lr_final=0.05,
    beta1=0.0,
    ema_half_life=2560.0,
)
class Config(AdversarialConfig):
    """The flags of this experiment; the defaults are the recipe of the ring."""

    mixture: str = cli.field("ring", "What to learn.", choices=tuple(synthetic.MIXTURES))
    features: int = cli.field(128, "Units of each of the three hidden layers.", minimum=1)
    latent_dim: int = cli.field(2, "Size of one latent.", minimum=1)

    @property
    def is_ensemble(self) -> bool:
        """Always: runs of earlier versions have the axis of the seeds also where there is one."""
        return True

    def keys(self, seed: int) -> Keys:
        """The random keys of one seed, as runs of earlier versions have them."""
        return Keys(*[jax.random.key(seed)] * 3)


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config; the step draws its own data."""
    del spec
    mixture = synthetic.MIXTURES[config.mixture]()
    scale = float(np.abs(mixture.modes).max())  # the players see points within [-1, 1]
    gen = mlp.Generator(features=(config.features,) * 3)
    disc = mlp.Discriminator(features=(config.features,) * 3)

    def on_fresh_points(step: StepFn) -> StepFn:
        def drawn(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
            real_key, step_key = jax.random.split(key)
            real = synthetic.sample(real_key, mixture, config.batch_size) / scale
            return step(step_key, state, {**batch, "image": real})

        return drawn

    num_modes = len(mixture.modes)
    return adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=config.latent_dim,
        shape=(2,),
        wrap=on_fresh_points,
        transform=lambda x: scale * x,
        batch_size=NUM_SAMPLES,
        show=functools.partial(scatter, mixture=mixture),
        score=Score(
            protocol=config.mixture,
            num=NUM_SAMPLES,
            measure=functools.partial(measure, mixture=mixture),
            floor={
                "modes": num_modes,
                # Within three standard deviations in the plane: Rayleigh's distribution.
                "high_quality": 100 * (1 - math.exp(-4.5)),
                "kl": modes.kl_floor(num_modes, NUM_SAMPLES),
            },
            best="kl",
        ),
    )


def measure(entries: Mapping[str, np.ndarray], *, mixture: synthetic.Mixture) -> dict[str, float]:
    """Counts modes and points of high quality, in percent, and measures the divergence."""
    score = modes.mixture_modes(entries["image"], mixture.modes, mixture.std)
    return {**score, "high_quality": 100 * score["high_quality"]}


def scatter(
    entries: Mapping[str, np.ndarray], *, mixture: synthetic.Mixture, side: int = 200
) -> np.ndarray:
    """Draws points [N, 2] over the modes, as a picture [side, side, 1] uint8."""
    extent = 1.2 * float(np.abs(mixture.modes).max())
    edges = np.linspace(-extent, extent, side + 1)

    def counts(points: np.ndarray) -> np.ndarray:
        return np.histogram2d(-points[:, 1], points[:, 0], bins=(edges, edges))[0]

    around = mixture.modes[:, None] + 0.05 * extent * _circle()  # [K, 60, 2]
    paper = np.where(counts(around.reshape(-1, 2)) > 0, 210, 255)
    drawn = counts(entries["image"])
    return np.where(drawn > 0, np.maximum(0, 160 - 20 * drawn), paper).astype(np.uint8)[..., None]


def _circle() -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def run(config: Config) -> GANState | None:
    """Trains and measures; returns the final state, or None after a dry run."""
    spec = Spec(fingerprint=config.mixture, shapes={"image": (2,)})
    return driver.train(config, build=build, source=lambda config: spec)


if __name__ == "__main__":
    cli.main(Config, run)
