"""An experiment of dense networks, for tests that need some run: it compiles in no time.

As a process: `python -m tests.helpers.toy --workdir=... --data_dir=...`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxgan import sample, state
from jaxgan.losses import ADVERSARIAL
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.experiment import Experiment
from jaxgan.steps import Game, from_latents, judged
from tests.helpers import tiny


@dataclasses.dataclass(frozen=True)
class Config(adversarial.ImageConfig):
    latent_dim: int = cli.field(4, "Size of one latent.", minimum=1)


def build(config, spec):
    shape, labels = spec.shapes["image"], spec.num_classes if config.conditional else 0
    gen = tiny.DenseGen(shape=shape, num_classes=labels, axis_name=config.axis_name)
    disc = tiny.DenseDisc(batch_norm=False, num_classes=labels)
    gen_tx, disc_tx = adversarial.optimizers(config)
    seen = ("image", "label") if labels else ("image",)
    axis = {"axis_name": config.axis_name}
    game = Game(
        gen=from_latents(gen, config.latent_dim, conditional=labels > 0, **axis),
        disc=judged(disc, *seen, **axis),
        loss=ADVERSARIAL[config.loss],
        **axis,
    )

    def init(key):
        gen_key, disc_key = jax.random.split(key)
        z, x, label = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, *shape)), jnp.zeros(1, int)
        return adversarial.init_state(
            config,
            state.init_player(gen.init(gen_key, z, label, train=False), gen_tx),
            state.init_player(disc.init(disc_key, x, label, train=False), disc_tx),
        )

    counts = (spec.label_counts or (1,) * labels) if labels else ()
    sampler = sample.Sampler(gen, config.latent_dim, label_counts=counts)
    return Experiment(init, adversarial.train_step(config, game, gen_tx, disc_tx), sampler)


def run(config):
    return driver.train(config, build=build)


if __name__ == "__main__":
    cli.main(Config, run)
