r"""StackedMNIST: a thousand modes, three digits in three channels, and how many of them G makes.

    python -m experiments.stacked_mnist \
        --flagfile=experiments/flags/stacked_p1.flags --data_dir=DIR --workdir=runs/stacked_p1

--protocol=p1 is that of VEEGAN and PacGAN: 128,000 fixed images, uniform latents, 26,000 samples;
p2 that of Unrolled GAN, hard on purpose: digits paired anew in every batch, normal latents of size
256, a discriminator with a quarter of G's feature maps, 25,600 samples. `results.json` holds the
benchmark's row. It needs the digit classifier:
`python -m experiments.classifier --dataset=mnist --data_dir=DIR`.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import data, images, latents, parallel
from jaxgan.data import stacked
from jaxgan.data.registry import Source
from jaxgan.data.spec import Spec
from jaxgan.metrics import features, modes, weights
from jaxgan.nets import dcgan
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.config import DataConfig
from jaxgan.run.experiment import Experiment, Score
from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, Metrics, Prior, UserError

NUM_MODES = 1000


class Protocol(NamedTuple):
    """What a protocol fixes."""

    latent_dim: int
    prior: Prior
    num_samples: int
    disc_share: float  # of G's feature maps
    fresh: bool  # pairs the digits anew in every batch


PROTOCOLS = {
    "p1": Protocol(100, latents.uniform, 26_000, 1.0, False),
    "p2": Protocol(256, latents.normal, 25_600, 0.25, True),
}


@cli.config(
    dataset="mnist",
    update="alternating",
    gen_lr=1e-3,
    disc_lr=1e-3,
    lr_final=0.1,
    beta1=0.0,
    ema_half_life=20_000.0,
    unroll_seeds=True,
)
class Config(AdversarialConfig, DataConfig):
    """The flags of this experiment; those of a protocol are fixed."""

    protocol: str = cli.field("p1", "How it is measured.", choices=tuple(PROTOCOLS))
    num_images: int = cli.field(stacked.NUM_EXAMPLES, "Stacks made of the digits.", minimum=1)
    num_scored: int = cli.field(
        0,
        "Samples scored at the end; 0 for the protocol's.",
        minimum=0,
        below=10_000_000,
        changeable=True,
    )
    classifier: str = cli.field(
        "", "File of the digit classifier, where not in its usual place.", changeable=True
    )
    gen_features: str = cli.field("128,64", "Feature maps of G, from the latent to the image.")
    kernel: int = cli.field(4, "Side of the convolutions' kernels in pixels.", minimum=1)
    gen_norm: str = cli.field("batch", "G's norm.", choices=("batch", "group", "layer", "none"))

    def __post_init__(self):
        """Checks every field."""
        super().__post_init__()
        if len(cli.integers(self, "gen_features")) != 2:
            raise UserError(f"--gen_features={self.gen_features} is not two numbers, as in 128,64")


def source(config: Config) -> Source:
    """Stacks the digits of both splits."""
    train, test = (
        data.load(config.dataset, data_dir=config.data_dir, split=split, image_size=28, channels=1)
        for split in ("train", "test")
    )
    return stacked.stack(stacked.join(train, test), num_examples=config.num_images)


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    protocol, widths = PROTOCOLS[config.protocol], cli.integers(config, "gen_features")
    nets: dict[str, Any] = {
        "kernel": config.kernel,
        "axis_name": config.axis_name,
        "dtype": jnp.dtype(config.compute_dtype),
    }
    gen = dcgan.Generator(image_size=28, channels=3, features=widths, norm=config.gen_norm, **nets)
    thin = tuple(max(1, round(protocol.disc_share * width)) for width in reversed(widths))
    disc = dcgan.Discriminator(features=thin, norm="none", **nets)
    num = config.num_scored or protocol.num_samples
    return adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=protocol.latent_dim,
        shape=(28, 28, 3),
        prior=protocol.prior,
        wrap=paired_anew if protocol.fresh else lambda step: step,
        score=Score(
            protocol=f"stacked_mnist_{config.protocol}",
            num=num,
            measure=functools.partial(measure, config=config),
            floor=floor(spec, num),
            best="kl",
        ),
    )


def paired_anew(step: StepFn) -> StepFn:
    """Shuffles each channel of a batch by itself, so that no two batches hold the same stacks."""

    def shuffled(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        step_key, *keys = jax.random.split(key, 4)
        x = batch["image"]
        channels = [jax.random.permutation(k, x[..., c]) for c, k in enumerate(keys)]
        return step(step_key, state, {**batch, "image": jnp.stack(channels, axis=-1)})

    return shuffled


def measure(entries: Mapping[str, np.ndarray], *, config: Config) -> dict[str, float]:
    """Counts the modes that samples [N, 28, 28, 3] fall into, and measures their evenness."""
    pixels = images.to_uint8(entries["image"])
    labels = modes.stacked_labels(classifier(config), pixels, place=parallel.spread())
    found, kl = modes.modes_and_kl(labels, NUM_MODES)
    return {"modes": found, "kl": kl}


def floor(spec: Spec, num: int) -> dict[str, float]:
    """What `num` real images would score, were the classifier never wrong; the mean of 20 draws."""
    counts = np.array(spec.label_counts or [1] * NUM_MODES, np.float64).reshape(10, 10, 10)
    share = sum(counts.sum((i, j)) for i, j in ((0, 1), (0, 2), (1, 2))) / (3 * counts.sum())
    rng, places = np.random.default_rng(0), np.array([100, 10, 1])
    draws = [
        modes.modes_and_kl(rng.choice(10, (num, 3), p=share) @ places, NUM_MODES) for _ in range(20)
    ]
    found, kl = np.mean(draws, axis=0)
    return {"modes": float(found), "kl": float(kl)}


def classifier(config: Config) -> features.FeatureFn:
    """The features of the digit classifier."""
    params, _ = weights.load_classifier(
        config.dataset, data_dir=config.data_dir, path=config.classifier
    )
    return features.classifier_features(params)


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run as this version writes it; earlier ones trained seeds one by one."""
    if "shapes" in record["data"]:
        return record
    settings = {"dataset": "mnist", "seeds": 1, "update": "alternating"}
    return {**record, "config": {**record["config"], **settings}}


def run(config: Config) -> GANState | None:
    """Trains and measures; returns the final state, or None after a dry run."""
    classifier(config)  # before the time is spent
    return driver.train(config, build=build, source=source)


if __name__ == "__main__":
    cli.main(Config, run)
