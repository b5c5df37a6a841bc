"""The networks that `experiments.images` trains, from its flags."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgan.nets import conditions, dcgan, light, r3gan, resample, resnet, stylegan2
from jaxgan.run import cli
from jaxgan.run.adversarial import ImageConfig
from jaxgan.types import UserError

Players = tuple[nn.Module, nn.Module]  # generator and discriminator
# Sizes, as published, but for our own "light".
LATENTS = {"dcgan": 100, "light": 64, "resnet": 128, "r3gan": 64, "stylegan2": 512}


@dataclasses.dataclass(frozen=True)
class NetworkConfig(ImageConfig):
    """The flags of the networks."""

    net: str = cli.field("r3gan", "Networks of both players.", choices=tuple(LATENTS))
    condition: str = cli.field(
        "none",
        "How labels take part; auto: by projection, where each class has 20 images.",
        choices=("none", "concat", "projection", "ac", "cbn", "auto"),
    )
    widths: str = cli.field(
        "",
        "Feature maps of each stage, from the smallest images to the largest; empty for those "
        "published.",
    )
    disc_widths: str = cli.field("", "Those of D, in the same order; empty for G's.")
    latent_dim: int = cli.field(0, "Size of one latent; 0 for the one published.", minimum=0)
    groups: str = cli.field(
        "", "Groups of R3GAN's 3x3 convolutions, for each stage; empty for 16 channels a group."
    )
    blocks: int = cli.field(2, "R3GAN's residual blocks a stage.", minimum=1)
    mapping_layers: int = cli.field(8, "Layers of StyleGAN2's mapping network.", minimum=1)
    mixing: float = cli.field(
        0.9, "Share of StyleGAN2's images in training that mix two latents.", minimum=0
    )
    spectral: str = cli.field(
        "disc",
        "Players of --net=resnet whose kernels are divided by their spectral norm.",
        choices=("none", "disc", "both"),
    )
    attention: int = cli.field(
        0, "Side of the feature maps of --net=resnet with self-attention; 0 for none.", minimum=0
    )
    embedding: int = cli.field(
        0,
        "Size of the embedding that all norms of --condition=cbn share; 0 for a table in each.",
        minimum=0,
    )
    hierarchical: bool = cli.field(
        False, "Gives each block of --net=resnet its own part of the latent, by --condition=cbn."
    )
    remat: bool = cli.field(
        False, "Computes each block anew in the backward pass: less memory, more time.",
        changeable=True,
    )  # fmt: skip

    def __post_init__(self):
        """Checks every field, and that the network has what is asked of it."""
        super().__post_init__()
        for name in ("widths", "disc_widths", "groups"):
            if getattr(self, name):
                cli.integers(self, name)
        if self.net != "resnet":
            for name in ("attention", "embedding", "hierarchical"):
                if getattr(self, name):
                    raise UserError(
                        f"--{name}={getattr(self, name)} is of --net=resnet, not --net={self.net}"
                    )
            if self.condition == "cbn":
                raise UserError(
                    f"--condition=cbn needs norms in G, which --net={self.net} lacks or keeps free "
                    "of labels; use --net=resnet, or --condition=projection"
                )
        if self.hierarchical and self.condition == "cbn" and not self.embedding:
            raise UserError("--hierarchical needs --embedding with --condition=cbn, such as 128")

    @property
    def label_flag(self) -> str:
        """The flag that asks for labels, as given; empty where none does."""
        return "" if self.condition == "none" else f"--condition={self.condition}"


def latent_dim(config: NetworkConfig) -> int:
    """The size of one latent.

    Args:
      config: the flags.

    Returns:
      The one asked for, or the one published for the network.
    """
    return config.latent_dim or LATENTS[config.net]


def players(
    config: NetworkConfig, shape: Sequence[int], labels: int
) -> tuple[nn.Module, nn.Module]:
    """Makes both networks.

    Args:
      config: the flags of `experiments.images`.
      shape: height, width and channels of the images.
      labels: how many there are; 0 where none take part.

    Returns:
      The generator and the discriminator.

    Raises:
      UserError: no such network makes such images.
    """
    gen, disc = NETS[config.net](config, shape, labels)
    if config.condition == "concat":
        disc = conditions.LabelPlanes(disc, labels)
    return gen, disc


def _dcgan(config: NetworkConfig, shape: Sequence[int], labels: int) -> Players:
    height, width, channels = shape
    if height != width:
        raise UserError(
            f"--net=dcgan makes square images, not {height} x {width}; use another net, or "
            f"--image_size={min(height, width)}"
        )
    widths, disc_widths = _both_widths(config, lambda: dcgan.default_features(height))
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
        features=disc_widths[::-1], norm="none", **_judged(config, labels), **shared
    )


def _light(config: NetworkConfig, shape: Sequence[int], labels: int) -> Players:
    size = (shape[0], shape[1])
    widths = _both_widths(config, lambda: light.default_widths(size))
    resample.first_size(size, len(widths[0]))
    shared = _shared(config)
    gen = light.Generator(
        size,
        shape[2],
        widths=widths[0],
        num_classes=labels,
        axis_name=config.axis_name,
        **shared,
    )
    return gen, light.Discriminator(widths=widths[1], **_judged(config, labels), **shared)


def _resnet(
    config: NetworkConfig, shape: Sequence[int], labels: int
) -> tuple[nn.Module, nn.Module]:
    size = (shape[0], shape[1])
    widths = _both_widths(config, lambda: resnet.default_widths(size))
    for each in widths:
        resnet.check(size, each, attention=config.attention)
    in_norms = config.condition == "cbn"
    shared = {"attention": config.attention, **_shared(config)}
    gen = resnet.Generator(
        size,
        shape[2],
        widths=widths[0],
        spectral=config.spectral == "both",
        num_classes=labels,
        labels="norm" if in_norms else "latent",
        shared=config.embedding,
        hierarchical=config.hierarchical,
        axis_name=config.axis_name,
        **shared,
    )
    return gen, resnet.Discriminator(
        widths=widths[1],
        spectral=config.spectral != "none",
        pooling="mean" if config.spectral == "none" else "sum",
        **_judged(config, labels),
        **shared,
    )


def _r3gan(config: NetworkConfig, shape: Sequence[int], labels: int) -> Players:
    size = (shape[0], shape[1])
    widths = _both_widths(config, lambda: r3gan.default_widths(size))
    groups = cli.integers(config, "groups") if config.groups else ()
    for each in widths:
        r3gan.check(size, each, groups=groups)
    shared = {"groups": groups, "blocks": config.blocks, **_shared(config)}
    gen = r3gan.Generator(size, shape[2], widths[0], num_classes=labels, **shared)
    return gen, r3gan.Discriminator(widths[1], **_judged(config, labels), **shared)


def _stylegan2(
    config: NetworkConfig, shape: Sequence[int], labels: int
) -> tuple[nn.Module, nn.Module]:
    size = (shape[0], shape[1])
    widths = _both_widths(config, lambda: stylegan2.default_widths(size))
    for each in widths:
        resample.first_size(size, len(each))
    shared = _shared(config)
    gen = stylegan2.Generator(
        size,
        shape[2],
        widths=widths[0],
        features=min(512, max(widths[0])),
        mapping_layers=config.mapping_layers,
        mixing=config.mixing,
        num_classes=labels,
        axis_name=config.axis_name,
        **shared,
    )
    return gen, stylegan2.Discriminator(
        widths=widths[1], mapping_layers=config.mapping_layers, **_judged(config, labels), **shared
    )


NETS: dict[str, Callable[..., Players]] = {
    "dcgan": _dcgan,
    "light": _light,
    "resnet": _resnet,
    "r3gan": _r3gan,
    "stylegan2": _stylegan2,
}


def _shared(config: NetworkConfig) -> dict[str, Any]:
    """What all networks of both players are made with."""
    return {"dtype": jnp.dtype(config.compute_dtype), "remat": config.remat}


def _judged(config: NetworkConfig, labels: int) -> dict[str, Any]:
    """How D takes part in the condition; of planes beside the image it knows nothing."""
    return {
        "num_classes": 0 if config.condition == "concat" else labels,
        "head": "class" if config.condition == "ac" else "projection",
    }


def _both_widths(
    config: NetworkConfig, published: Callable[[], Sequence[Any]]
) -> tuple[Sequence[int], Sequence[int]]:
    """G's and D's widths: those asked for, or those published, which some sizes have none of."""
    asked = cli.integers(config, "widths") if config.widths else ()
    of_disc = cli.integers(config, "disc_widths") if config.disc_widths else asked
    if asked:
        return asked, of_disc
    both = published()
    gen, disc = both if isinstance(both[0], tuple) else (both, both)
    return gen, of_disc or disc
