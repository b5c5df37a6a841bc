"""Six kinds of game between networks of one hidden layer: (game, G and its inputs, D and its)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgan import collectives, latents, penalties, state, steps
from jaxgan.losses import ADVERSARIAL

NUM_CLASSES, NUM_CODES, LENGTH, NUM_TOKENS = 3, 4, 5, 6
SIZE = 16
_random = np.random.default_rng(0)
IMAGE = jnp.asarray(_random.uniform(-1, 1, (SIZE, 4, 4, 1)), jnp.float32)
LABEL = jnp.asarray(_random.integers(0, NUM_CLASSES, SIZE))
TEXT = jax.nn.one_hot(_random.integers(0, NUM_TOKENS, (SIZE, LENGTH)), NUM_TOKENS)
R1 = penalties.weighted(penalties.r1_r2, 0.1)


class Net(nn.Module):
    """All its inputs, flat and side by side, through one hidden layer to each of its heads."""

    heads: dict[str, int]

    @nn.compact
    def __call__(self, *inputs, train):
        x = jnp.concatenate([x.reshape(x.shape[0], -1) for x in inputs], axis=-1)
        x = nn.leaky_relu(nn.Dense(16)(x))
        out = {name: nn.Dense(width)(x) for name, width in self.heads.items()}
        return {**out, "logits": out["logits"][:, 0]} if "logits" in out else out


class Image(nn.Module):
    """Anything to a 4x4 image."""

    @nn.compact
    def __call__(self, *inputs, train):
        x = Net({"image": 16})(*inputs, train=train)["image"]
        return jnp.tanh(x).reshape(-1, 4, 4, 1)


class LabelledImage(nn.Module):
    """Latents and labels to a 4x4 image."""

    @nn.compact
    def __call__(self, z, label, *, train):
        return Image()(z, jax.nn.one_hot(label, NUM_CLASSES), train=train)


class Text(nn.Module):
    """Latents to soft tokens."""

    @nn.compact
    def __call__(self, z, *, train):
        x = Net({"text": LENGTH * NUM_TOKENS})(z, train=train)["text"]
        return jax.nn.softmax(x.reshape(-1, LENGTH, NUM_TOKENS))


class BothWays(nn.Module):
    """CycleGAN's player: a translation each way."""

    @nn.compact
    def __call__(self, a, b, *, train):
        to_a, to_b = Image(), Image()
        fake_a, fake_b = to_a(b, train=train), to_b(a, train=train)
        cycles = {"cycle_a": to_a(fake_b, train=train), "cycle_b": to_b(fake_a, train=train)}
        return {"a": fake_a, "b": fake_b, **cycles}


class BothKinds(nn.Module):
    """Its opponent: a judge of each kind of image."""

    @nn.compact
    def __call__(self, a, b, *, train):
        judges = {"a": (Net({"logits": 1}), a), "b": (Net({"logits": 1}), b)}
        return {"logits": {k: net(x, train=train)["logits"] for k, (net, x) in judges.items()}}


def _cross_entropy(head, entry):
    return lambda out, entries: optax.softmax_cross_entropy_with_integer_labels(
        out[head], entries[entry]
    )


def plain(axis_name):
    gen, disc = Image(), Net({"logits": 1})
    game = steps.Game(
        gen=steps.from_latents(gen, 3, axis_name=axis_name),
        disc=steps.judged(disc, "image", axis_name=axis_name),
        loss=ADVERSARIAL["relativistic_average"],
        penalty=R1,
        axis_name=axis_name,
    )
    return game, (gen, ("z",)), (disc, ("image",))


def ac_gan(axis_name):
    gen, disc = LabelledImage(), Net({"logits": 1, "class": NUM_CLASSES})
    entropy = _cross_entropy("class", "label")
    game = steps.Game(
        gen=steps.from_latents(gen, 3, conditional=True, axis_name=axis_name),
        disc=steps.judged(disc, "image", axis_name=axis_name),
        loss=ADVERSARIAL["hinge"],
        disc_terms={"class": lambda seen: entropy(seen.real_out, seen.batch)},
        gen_terms={"class": lambda seen: entropy(seen.fake_out, seen.batch)},
        axis_name=axis_name,
    )
    return game, (gen, ("z", "label")), (disc, ("image",))


