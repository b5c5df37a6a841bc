"""What a user writes who brings data, networks and a step of their own; run by own_code_test."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from jaxgan import collectives, latents, losses, penalties, state, steps
from jaxgan.data import arrays
from jaxgan.run import adversarial, cli, driver, experiment


@dataclasses.dataclass(frozen=True)
class Config(adversarial.AdversarialConfig):
    network: str = cli.field("linen", "G's library.", choices=("linen", "nnx"))


class Net(nn.Module):  # for both players
    outputs: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1))))


def nnx_net(rngs):
    return nnx.Sequential(nnx.Linear(4, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 64, rngs=rngs))


def source(config):  # stripes; anything with __len__, __getitem__, a name and a fingerprint will do
    wave = np.sin(np.random.default_rng(0).uniform(0, 9, (500, 1, 1, 1)) + np.arange(8)[:, None])
    image = np.uint8(127 + 127 * np.broadcast_to(wave, (500, 8, 8, 1)))
    return arrays.ArraySource({"image": image}, name="stripes", num_classes=0)


def build(config, spec):
    axis, (gen_tx, disc_tx) = config.axis_name, adversarial.optimizers(config)
    definition = nnx.graphdef(nnx.eval_shape(lambda: nnx_net(nnx.Rngs(0))))
    disc = steps.judged(Net(1), "image", axis_name=axis)

    def draw(variables, z):  # a network of any library is a function of its variables
        if config.network == "nnx":
            out = nnx.merge(definition, variables["params"])(z)
        else:
            out = Net(64).apply(variables, z, train=True)
        return {"image": jnp.tanh(out).reshape(-1, 8, 8, 1)}

    def gen(key, variables, batch):  # (key, variables, batch) -> (entries made, new statistics)
        z = collectives.share(latent, key, len(batch["image"]), axis)  # this device's rows
        return draw(variables, z), {}

    def latent(key, num):
        return latents.normal(key, num, 4)

    def disc_step(key, now, batch):  # a step of one's own: least squares and R1
        made, _ = gen(key, now.gen.variables, batch)

        def loss_fn(params):
            def critic(x):
                return disc(key, {"params": params}, {"image": x})[0]["logits"][:, 0]

            real, fake = critic(batch["image"]), critic(made["image"])
            loss = losses.least_squares_disc(real, fake)
            loss = (loss + 0.1 * penalties.zero_centered(critic, batch["image"])).mean()
            return loss, ({}, {"disc/loss": loss})

        player, metrics = state.update(now.disc, disc_tx, loss_fn, axis_name=axis)
        return now.replace(disc=player), metrics

    def init(key):
        linen = Net(64).init(key, jnp.zeros((1, 4)), train=True)
        own = {"params": nnx.state(nnx_net(nnx.Rngs(key)))} if config.network == "nnx" else linen
        judge = Net(1).init(key, jnp.zeros((1, 8, 8, 1)), train=True)
        return state.init_state(state.init_player(own, gen_tx), state.init_player(judge, disc_tx))

    pair = losses.ADVERSARIAL["least_squares"]
    gen_step = steps.gen_step(steps.Game(gen=gen, disc=disc, loss=pair, axis_name=axis), gen_tx)
    step = steps.train_step(disc_step, gen_step, steps.ema_step(0.9))
    return experiment.Experiment(init, step, lambda v, key, num: draw(v, latent(key, num)))


if __name__ == "__main__":
    cli.main(Config, lambda config: driver.train(config, build=build, source=source))
