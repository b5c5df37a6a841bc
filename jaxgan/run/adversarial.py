"""Adversarial training from flags: the fields that every such experiment shares, and their step."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgan import ema, frozen, latents, parallel, penalties, steps
from jaxgan import state as states
from jaxgan.augment import ada, diffaug
from jaxgan.data.spec import Spec
from jaxgan.losses import ADVERSARIAL
from jaxgan.run import cli
from jaxgan.run.config import DataConfig, RunConfig
from jaxgan.run.experiment import Experiment, Score, Show, grid
from jaxgan.sample import Sampler
from jaxgan.state import GANState, Player, StepFn
from jaxgan.steps import schedules
from jaxgan.steps.adaptors import from_latents, judged
from jaxgan.steps.game import Game, Term
from jaxgan.types import Array, Augment, Key, Penalty, Prior, UserError

DIFFAUGMENT = "color,translation,cutout"
RAMP = "blit,geometry,color,cutout"  # of ADA's transforms, those that R3GAN uses


@dataclasses.dataclass(frozen=True)
class AdversarialConfig(RunConfig):
    """The flags of adversarial training: losses, penalty, rates and their schedules."""

    loss: str = cli.field("relativistic", "Adversarial loss.", choices=tuple(ADVERSARIAL))
    penalty: str = cli.field(
        "r1_r2", "Gradient penalty of D.", choices=("none", *penalties.PENALTIES)
    )
    gamma: float = cli.field(1.0, "Weight of the penalty.", minimum=0, changeable=True)
    gamma_final: float = cli.field(
        1.0, "Share of gamma left after decay_steps.", minimum=0, changeable=True
    )
    gamma_decay: str = cli.field(
        "cosine",
        "How gamma moves there: on half a cosine, or by the same factor each step.",
        choices=("cosine", "geometric"),
        changeable=True,
    )
    penalty_every: int = cli.field(
        1, "Steps between penalties, each that many times as strong.", minimum=1, changeable=True
    )
    update: str = cli.field(
        "simultaneous",
        "Both players at once from one forward of G, D then G on the same fakes, or on fresh ones.",
        choices=("simultaneous", "alternating", "fresh"),
    )
    disc_steps: int = cli.field(
        1,
        "Updates of D to one of G, with --update=fresh: each batch falls into so many shares, of "
        "which D sees one after the other, and G learns from as many examples as are in one.",
        minimum=1,
    )
    accumulate: int = cli.field(
        1,
        "Micro-batches that a batch is computed in, one after the other: less memory, more time, "
        "the same mean gradients (but for batch norm, which sees a micro-batch).",
        minimum=1,
        changeable=True,
    )
    gen_lr: float = cli.field(2e-4, "G's learning rate.", above=0, changeable=True)
    disc_lr: float = cli.field(2e-4, "D's learning rate.", above=0, changeable=True)
    lr_final: float = cli.field(
        1.0,
        "Share of both rates left after decay_steps.",
        minimum=0,
        changeable=True,
    )
    lr_decay: str = cli.field(
        "cosine",
        "How rates get there: on half a cosine, or in the second half on a line.",
        choices=("cosine", "linear"),
        changeable=True,
    )
    decay_steps: int = cli.field(
        0, "Steps that rates and gamma decay over; 0 for num_steps.", minimum=0, changeable=True
    )
    beta1: float = cli.field(0.5, "Adam's decay of the mean.", minimum=0, below=1)
    beta2: float = cli.field(0.99, "Adam's decay of the variance.", minimum=0, below=1)
    beta2_final: float = cli.field(
        0.0,
        "beta2 after decay_steps, on half a cosine; 0 for one that stays.",
        minimum=0,
        below=1,
    )
    ema_half_life: float = cli.field(
        10_000.0,
        "Half-life of G's moving average in examples; 0 for none.",
        minimum=0,
        changeable=True,
    )
    ema_ramp: bool = cli.field(
        False,
        "Lets the half-life grow from 0 over decay_steps, on half a cosine.",
        changeable=True,
    )
    freeze_disc: int = cli.field(
        0,
        "Layers of D next to the image that keep the weights they start with: FreezeD, with "
        "--init_from.",
        minimum=0,
    )

    def __post_init__(self):
        """Checks every field, that gamma can move as asked, and that frozen layers are trained."""
        super().__post_init__()
        parallel.check_batch_size(self.batch_size, 1, accumulate=self.micro_batches)
        if self.disc_steps > 1 and self.update != "fresh":
            raise UserError(
                f"--disc_steps={self.disc_steps} needs fakes of its own for each update; give "
                f"--update=fresh, not {self.update}"
            )
        if self.accumulate > 1 and self.loss == "relativistic_average":
            raise UserError(
                f"--accumulate={self.accumulate} shows --loss=relativistic_average a micro-batch, "
                "where it compares with the mean of the batch; use --loss=relativistic or "
                "--accumulate=1"
            )
        taken = self.fork_from or (self.init_from and self.init_players == "both")
        if self.freeze_disc and not taken:
            raise UserError(
                f"--freeze_disc={self.freeze_disc} would freeze random weights; say with "
                "--init_from=RUN whose discriminator to begin with"
            )
        if self.gamma_decay == "geometric" and not self.gamma_final:
            raise UserError(
                "--gamma_decay=geometric never reaches --gamma_final=0; use a share above 0"
            )

    def check_change(self, before: Mapping[str, Any]) -> None:
        """Refuses to let rates decay that were constant, or the other way round."""
        super().check_change(before)
        decayed = bool(before["decay_steps"]) or before["lr_final"] != 1
        if decayed != self.rates_decay:
            raise UserError(
                f"--decay_steps={self.decay_steps} and --lr_final={self.lr_final}: the run began "
                f"with {'decaying' if decayed else 'constant'} rates, for which its optimiser "
                f"{'counts' if decayed else 'does not count'} steps; use another workdir"
            )

    def cycle(self) -> Sequence["AdversarialConfig"]:
        """The configs whose steps take turns: the penalty is in the first alone."""
        every = self.penalty_every
        if self.penalty == "none" or every == 1:
            return (self,)
        due = dataclasses.replace(self, penalty_every=1, gamma=every * self.gamma)
        rest = dataclasses.replace(self, penalty="none", penalty_every=1)
        return (due, *[rest] * (every - 1))

    @property
    def micro_batches(self) -> int:
        """How many a batch is computed in."""
        return self.accumulate * self.disc_steps

    @property
    def rates_decay(self) -> bool:
        """Whether the learning rates follow a schedule."""
        return bool(self.decay_steps) or self.lr_final != 1

    @property
    def burn_in(self) -> int:
        """Steps after which everything that moves has arrived."""
        return self.decay_steps or self.num_steps


@dataclasses.dataclass(frozen=True)
class ImageConfig(AdversarialConfig, DataConfig):
    """The flags of adversarial training on a dataset of images."""

    image_size: int = cli.field(28, "Side of the images in pixels.", minimum=1)
    channels: int = cli.field(
        0, "Channels of the images: 1 grey, 3 RGB, 0 for those of the data.", choices=(0, 1, 3)
    )
    max_bad_records: int = cli.field(
        -1,
        "Unreadable images of a folder that are skipped; -1 for 10 or 0.1 % of all.",
        minimum=-1,
        changeable=True,
    )
    mirror: bool = cli.field(
        False, "Flips each training image left-right with probability 1/2.", changeable=True
    )
    augment: str = cli.field(
        "none",
        "How D sees images, real and generated: by DiffAugment; by ADA, stronger as D overfits; or "
        "by ADA's transforms, their probability growing from 0 to augment_p over decay_steps.",
        choices=("none", "diffaug", "ada", "ramp"),
    )
    augment_p: float = cli.field(
        0.3, "Probability that --augment=ramp ends with.", minimum=0, below=1, changeable=True
    )
    ada_target: float = cli.field(0.6, "Mean sign of real logits that ADA keeps.", minimum=0)
    ada_ramp: float = cli.field(
        500_000.0, "Images in which ADA's probability can go from 0 to 1.", above=0
    )

    def __post_init__(self):
        """Checks every field, and that ADA finds a sign to read."""
        super().__post_init__()
        signless = self.loss in ("relativistic", "relativistic_average", "wasserstein")
        if self.augment == "ada" and signless:
            raise UserError(
                f"--augment=ada reads the sign of D's logits, which --loss={self.loss} leaves "
                "open; use another loss, --augment=diffaug or --augment=ramp"
            )

    def resolved(self, spec: Spec) -> "ImageConfig":
        """The config with the channels of the data, and labels checked to be there."""
        flag = self.label_flag
        if flag and not spec.num_classes:
            raise UserError(f"{flag} needs labels, which --dataset={self.dataset} lacks")
        return dataclasses.replace(self, channels=spec.shapes["image"][-1])

    @property
    def label_flag(self) -> str:
        """The flag that asks for labels, as given; empty where none does."""
        return ""


@dataclasses.dataclass(frozen=True)
class ConditionalConfig(ImageConfig):
    """The flags of networks that see labels or not."""

    conditional: bool = cli.field(False, "Conditions both players on the labels.")

    @property
    def label_flag(self) -> str:
        """The flag that asks for labels, as given; empty where none does."""
        return "--conditional" if self.conditional else ""


_RATES: dict[str, Callable[[float, int, float], optax.Schedule]] = {
    "cosine": lambda rate, length, share: optax.cosine_decay_schedule(rate, length, alpha=share),
    "linear": lambda rate, length, share: schedules.late_line(rate, share * rate, length),
}


def optimizers(
    config: AdversarialConfig,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Makes the players' Optax transformations: Adam, its rate decaying where asked for.

    Args:
      config: the rates, the betas, and their schedules.

    Returns:
      (the generator's, the discriminator's).
    """

    def adam(rate: float, updates: int) -> optax.GradientTransformation:
        length, b2 = updates * config.burn_in, config.beta2
        if config.beta2_final:
            b2 = schedules.cosine(b2, config.beta2_final, length)
        if config.rates_decay:
            rate = _RATES[config.lr_decay](rate, length, config.lr_final)  # pyright: ignore
        return schedules.adam(rate, b1=config.beta1, b2=b2)

    return adam(config.gen_lr, 1), adam(config.disc_lr, config.disc_steps)


