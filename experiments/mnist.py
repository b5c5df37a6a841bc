r"""A DCGAN on digits, or on any small images.

    python -m experiments.mnist \
        --flagfile=experiments/flags/quickstart.flags --workdir=runs/quickstart

trains on the handwritten digits bundled with scikit-learn. The results, and what each flagfile is
for, stand in the README's table.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import data, ema, penalties, sample, state, steps
from jaxgan.augment import ada, diffaug
from jaxgan.losses import ADVERSARIAL
from jaxgan.nets import dcgan
from jaxgan.run import cli, driver, launch, scoring
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, StepFn
from jaxgan.steps import schedules
from jaxgan.types import Array, Augment, Key, UserError


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    image_size: int = cli.field(28, "Side of the images in pixels: 8, 16, 28, 32, 64 or 128.")
    channels: int = cli.field(1, "Channels of the images: 1 grey, 3 RGB.", minimum=1)
    max_bad_records: int = cli.field(
        -1,
        "Unreadable images of a folder that are skipped; -1 for 10 or 0.1 % of all.",
        minimum=-1,
        changeable=True,
    )
    conditional: bool = cli.field(False, "Conditions both players on the labels.")
    latent_dim: int = cli.field(64, "Size of one latent.", minimum=1)
    gen_features: str = cli.field(
        "128,64", "Feature maps of G's hidden layers, from the latent to the image."
    )
    disc_features: str = cli.field("64,128", "Feature maps of D's layers, from the image on.")
    kernel: int = cli.field(4, "Side of the convolutions' kernels in pixels.", minimum=1)
    gen_norm: str = cli.field("batch", "G's norm.", choices=("batch", "group", "layer", "none"))
    disc_norm: str = cli.field("none", "D's norm.", choices=("batch", "group", "layer", "none"))
    gen_slope: float = cli.field(0.0, "Slope of G's leaky ReLU; 0 is ReLU.", minimum=0)
    bn_momentum: float = cli.field(0.9, "Momentum of batch statistics.", minimum=0, below=1)

    loss: str = cli.field("relativistic", "Adversarial loss.", choices=tuple(ADVERSARIAL))
    penalty: str = cli.field(
        "r1_r2", "Gradient penalty of D.", choices=("none", *penalties.PENALTIES)
    )
    gamma: float = cli.field(1.0, "Weight of the penalty.", minimum=0)
    gamma_final: float = cli.field(
        1.0, "Share of it left after decay_steps, on a cosine.", minimum=0
    )
    augment: str = cli.field(
        "none",
        "How D sees images, real and generated: by DiffAugment, or ADA, stronger as D overfits.",
        choices=("none", "diffaug", "ada"),
    )
    ada_target: float = cli.field(0.6, "Mean sign of real logits that ADA keeps.", minimum=0)
    ada_ramp: float = cli.field(
        500_000, "Images in which ADA's probability can go from 0 to 1.", above=0
    )
    update: str = cli.field(
        "simultaneous",
        "Both players at once from one forward of G, D then G on the same fakes, or on fresh ones.",
        choices=("simultaneous", "alternating", "fresh"),
    )
    gen_lr: float = cli.field(2e-4, "G's learning rate.", above=0)
    disc_lr: float = cli.field(2e-4, "D's learning rate.", above=0)
    lr_final: float = cli.field(
        1.0, "Share of both rates left after decay_steps, on a cosine.", minimum=0
    )
    decay_steps: int = cli.field(
        0, "Steps that rates and gamma decay over; 0 keeps them.", minimum=0
    )
    beta1: float = cli.field(0.5, "Adam's decay of the mean.", minimum=0, below=1)
    beta2: float = cli.field(0.99, "Adam's decay of the variance.", minimum=0, below=1)
    ema_half_life: float = cli.field(
        10_000, "Half-life of G's moving average in images; 0 for none.", minimum=0
    )

    def __post_init__(self):
        """Checks every field, and those that depend on each other."""
        super().__post_init__()
        dcgan.geometry(self.image_size)
        players(self, num_classes=0)  # reads the feature maps
        if self.penalty != "none" and self.disc_norm == "batch":
            raise UserError(
                f"--penalty={self.penalty} needs each image's own gradient, which "
                "--disc_norm=batch mixes; use --disc_norm=group, layer or none"
            )
        if self.gamma_final != 1 and not self.decay_steps:
            raise UserError(
                f"--gamma_final={self.gamma_final} needs --decay_steps, over which gamma fades"
            )
        signless = self.loss in ("relativistic", "relativistic_average", "wasserstein")
        if self.augment == "ada" and signless:
            raise UserError(
                f"--augment=ada reads the sign of D's logits, which --loss={self.loss} leaves "
                "open; use another loss, or --augment=diffaug"
            )


def players(config: Config, *, num_classes: int) -> tuple[dcgan.Generator, dcgan.Discriminator]:
    """The two networks, for data with so many labels."""
    shared = {
        "kernel": config.kernel,
        "momentum": config.bn_momentum,
        "num_classes": num_classes if config.conditional else 0,
        "axis_name": config.axis_name,
        "dtype": jnp.dtype(config.compute_dtype),
    }
    gen = dcgan.Generator(
        image_size=config.image_size,
        channels=config.channels,
        features=_widths(config.gen_features, "gen_features"),
        norm=config.gen_norm,
        slope=config.gen_slope,
        **shared,
    )
    disc = dcgan.Discriminator(
        features=_widths(config.disc_features, "disc_features"), norm=config.disc_norm, **shared
    )
    return gen, disc


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    launch.initialize(config)
    source = data.load(
        config.dataset,
        data_dir=config.data_dir,
        image_size=config.image_size,
        channels=config.channels,
        max_bad_records=config.max_bad_records,
    )
    if config.conditional and not source.num_classes:
        raise UserError(f"--conditional needs labels, which {source.name} does not have")
    gen, disc = players(config, num_classes=source.num_classes)
    gen_tx, disc_tx = (
        optax.adam(_schedule(rate, config), b1=config.beta1, b2=config.beta2)
        for rate in (config.gen_lr, config.disc_lr)
    )

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, *source.image_shape))
        label = jnp.zeros((1,), jnp.int32) if config.conditional else None
        return state.init_state(
            state.init_player(gen.init(gen_key, z, label, train=False), gen_tx),
            state.init_player(disc.init(disc_key, x, label, train=False), disc_tx),
            **({"ada": ada.init_controller()} if config.augment == "ada" else {}),
        )

    if config.augment == "ada":
        update = steps.with_ada(
            lambda augment: _update(config, gen, disc, gen_tx, disc_tx, augment),
            num_images=config.batch_size,
            target=config.ada_target,
            ramp=config.ada_ramp,
        )
    else:
        augment = diffaug.policy("color,translation,cutout") if config.augment != "none" else None
        update = _update(config, gen, disc, gen_tx, disc_tx, augment)
    decay = ema.decay_from_half_life(config.ema_half_life, config.batch_size)
    step = steps.train_step(update, steps.ema_step(decay, warm_up=True))

    def samples(now: GANState, key: Key, num: int) -> np.ndarray:
        z = sample.draw(key, num, config.latent_dim)
        label = jnp.arange(num) % source.num_classes if config.conditional else None
        return sample.generate(gen, now.gen_ema, z, label, place=scoring.spread())

    return driver.train(config, source=source, init=init, step=step, samples=samples)


def _update(config: Config, gen, disc, gen_tx, disc_tx, augment: Augment | None) -> StepFn:
    """One update of both players."""
    axis_name = config.axis_name
    entries = ("image", "label") if config.conditional else ("image",)
    game = steps.Game(
        gen=steps.from_latents(
            gen, config.latent_dim, conditional=config.conditional, axis_name=axis_name
        ),
        disc=steps.judged(disc, *entries, axis_name=axis_name),
        loss=ADVERSARIAL[config.loss],
        augment=augment,
        axis_name=axis_name,
    )

    def weighted(gamma: float | Array) -> StepFn:
        penalised = dataclasses.replace(game, penalty=steps.named_penalty(config.penalty, gamma))
        if config.update == "fresh":
            return steps.chain(
                steps.disc_step(penalised, disc_tx), steps.gen_step(penalised, gen_tx)
            )
        both = {
            "simultaneous": steps.simultaneous_step,
            "alternating": steps.alternating_step,
        }[config.update]
        return both(penalised, gen_tx, disc_tx)

    gamma, share, length = config.gamma, config.gamma_final, config.decay_steps
    if share == 1:
        return weighted(gamma)
    fading = schedules.cosine(gamma, gamma * share, length)
    return steps.scheduled(lambda number: weighted(fading(number)))


def _widths(text: str, flag: str) -> tuple[int, ...]:
    """Reads "128,64"."""
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise UserError(f"--{flag}={text} is not a list of positive numbers such as 128,64")
    return widths


def _schedule(rate: float, config: Config) -> optax.Schedule | float:
    """A learning rate, decaying on a cosine where asked for."""
    if not config.decay_steps:
        return rate
    return optax.cosine_decay_schedule(rate, config.decay_steps, alpha=config.lr_final)


if __name__ == "__main__":
    cli.main(Config, run)
