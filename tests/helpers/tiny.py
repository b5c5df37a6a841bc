"""A GAN small enough to train in every test, and helpers that several tests share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgan import latents, penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.nets import dcgan

LATENT_DIM = 4
UPDATES = {
    "simultaneous": steps.simultaneous_step,
    "alternating": steps.alternating_step,
}


class DenseGen(nn.Module):
    """Latents -> images through one layer, normalised or not; compiles in no time."""

    batch_norm: bool = True
    num_classes: int = 0
    shape: tuple[int, ...] = (4, 4, 1)
    width: int = 8
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z, label=None, *, train):
        if self.num_classes:
            z = jnp.concatenate([z, jax.nn.one_hot(label, self.num_classes)], axis=-1)
        z = nn.Dense(self.width, use_bias=not self.batch_norm)(
            z
        )  # Adam would blow up its rounding noise
        if self.batch_norm:
            axis_name = None if self.is_initializing() else self.axis_name
            z = nn.BatchNorm(not train, momentum=0.9, axis_name=axis_name)(z)
        return jnp.tanh(nn.Dense(math.prod(self.shape))(nn.relu(z))).reshape(-1, *self.shape)


class DenseDisc(nn.Module):
    """Images of any size -> logits, with or without batch norm."""

    batch_norm: bool = True
    num_classes: int = 0
    width: int = 8

    @nn.compact
    def __call__(self, x, label=None, *, train):
        x = x.reshape(x.shape[0], -1)
        if self.num_classes:
            x = jnp.concatenate([x, jax.nn.one_hot(label, self.num_classes)], axis=-1)
        x = nn.Dense(self.width)(x)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(1)(nn.tanh(x))[:, 0]


def make_game(
    gen, disc, loss, *, prior=latents.normal, conditional=False, axis_name=None, **options
):
    """The game of a generator of latents and a discriminator of images."""
    entries = ("image", "label") if conditional else ("image",)
    return steps.Game(
        gen=steps.from_latents(
            gen, LATENT_DIM, prior=prior, conditional=conditional, axis_name=axis_name
        ),
        disc=steps.judged(disc, *entries, axis_name=axis_name),
        loss=ADVERSARIAL[loss],
        axis_name=axis_name,
        **options,
    )


def dense_state(gen, disc, gen_tx, disc_tx, *, seed=0, **extra):
    """A fresh state of a dense pair."""

    @jax.jit
    def init(key):
        label = jnp.zeros((1,), jnp.int32)
        z, x = jnp.zeros((1, LATENT_DIM)), jnp.zeros((1, 4, 4, 1))
        gen_key, disc_key = jax.random.split(key)
        return state.init_state(
            state.init_player(gen.init(gen_key, z, label, train=False), gen_tx),
            state.init_player(disc.init(disc_key, x, label, train=False), disc_tx),
            **extra,
        )

    return init(jax.random.key(seed))


def dcgan_game(
    axis_name=None,
    *,
    loss="nonsaturating",
    update="simultaneous",
    penalty=None,
    disc_norm="none",
    num_classes=0,
    tx=None,
):
    """Returns (training step, init) of a DCGAN on 8x8 images; `init()` gives a fresh state."""
    tx = tx or optax.sgd(0.05)
    nets = {"features": (8,), "axis_name": axis_name, "num_classes": num_classes}
    gen = dcgan.Generator(image_size=8, **nets)
    disc = dcgan.Discriminator(norm=disc_norm, **nets)
    reg = penalties.weighted(penalties.PENALTIES[penalty], 1.0) if penalty else None
    game = make_game(gen, disc, loss, conditional=num_classes > 0, axis_name=axis_name, penalty=reg)
    if update == "fresh":
        step = steps.chain(steps.disc_step(game, tx), steps.gen_step(game, tx))
    else:
        step = UPDATES[update](game, tx, tx)

    @jax.jit
    def init():
        label = jnp.zeros((1,), jnp.int32) if num_classes else None
        z, x = jnp.zeros((1, LATENT_DIM)), jnp.zeros((1, 8, 8, 1))
        variables = (
            gen.init(jax.random.key(0), z, label, train=False),
            disc.init(jax.random.key(1), x, label, train=False),
        )
        # As DCGAN starts, penalties and their gradients would be too small to be seen.
        variables = jax.tree.map(lambda v: 6.0 * v if v.ndim > 1 else v, variables)
        return state.init_state(*(state.init_player(each, tx) for each in variables))

    return steps.train_step(step, steps.ema_step(0.9)), init


def batch(seed=0, *, size=16, side=8):
    """A batch of random images in [-1, 1] and labels in [0, 3)."""
    random = np.random.default_rng(seed)
    image = random.uniform(-1, 1, (size, side, side, 1)).astype(np.float32)
    return {"image": image, "label": random.integers(0, 3, size).astype(np.int32)}


def host(tree):
    """Copies a pytree to NumPy, so that donation cannot take it away."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def largest_difference(a, b):
    """The largest absolute difference of two pytrees' leaves."""
    differences = jax.tree.map(
        lambda x, y: float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)))),
        a,
        b,
    )
    return max(jax.tree.leaves(differences))


def equal(a, b):
    """Whether two pytrees have the same structure, dtypes and bits."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(host(a)), jax.tree.leaves(host(b)), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def norm(tree):
    """Euclidean norm over all leaves, in float64."""
    return float(np.sqrt(sum(np.sum(np.square(np.float64(x))) for x in jax.tree.leaves(tree))))