def latent_experiment(
    config: AdversarialConfig,
    gen: nn.Module,
    disc: nn.Module,
    *,
    dim: int,
    shape: Sequence[int],
    prior: Prior = latents.normal,
    label_counts: Sequence[int] = (),
    disc_label: str = "label",
    gen_terms: Mapping[str, Term] | None = None,
    disc_terms: Mapping[str, Term] | None = None,
    wrap: Callable[[StepFn], StepFn] = lambda step: step,
    show: Show = grid,
    score: Score | None = None,
    **sampling: Any,
) -> Experiment:
    """Makes the experiment of a generator of latents and a discriminator of what it makes.

    Args:
      config: the flags of its training.
      gen: `gen(z, label, *, train)`.
      disc: `disc(x, label, *, train)`.
      dim: size of one latent.
      shape: of one example, the entry "image".
      prior: `(key, num, dim) -> [num, dim]`, the distribution of latents.
      label_counts: examples of each label, where both players are conditioned on "label"; empty
        where not.
      disc_label: the entry of the labels that D sees; another than G's where some are not known.
      gen_terms: further terms of G's loss by name; see `Game`.
      disc_terms: those of D's.
      wrap: see `train_step`.
      show: entries -> picture.
      score: the task's own measure, if it has one.
      **sampling: further fields of `sample.Sampler`.

    Returns:
      The experiment.
    """
    gen_tx, disc_tx = optimizers(config)
    conditional, axis = len(label_counts) > 0, config.axis_name

    def init_disc(key: Key) -> Mapping[str, Any]:
        label = jnp.zeros((1,), jnp.int32) if conditional else None
        return disc.init(key, jnp.zeros((1, *shape)), label, train=False)

    fixed = ()
    if config.freeze_disc:
        layers = frozen.layers(init_disc)
        fixed = frozen.first(layers, config.freeze_disc, flag="--freeze_disc")
    disc_tx = frozen.freeze(disc_tx, fixed)
    entries = ("image", disc_label) if conditional else ("image",)
    game = Game(
        gen=from_latents(gen, dim, prior=prior, conditional=conditional, axis_name=axis),
        disc=judged(disc, *entries, axis_name=axis),
        loss=ADVERSARIAL[config.loss],
        gen_terms=gen_terms or {},
        disc_terms=disc_terms or {},
        classes="label" if conditional else "",
        axis_name=axis,
    )

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        label = jnp.zeros((1,), jnp.int32) if conditional else None
        z = jnp.zeros((1, dim))
        return init_state(
            config,
            states.init_player(gen.init(gen_key, z, label, train=False), gen_tx),
            states.init_player(init_disc(disc_key), disc_tx),
        )

    return Experiment(
        init=init,
        step=train_step(config, game, gen_tx, disc_tx, wrap=wrap),
        sample=Sampler(gen, dim, prior=prior, label_counts=tuple(label_counts), **sampling),
        show=show,
        score=score,
        frozen=fixed,
    )


