"""An experiment of dense networks, for tests that need some run: it compiles in no time.

As a process: `python -m tests.helpers.toy --workdir=... --data_dir=...`.
"""

import dataclasses

from jaxgan.run import adversarial, cli, driver
from tests.helpers import tiny


@dataclasses.dataclass(frozen=True)
class Config(adversarial.ConditionalConfig):
    latent_dim: int = cli.field(4, "Size of one latent.", minimum=1)
    width: int = cli.field(8, "Hidden units of each player.", minimum=1)


def build(config, spec, *, batch_norm=True):
    shape, labels = spec.shapes["image"], spec.num_classes if config.conditional else 0
    size = {"num_classes": labels, "width": config.width}
    gen = tiny.DenseGen(batch_norm, shape=shape, axis_name=config.axis_name, **size)
    disc = tiny.DenseDisc(batch_norm=False, **size)
    counts = spec.label_counts or (1,) * labels
    return adversarial.latent_experiment(
        config,
        gen,
        disc,
        dim=config.latent_dim,
        shape=shape,
        label_counts=counts if labels else (),
    )


def run(config):
    return driver.train(config, build=build)


if __name__ == "__main__":
    cli.main(Config, run)
