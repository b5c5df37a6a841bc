r"""A DCGAN on digits, or on any small images.

    python -m experiments.mnist \
        --flagfile=experiments/flags/quickstart.flags --workdir=runs/quickstart

trains on the handwritten digits bundled with scikit-learn. The results of each flagfile stand in
experiments/README.md.
"""

import jax.numpy as jnp

from jaxgan.data.spec import Spec
from jaxgan.nets import dcgan
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import ConditionalConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState
from jaxgan.types import UserError


@cli.config(unroll_seeds=True)  # under vmap, convolutions of several networks are slow on CPU
class Config(ConditionalConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    latent_dim: int = cli.field(64, "Size of one latent.", minimum=1)
    gen_features: str = cli.field(
        "",
        "Feature maps of G's hidden layers, from the latent to the image; empty for those that "
        "image_size asks for.",
    )
    disc_features: str = cli.field(
        "", "Feature maps of D's layers, from the image on; empty for as many."
    )
    kernel: int = cli.field(4, "Side of the convolutions' kernels in pixels.", minimum=1)
    gen_norm: str = cli.field("batch", "G's norm.", choices=("batch", "group", "layer", "none"))
    disc_norm: str = cli.field("none", "D's norm.", choices=("batch", "group", "layer", "none"))
    gen_slope: float = cli.field(0.0, "Slope of G's leaky ReLU; 0 is ReLU.", minimum=0)
    bn_momentum: float = cli.field(0.9, "Momentum of batch statistics.", minimum=0, below=1)

    def __post_init__(self):
        """Checks every field, and fills in the widths of the networks."""
        super().__post_init__()
        widths = dcgan.default_features(self.image_size)
        for name, default in (("gen_features", widths), ("disc_features", widths[::-1])):
            if not getattr(self, name):
                object.__setattr__(self, name, ",".join(map(str, default)))
        dcgan.check_features(cli.integers(self, "gen_features"), self.image_size)
        cli.integers(self, "disc_features")
        if self.penalty != "none" and self.disc_norm == "batch":
            raise UserError(
                f"--penalty={self.penalty} needs each image's own gradient, which "
                "--disc_norm=batch mixes; use --disc_norm=group, layer or none"
            )


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    entry, told = spec.disc_label
    shared = {
        "kernel": config.kernel,
        "momentum": config.bn_momentum,
        "axis_name": config.axis_name,
        "dtype": jnp.dtype(config.compute_dtype),
    }
    gen = dcgan.Generator(
        image_size=config.image_size,
        channels=config.channels,
        features=cli.integers(config, "gen_features"),
        norm=config.gen_norm,
        slope=config.gen_slope,
        num_classes=spec.num_classes if config.conditional else 0,
        **shared,
    )
    disc = dcgan.Discriminator(
        features=cli.integers(config, "disc_features"),
        norm=config.disc_norm,
        num_classes=told if config.conditional else 0,
        **shared,
    )
    counts = spec.label_counts or (1,) * spec.num_classes
    return adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=config.latent_dim,
        shape=(config.image_size, config.image_size, config.channels),
        label_counts=counts if config.conditional else (),
        disc_label=entry,
    )


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    return driver.train(config, build=build)


if __name__ == "__main__":
    cli.main(Config, run)