def init_state(config: AdversarialConfig, gen: Player, disc: Player) -> GANState:
    """Puts two players together, with what the training step must remember beside them.

    Args:
      config: the flags.
      gen: the generator.
      disc: the discriminator.

    Returns:
      The state, at step 0.
    """
    extra = {"ada": ada.init_controller()} if _augment(config) == "ada" else {}
    return states.init_state(gen, disc, **extra)


def train_step(
    config: AdversarialConfig,
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    wrap: Callable[[StepFn], StepFn] = lambda step: step,
) -> StepFn:
    """Makes the whole training step that the flags ask for.

    Args:
      config: the flags: penalty and its schedule, augmentation, update rule, moving average.
      game: what is played; its penalty and augmentation are set here.
      gen_tx: the generator's Optax transformation, of `optimizers`.
      disc_tx: the discriminator's.
      wrap: makes of the players' update the step that is trained with, such as one that draws or
        rearranges its examples.

    Returns:
      The step, before compilation; its state is that of `init_state`.
    """

    def update(augment: Augment | None) -> StepFn:
        return _with_penalty(
            config,
            lambda penalty: _update(
                config,
                dataclasses.replace(game, penalty=penalty, augment=augment),
                gen_tx,
                disc_tx,
            ),
        )

    kind = _augment(config)
    if isinstance(config, ImageConfig) and kind == "ada":
        step = steps.with_ada(
            update,
            num_images=config.batch_size,
            target=config.ada_target,
            ramp=config.ada_ramp,
        )
    elif isinstance(config, ImageConfig) and kind == "ramp":
        chance = schedules.cosine(0.0, config.augment_p, config.burn_in)
        step = steps.scheduled(lambda step: update(ada.pipeline(RAMP, p=chance(step))))
    else:
        step = update(diffaug.policy(DIFFAUGMENT) if kind == "diffaug" else None)
    if isinstance(config, ImageConfig) and config.mirror:
        step = steps.mirrored(step, example=game.example, axis_name=game.axis_name)
    return steps.train_step(wrap(step), average_step(config))