def info_gan(axis_name):
    gen, disc = Image(), Net({"logits": 1, "code": NUM_CODES})
    entropy = _cross_entropy("code", "code")

    def make(key, variables, batch):
        def draw(key, num):
            z_key, code_key = jax.random.split(key)
            code = jax.random.randint(code_key, (num,), 0, NUM_CODES)
            return latents.normal(z_key, num, 3), code

        z, code = collectives.share(draw, key, batch["image"].shape[0], axis_name)
        image = gen.apply(variables, z, jax.nn.one_hot(code, NUM_CODES), train=True)
        return {"image": image, "code": code}, {}

    told = lambda seen: entropy(seen.fake_out, seen.fake)  # noqa: E731
    game = steps.Game(
        gen=make,
        disc=steps.judged(disc, "image", axis_name=axis_name),
        loss=ADVERSARIAL["nonsaturating"],
        disc_terms={"code": told},
        gen_terms={"code": told},
        axis_name=axis_name,
    )
    return game, (gen, ("z", "code")), (disc, ("image",))


def pix2pix(axis_name):
    gen, disc = Image(), Net({"logits": 1})
    game = steps.Game(
        gen=steps.from_entry(gen, "source", "image", axis_name=axis_name),
        disc=steps.judged(disc, "source", "image", axis_name=axis_name),
        loss=ADVERSARIAL["least_squares"],
        gen_terms={"l1": lambda seen: 10 * jnp.abs(seen.fake["image"] - seen.batch["image"])},
        penalty=R1,
        axis_name=axis_name,
    )
    return game, (gen, ("source",)), (disc, ("source", "image"))


def cycle_gan(axis_name):
    gen, disc = BothWays(), BothKinds()

    def make(key, variables, batch):
        del key
        return gen.apply(variables, batch["a"], batch["b"], train=True), {}

    def cycle(seen):
        pairs = [(seen.fake[f"cycle_{kind}"], seen.batch[kind]) for kind in ("a", "b")]
        return 10 * sum(jnp.abs(fake - real) for fake, real in pairs)

    game = steps.Game(
        gen=make,
        disc=steps.judged(disc, "a", "b", axis_name=axis_name),
        loss=ADVERSARIAL["least_squares"],
        gen_terms={"cycle": cycle},
        penalty=R1,
        example="a",
        axis_name=axis_name,
    )
    return game, (gen, ("a", "b")), (disc, ("a", "b"))


def soft_tokens(axis_name):
    gen, disc = Text(), Net({"logits": 1})
    game = steps.Game(
        gen=steps.from_latents(gen, 3, target="text", axis_name=axis_name),
        disc=steps.judged(disc, "text", axis_name=axis_name),
        loss=ADVERSARIAL["relativistic"],
        penalty=R1,
        example="text",
        axis_name=axis_name,
    )
    return game, (gen, ("z",)), (disc, ("text",))


GAMES = {
    "gan": (plain, {"image": IMAGE}, ()),
    "ac_gan": (ac_gan, {"image": IMAGE, "label": LABEL}, ("disc/class", "gen/class")),
    "info_gan": (info_gan, {"image": IMAGE}, ("gen/code",)),
    "pix2pix": (pix2pix, {"image": IMAGE, "source": -IMAGE}, ("gen/l1",)),
    "cycle_gan": (cycle_gan, {"a": IMAGE, "b": 0.5 - IMAGE}, ("gen/cycle",)),
    "soft_tokens": (soft_tokens, {"text": TEXT}, ()),
}
SHAPES = {"z": jnp.zeros((1, 3)), "code": jnp.zeros((1, NUM_CODES))}


def start(players, batch, tx):
    """A fresh state of two (module, names of its inputs)."""

    def init(number, module, names):
        inputs = [(SHAPES | batch)[name][:1] for name in names]
        fresh = jax.jit(module.init, static_argnames="train")
        return state.init_player(fresh(jax.random.key(number), *inputs, train=True), tx)

    return state.init_state(*(init(n, *player) for n, player in enumerate(players)))
