"""An experiment of dense networks, for tests that need some run: it compiles in no time.

As a process: `python -m tests.helpers.toy --workdir=... --data_dir=...`.
"""

import dataclasses

from jaxgan.run import adversarial, cli, driver
from tests.helpers import tiny


@dataclasses.dataclass(frozen=True)
class Config(adversarial.ImageConfig):
    latent_dim: int = cli.field(4, "Size of one latent.", minimum=1)


def build(config, spec):
    shape, labels = spec.shapes["image"], spec.num_classes if config.conditional else 0
    gen = tiny.DenseGen(shape=shape, num_classes=labels, axis_name=config.axis_name)
    disc = tiny.DenseDisc(batch_norm=False, num_classes=labels)
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