def average_step(config: AdversarialConfig) -> StepFn:
    """Makes the step of G's moving average.

    Args:
      config: its half-life, and whether that grows.

    Returns:
      The step; see `steps.ema_step`.
    """
    if config.ema_ramp:
        half_life = schedules.cosine(0.0, config.ema_half_life, config.burn_in)
        return steps.ema_step(schedules.half_life(half_life, config.batch_size))
    decay = ema.decay_from_half_life(config.ema_half_life, config.batch_size)
    return steps.ema_step(decay, warm_up=True)


def _augment(config: AdversarialConfig) -> str:
    return config.augment if isinstance(config, ImageConfig) else "none"


def _with_penalty(config: AdversarialConfig, make: Callable[[Penalty | None], StepFn]) -> StepFn:
    """The step with the penalty asked for, its weight following the steps where it moves."""
    if config.penalty == "none":
        return make(None)
    if config.gamma_final == 1 and config.penalty_every == 1:
        return make(steps.named_penalty(config.penalty, config.gamma))
    gamma = _gamma(config)
    return steps.scheduled(
        lambda step: make(
            steps.named_penalty(
                config.penalty, gamma(step), interval=config.penalty_every, step=step
            )
        )
    )


def _gamma(config: AdversarialConfig) -> Callable[[Array], Any]:
    """The weight of the penalty at a step."""
    length, end = config.burn_in, config.gamma * config.gamma_final
    if config.gamma_final == 1:
        return lambda step: config.gamma
    if config.gamma_decay == "cosine":
        return schedules.cosine(config.gamma, end, length)
    share = schedules.geometric(1.0, config.gamma_final, length)
    return lambda step: config.gamma * share(step)


def _update(config: AdversarialConfig, game: Game, gen_tx, disc_tx) -> StepFn:
    """One update of both players."""
    n, times = config.accumulate, config.disc_steps
    if config.update == "fresh":
        disc = steps.disc_step(game, disc_tx, accumulate=n)
        gen = steps.gen_step(game, gen_tx, accumulate=n)
        if times > 1:
            disc = steps.microbatches(disc, times)
            gen = steps.map_batch(lambda batch: {k: x[::times] for k, x in batch.items()}, gen)
        return steps.chain(disc, gen)
    both = {"simultaneous": steps.simultaneous_step, "alternating": steps.alternating_step}
    return both[config.update](game, gen_tx, disc_tx, accumulate=n)
