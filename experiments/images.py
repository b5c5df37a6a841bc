r"""Any images: DCGAN, ResNet, R3GAN, StyleGAN2 or a light pair, with labels or without, any size.

    python -m experiments.images --flagfile=experiments/flags/own.flags --dataset=folder \
        --data_dir=DIR --image_size=64 --workdir=runs/mine

--image_size=0 takes images of one size as they are, square or not; --height and --width crop and
scale them to a shape. The published networks are the defaults, made for accelerators: on a CPU use
--net=light, or smaller --widths=64,64,64,64. --condition says how labels take part:

    concat      G sees the label beside the latent, D in further channels of the image
    projection  G sees it beside the latent, D by an inner product with its features
    ac          the same G; D says what class an image is of, and both players are scored by that
    cbn         G sees it in the gains and biases of its norms (--net=resnet), D by an inner product

--dry_run tells sizes and memory. The flagfiles named *_full or after a paper's dataset have the
settings published for it. Which penalty and rate suit the images, `experiments.tune` finds.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from experiments import _networks, _own
from jaxgan import collectives, latents, losses, steps
from jaxgan.data.spec import Spec
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import ImageConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, StepFn
from jaxgan.steps.game import Term
from jaxgan.types import Array, Batch, Key, PyTree, UserError


@cli.config(beta1=0.0, unroll_seeds=True)
class Config(_networks.NetworkConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    num_steps: int = cli.field(
        2000,
        "Steps to train for, counted from the start; 0 for as many as suit the data.",
        minimum=0,
        changeable=True,
    )
    gamma: float = cli.field(
        1.0,
        "Weight of the penalty; -1 for one that suits the size of the images.",
        minimum=-1,
        changeable=True,
    )
    augment: str = cli.field(
        "none",
        "How D sees images, real and generated: by DiffAugment; by ADA, stronger as D overfits; by "
        "ADA's transforms, their probability growing from 0 to augment_p over decay_steps; or by "
        "DiffAugment where images are few (auto).",
        choices=("none", "diffaug", "ada", "ramp", "auto"),
    )
    image_size: int = cli.field(
        0, "Side of the images in pixels; 0 for the size that all of them have.", minimum=0
    )
    height: int = cli.field(
        0, "Height of the images in pixels, with --width: the middle, scaled.", minimum=0
    )
    width: int = cli.field(0, "Width of the images in pixels, with --height.", minimum=0)
    class_loss: str = cli.field(
        "cross_entropy", "Loss of --condition=ac.", choices=tuple(losses.CLASS)
    )
    class_weight: float = cli.field(1.0, "Its weight in D's loss, on real images.", minimum=0)
    gen_class_weight: float = cli.field(0.1, "Its weight in G's loss.", minimum=0)
    path_weight: float = cli.field(
        0.0, "Weight of StyleGAN2's path length penalty; 2 in the paper.", minimum=0
    )
    path_every: int = cli.field(4, "Steps between path length penalties.", minimum=1)

    def __post_init__(self):
        """Checks every field, and that path lengths are those of StyleGAN2."""
        super().__post_init__()
        if -1 < self.gamma < 0:
            raise UserError(f"--gamma={self.gamma} is below 0; use -1 for one that suits the data")
        shape = f"--height={self.height} and --width={self.width}"
        if bool(self.height) != bool(self.width):
            raise UserError(f"{shape} are one shape; give both, or --image_size for a square")
        if self.height and self.image_size:
            raise UserError(f"{shape} beside --image_size={self.image_size}; give one of the two")
        if self.path_weight and self.net != "stylegan2":
            raise UserError(
                f"--path_weight={self.path_weight} is of --net=stylegan2, not --net={self.net}"
            )

    def resolved(self, spec: Spec) -> ImageConfig:
        """The config with everything that it leaves to the data."""
        found = _own.settings(self, spec)
        if found:
            return dataclasses.replace(self, **found).resolved(spec)
        return super().resolved(spec)

    def cycle(self) -> Sequence["Config"]:
        """The configs whose steps take turns: path lengths too are in some of them alone."""
        turns, every = super().cycle(), self.path_every if self.path_weight else 1
        due = {"path_every": 1, "path_weight": every * self.path_weight}
        if every == 1:
            return turns  # pyright: ignore[reportReturnType]
        return [
            dataclasses.replace(
                turns[n % len(turns)], **({"path_weight": 0.0} if n % every else due)
            )
            for n in range(math.lcm(every, len(turns)))
        ]


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    shape, labels = spec.shapes["image"], spec.num_classes if config.label_flag else 0
    entry, told = spec.disc_label
    gen, _ = _networks.players(config, shape, labels)
    _, disc = _networks.players(config, shape, told if labels else 0)
    gen_terms, disc_terms = class_terms(config)
    with_path = path_step(config, gen) if config.path_weight else None
    experiment = adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=_networks.latent_dim(config),
        shape=shape,
        label_counts=(spec.label_counts or (1,) * labels) if labels else (),
        disc_label=entry,
        gen_terms=gen_terms,
        disc_terms=disc_terms,
        wrap=lambda step: steps.chain(step, with_path) if with_path else step,
    )
    if not with_path:
        return experiment

    def init(key: Key) -> GANState:
        state = experiment.init(key)
        return state.replace(extra={**state.extra, steps.PATH: steps.init_path()})

    return experiment._replace(init=init)


def class_terms(config: Config) -> tuple[dict[str, Term], dict[str, Term]]:
    """The terms of G and of D with which an auxiliary classifier takes part."""
    if config.condition != "ac":
        return {}, {}
    loss, weights = losses.CLASS[config.class_loss], (config.gen_class_weight, config.class_weight)
    return (
        {"class": lambda seen: weights[0] * loss(seen.fake_out["class"], seen.batch["label"])},
        {"class": lambda seen: weights[1] * loss(seen.real_out["class"], seen.batch["label"])},
    )


def path_step(config: Config, gen: nn.Module) -> StepFn:
    """StyleGAN2's path length penalty, every few steps and so many times as strong."""
    gen_tx, _ = adversarial.optimizers(config)

    def latent(key: Key, variables: PyTree, batch: Batch) -> Array:
        z_key, mix_key = jax.random.split(key)
        z = collectives.share(
            lambda key, num: latents.normal(key, num, _networks.latent_dim(config)),
            z_key,
            batch["image"].shape[0],
            config.axis_name,
        )
        label = batch["label"] if config.label_flag else None
        rngs = collectives.own_key(mix_key, config.axis_name)
        return gen.apply(variables, z, label, train=True, method="latents", rngs=rngs)  # pyright: ignore

    def synthesize(key: Key, variables: PyTree, w: Array) -> Array:
        def draw(module: Any, w: Array) -> Array:
            return module.synthesis(w, fixed_noise=False)

        return gen.apply(variables, w, method=draw, rngs=key)  # pyright: ignore

    weight = config.path_weight * config.path_every
    return steps.every(
        config.path_every,
        steps.path_length_step(
            latent,
            synthesize,
            gen_tx,
            weight=weight,
            accumulate=config.accumulate,
            axis_name=config.axis_name,
        ),
        branch=False,
    )


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    return driver.train(config, build=build)


if __name__ == "__main__":
    cli.main(Config, run)
