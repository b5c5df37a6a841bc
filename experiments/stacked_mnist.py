r"""StackedMNIST: a thousand modes, three digits in three channels, and how many of them G makes.

    python -m experiments.stacked_mnist \
        --flagfile=experiments/flags/stacked_p1.flags --data_dir=DIR --workdir=runs/stacked_p1

--protocol=p1 is that of VEEGAN and PacGAN: 128,000 fixed images, uniform latents, 26,000 samples;
p2 that of Unrolled GAN, hard on purpose: digits paired anew in every batch, normal latents of size
256, a discriminator with a quarter of G's feature maps, 25,600 samples. Seeds run one after the
other, each in a directory of its own under the workdir; `results.json` holds the benchmark's row.
It needs the digit classifier: `python -m experiments.classifier --dataset=mnist --data_dir=DIR`.
"""

import dataclasses
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import data, ema, images, latents, penalties, sample, state, steps
from jaxgan.data import arrays, stacked
from jaxgan.losses import ADVERSARIAL
from jaxgan.metrics import features, modes, weights
from jaxgan.nets import dcgan
from jaxgan.parallel import processes
from jaxgan.run import cli, driver, launch, scoring
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, StepFn
from jaxgan.steps import schedules
from jaxgan.steps.adaptors import Prior
from jaxgan.types import Batch, Key, Metrics, UserError

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


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """The flags of this experiment; those of a protocol are fixed."""

    protocol: str = cli.field("p1", "How it is measured.", choices=tuple(PROTOCOLS))
    seeds: int = cli.field(1, "Runs, one after the other.", minimum=1, changeable=True)
    num_images: int = cli.field(stacked.NUM_EXAMPLES, "Stacks made of the digits.", minimum=1)
    num_scored: int = cli.field(
        0, "Samples scored at the end; 0 for the protocol's.", minimum=0, changeable=True
    )
    classifier: str = cli.field(
        "", "File of the digit classifier, where not in its usual place.", changeable=True
    )
    gen_features: str = cli.field("128,64", "Feature maps of G, from the latent to the image.")
    kernel: int = cli.field(4, "Side of the convolutions' kernels in pixels.", minimum=1)
    gen_norm: str = cli.field("batch", "G's norm.", choices=("batch", "group", "layer", "none"))
    loss: str = cli.field("relativistic", "Adversarial loss.", choices=tuple(ADVERSARIAL))
    penalty: str = cli.field(
        "r1_r2", "Gradient penalty of D.", choices=("none", *penalties.PENALTIES)
    )
    gamma: float = cli.field(1.0, "Weight of the penalty at the start.", minimum=0)
    gamma_final: float = cli.field(1.0, "Share of it left at the end, on a cosine.", minimum=0)
    penalty_every: int = cli.field(
        1, "Steps between penalties, each that many times as strong.", minimum=1
    )
    gen_lr: float = cli.field(1e-3, "G's learning rate.", above=0)
    disc_lr: float = cli.field(1e-3, "D's learning rate.", above=0)
    lr_final: float = cli.field(0.1, "Share of both rates left at the end.", minimum=0)
    beta1: float = cli.field(0.0, "Adam's decay of the mean.", minimum=0, below=1)
    beta2: float = cli.field(0.99, "Adam's decay of the variance.", minimum=0, below=1)
    ema_half_life: float = cli.field(
        20_000, "Half-life of G's moving average in images; 0 for none.", minimum=0
    )

    def __post_init__(self):
        """Checks every field."""
        super().__post_init__()
        players(self, num_classes=0)


def players(config: Config, *, num_classes: int) -> tuple[dcgan.Generator, dcgan.Discriminator]:
    """The two networks; neither sees labels."""
    del num_classes
    widths = [int(part) for part in config.gen_features.split(",") if part.strip().isdecimal()]
    if len(widths) != 2 or min(widths) < 1:
        raise UserError(f"--gen_features={config.gen_features} is not two numbers such as 128,64")
    share = PROTOCOLS[config.protocol].disc_share
    nets: dict[str, Any] = {
        "kernel": config.kernel,
        "axis_name": config.axis_name,
        "dtype": jnp.dtype(config.compute_dtype),
    }
    gen = dcgan.Generator(
        image_size=28, channels=3, features=tuple(widths), norm=config.gen_norm, **nets
    )
    thin = tuple(max(1, round(share * width)) for width in reversed(widths))
    return gen, dcgan.Discriminator(features=thin, norm="none", **nets)


