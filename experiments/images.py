r"""Any images: DCGAN, R3GAN or StyleGAN2, with labels or without, at any size.

    python -m experiments.images --net=r3gan --dataset=folder --data_dir=DIR --image_size=64 \
        --workdir=runs/mine

--image_size=0 takes images of one size as they are, square or not; --height and --width make them
of a shape. The published networks are the
defaults, made for accelerators: --widths=64,64,64,64 makes smaller ones, for a CPU. --condition
says how labels take part:

    concat      G sees the label beside the latent, D in further channels of the image
    projection  G sees it beside the latent, D by an inner product with its features
    ac          the same G; D says what class an image is of, and both players are scored by that

--dry_run tells sizes and memory. The flagfiles named *_full or after a paper's dataset have the
settings published for it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan import collectives, latents, losses, steps
from jaxgan.data.spec import Spec
from jaxgan.nets import conditions, dcgan, r3gan, resample, stylegan2
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import ImageConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, StepFn
from jaxgan.steps.game import Term
from jaxgan.types import Array, Batch, Key, PyTree, UserError


@cli.config(beta1=0.0, unroll_seeds=True)
class Config(ImageConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    image_size: int = cli.field(
        0, "Side of the images in pixels; 0 for the size that all of them have.", minimum=0
    )
    height: int = cli.field(
        0, "Height of the images in pixels, with --width: the middle, scaled.", minimum=0
    )
    width: int = cli.field(0, "Width of the images in pixels, with --height.", minimum=0)
    net: str = cli.field(
        "r3gan", "Networks of both players.", choices=("dcgan", "r3gan", "stylegan2")
    )
    condition: str = cli.field(
        "none", "How labels take part.", choices=("none", "concat", "projection", "ac")
    )
    class_loss: str = cli.field(
        "cross_entropy", "Loss of --condition=ac.", choices=tuple(losses.CLASS)
    )
    class_weight: float = cli.field(1.0, "Its weight in D's loss, on real images.", minimum=0)
    gen_class_weight: float = cli.field(0.1, "Its weight in G's loss.", minimum=0)
    widths: str = cli.field(
        "",
        "Feature maps of each stage, from the smallest images to the largest; empty for those "
        "published.",
    )
    latent_dim: int = cli.field(0, "Size of one latent; 0 for the one published.", minimum=0)
    groups: str = cli.field(
        "", "Groups of R3GAN's 3x3 convolutions, for each stage; empty for 16 channels a group."
    )
    blocks: int = cli.field(2, "R3GAN's residual blocks a stage.", minimum=1)
    mapping_layers: int = cli.field(8, "Layers of StyleGAN2's mapping network.", minimum=1)
    mixing: float = cli.field(
        0.9, "Share of StyleGAN2's images in training that mix two latents.", minimum=0
    )
    path_weight: float = cli.field(
        0.0, "Weight of StyleGAN2's path length penalty; 2 in the paper.", minimum=0
    )
    path_every: int = cli.field(4, "Steps between path length penalties.", minimum=1)
    remat: bool = cli.field(
        False, "Computes each block anew in the backward pass: less memory, more time.",
        changeable=True,
    )  # fmt: skip

    def __post_init__(self):
        """Checks every field."""
        super().__post_init__()
        shape = f"--height={self.height} and --width={self.width}"
        if bool(self.height) != bool(self.width):
            raise UserError(f"{shape} are one shape; give both, or --image_size for a square")
        if self.height and self.image_size:
            raise UserError(f"{shape} beside --image_size={self.image_size}; give one of the two")
        for name in ("widths", "groups"):
            if getattr(self, name):
                cli.integers(self, name)
        if self.path_weight and self.net != "stylegan2":
            raise UserError(
                f"--path_weight={self.path_weight} is of --net=stylegan2, not --net={self.net}"
            )

    @property
    def label_flag(self) -> str:
        """The flag that asks for labels, as given; empty where none does."""
        return "" if self.condition == "none" else f"--condition={self.condition}"


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    shape, labels = spec.shapes["image"], spec.num_classes if config.label_flag else 0
    gen, disc = NETS[config.net](config, shape, labels)
    if config.condition == "concat":
        disc = conditions.LabelPlanes(disc, labels)
    gen_terms, disc_terms = class_terms(config)
    with_path = path_step(config, gen) if config.path_weight else None
    experiment = adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=latent_dim(config),
        shape=shape,
        label_counts=(spec.label_counts or (1,) * labels) if labels else (),
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


def latent_dim(config: Config) -> int:
    """The size of one latent."""
    return config.latent_dim or {"dcgan": 100, "r3gan": 64, "stylegan2": 512}[config.net]


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
            lambda key, num: latents.normal(key, num, latent_dim(config)),
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


def _dcgan(config: Config, shape: Sequence[int], labels: int) -> tuple[nn.Module, nn.Module]:
    height, width, channels = shape
    if height != width:
        raise UserError(
            f"--net=dcgan makes square images, not {height} x {width}; use another net, or "
            f"--image_size={min(height, width)}"
        )
    widths = _widths(config) or dcgan.default_features(height)
    dcgan.check_features(widths, height)
    shared = _shared(config)
    gen = dcgan.Generator(
        height,
        channels,
        features=widths,
        num_classes=labels,
        axis_name=config.axis_name,
        **shared,
    )
    return gen, dcgan.Discriminator(
        features=widths[::-1], norm="none", **_judged(config, labels), **shared
    )


def _r3gan(config: Config, shape: Sequence[int], labels: int) -> tuple[nn.Module, nn.Module]:
    size = (shape[0], shape[1])
    widths = _widths(config) or r3gan.default_widths(size)
    groups = cli.integers(config, "groups") if config.groups else ()
    r3gan.check(size, widths, groups=groups)
    shared = {
        "widths": widths,
        "groups": groups,
        "blocks": config.blocks,
        **_shared(config),
    }
    gen = r3gan.Generator(size, shape[2], num_classes=labels, **shared)
    return gen, r3gan.Discriminator(**_judged(config, labels), **shared)


def _stylegan2(config: Config, shape: Sequence[int], labels: int) -> tuple[nn.Module, nn.Module]:
    size = (shape[0], shape[1])
    widths = _widths(config) or stylegan2.default_widths(size)
    resample.first_size(size, len(widths))
    shared = {"widths": widths, **_shared(config)}
    gen = stylegan2.Generator(
        size,
        shape[2],
        features=min(512, max(widths)),
        mapping_layers=config.mapping_layers,
        mixing=config.mixing,
        num_classes=labels,
        axis_name=config.axis_name,
        **shared,
    )
    return gen, stylegan2.Discriminator(
        mapping_layers=config.mapping_layers, **_judged(config, labels), **shared
    )


# From the config, the shape of the images and the number of labels to both players.
NETS = {"dcgan": _dcgan, "r3gan": _r3gan, "stylegan2": _stylegan2}


def _shared(config: Config) -> dict[str, Any]:
    """What all networks of both players are made with."""
    return {"dtype": jnp.dtype(config.compute_dtype), "remat": config.remat}


def _judged(config: Config, labels: int) -> dict[str, Any]:
    """How D takes part in the condition; of planes beside the image it knows nothing."""
    return {
        "num_classes": 0 if config.condition == "concat" else labels,
        "head": "class" if config.condition == "ac" else "projection",
    }


def _widths(config: Config) -> tuple[int, ...]:
    """The widths that were asked for; none for the published ones."""
    return cli.integers(config, "widths") if config.widths else ()


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    return driver.train(config, build=build)


if __name__ == "__main__":
    cli.main(Config, run)