def run(config: Config) -> dict[str, Any] | None:
    """Trains every seed and measures; returns the results, or None after a dry run."""
    launch.initialize(config)
    if not config.workdir and not config.dry_run:
        raise UserError("--workdir is empty; name the directory of the run")
    params, record = weights.load_classifier(
        "mnist", data_dir=config.data_dir, path=config.classifier
    )
    train, test = (data.load("mnist", data_dir=config.data_dir, split=s) for s in ("train", "test"))
    assert isinstance(train, arrays.ArraySource) and isinstance(test, arrays.ArraySource)
    source = stacked.stack(stacked.join(train, test), num_examples=config.num_images)
    begin, scores = time.perf_counter(), []
    for seed in range(config.seed, config.seed + config.seeds):
        own = dataclasses.replace(
            config, seed=seed, workdir=str(pathlib.Path(config.workdir) / f"seed_{seed}")
        )
        made = _train(own, source)
        if made is None:
            return None
        labels = modes.stacked_labels(features.digit_features(params), made, place=scoring.spread())
        scores.append(modes.modes_and_kl(labels, NUM_MODES))
    results = {
        "protocol": f"stacked_mnist_{config.protocol}",
        "seeds": config.seeds,
        "modes": [found for found, _ in scores],
        "kl": [kl for _, kl in scores],
        "floor": floor(source, _num_scored(config)),
        "seconds": round(time.perf_counter() - begin, 1),
        "num_samples": _num_scored(config),
        "classifier": record["sha256"],
    }
    if processes.is_main():
        modes.save_results(pathlib.Path(config.workdir).expanduser() / "results.json", results)
        print(modes.table_row(results), flush=True)
    return results


def floor(source: arrays.ArraySource, num: int) -> dict[str, float]:
    """What `num` real images would score, were the classifier never wrong; the mean of 20 draws."""
    shares = [source.arrays["label"] // place % 10 for place in (100, 10, 1)]
    rng, digits = np.random.default_rng(0), np.concatenate(shares)
    draws = [
        modes.modes_and_kl(rng.choice(digits, (num, 3)) @ np.array([100, 10, 1]), NUM_MODES)
        for _ in range(20)
    ]
    return {
        "modes": float(np.mean([m for m, _ in draws])),
        "kl": float(np.mean([k for _, k in draws])),
    }


def game(config: Config) -> tuple[Any, StepFn]:
    """(key -> fresh state, training step)."""
    protocol, (gen, disc) = PROTOCOLS[config.protocol], players(config, num_classes=0)
    gen_tx, disc_tx = (
        optax.adam(
            schedules.cosine(rate, rate * config.lr_final, config.num_steps),
            b1=config.beta1,
            b2=config.beta2,
        )
        for rate in (config.gen_lr, config.disc_lr)
    )
    gamma = schedules.cosine(config.gamma, config.gamma * config.gamma_final, config.num_steps)

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        z, x = jnp.zeros((1, protocol.latent_dim)), jnp.zeros((1, 28, 28, 3))
        return state.init_state(
            state.init_player(gen.init(gen_key, z, train=False), gen_tx),
            state.init_player(disc.init(disc_key, x, train=False), disc_tx),
        )

    def at_step(number: jax.Array) -> StepFn:
        penalty = steps.named_penalty(
            config.penalty, gamma(number), interval=config.penalty_every, step=number
        )
        axis_name = config.axis_name
        played = steps.Game(
            gen=steps.from_latents(
                gen, protocol.latent_dim, prior=protocol.prior, axis_name=axis_name
            ),
            disc=steps.judged(disc, "image", axis_name=axis_name),
            loss=ADVERSARIAL[config.loss],
            penalty=penalty,
            axis_name=axis_name,
        )
        return steps.alternating_step(played, gen_tx, disc_tx)

    update = steps.scheduled(at_step)
    decay = ema.decay_from_half_life(config.ema_half_life, config.batch_size)
    return init, steps.train_step(
        paired_anew(update) if protocol.fresh else update, steps.ema_step(decay, warm_up=True)
    )


def paired_anew(step: StepFn) -> StepFn:
    """Shuffles each channel of a batch by itself, so that no two batches hold the same stacks."""

    def shuffled(key: Key, now: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        step_key, *keys = jax.random.split(key, 4)
        x = batch["image"]
        channels = [jax.random.permutation(k, x[..., c]) for c, k in enumerate(keys)]
        return step(step_key, now, {**batch, "image": jnp.stack(channels, axis=-1)})

    return shuffled


def _train(config: Config, source: arrays.ArraySource) -> np.ndarray | None:
    """One seed: trains, and returns the images to be scored [N, 28, 28, 3] uint8."""
    protocol, (gen, _) = PROTOCOLS[config.protocol], players(config, num_classes=0)
    init, step = game(config)

    def samples(now: GANState, key: Key, num: int) -> np.ndarray:
        z = protocol.prior(key, num, protocol.latent_dim)
        return sample.generate(gen, now.gen_ema, z, place=scoring.spread())

    now = driver.train(config, source=source, init=init, step=step, samples=samples)
    if now is None:
        return None
    return images.to_uint8(samples(now, jax.random.key(config.seed), _num_scored(config)))


def _num_scored(config: Config) -> int:
    return config.num_scored or PROTOCOLS[config.protocol].num_samples


if __name__ == "__main__":
    cli.main(Config, run)
