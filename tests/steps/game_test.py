"""One Game plays six kinds of game, on one device as on eight, with networks of Linen or of NNX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from jaxgan import collectives, latents, parallel, penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from tests.helpers import tiny

KEY = jax.random.key(7)
NUM_CLASSES, NUM_CODES, LENGTH, NUM_TOKENS = 3, 4, 5, 6
SIZE = 16
_random = np.random.default_rng(0)
IMAGE = jnp.asarray(_random.uniform(-1, 1, (SIZE, 4, 4, 1)), jnp.float32)
LABEL = jnp.asarray(_random.integers(0, NUM_CLASSES, SIZE))
TEXT = jax.nn.one_hot(_random.integers(0, NUM_TOKENS, (SIZE, LENGTH)), NUM_TOKENS)
R1 = penalties.weighted(penalties.r1_r2, 0.1)
UPDATES = {
    "fresh": lambda game, tx: steps.chain(steps.disc_step(game, tx), steps.gen_step(game, tx)),
    "simultaneous": lambda game, tx: steps.simultaneous_step(game, tx, tx),
    "alternating": lambda game, tx: steps.alternating_step(game, tx, tx),
    "extragradient": lambda game, tx: steps.extragradient_step(game, tx, tx),
    "unrolled": lambda game, tx: steps.chain(
        steps.disc_step(game, tx), steps.unrolled_gen_step(game, tx, tx, unroll=1)
    ),
}


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


def _plain(axis_name):
    gen, disc = Image(), Net({"logits": 1})
    game = steps.Game(
        gen=steps.from_latents(gen, 3, axis_name=axis_name),
        disc=steps.judged(disc, "image", axis_name=axis_name),
        loss=ADVERSARIAL["relativistic_average"],
        penalty=R1,
        axis_name=axis_name,
    )
    return game, (gen, ("z",)), (disc, ("image",))


def _ac_gan(axis_name):
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


def _info_gan(axis_name):
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


def _pix2pix(axis_name):
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


def _cycle_gan(axis_name):
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


def _soft_tokens(axis_name):
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
    "gan": (_plain, {"image": IMAGE}, ()),
    "ac_gan": (_ac_gan, {"image": IMAGE, "label": LABEL}, ("disc/class", "gen/class")),
    "info_gan": (_info_gan, {"image": IMAGE}, ("gen/code",)),
    "pix2pix": (_pix2pix, {"image": IMAGE, "source": -IMAGE}, ("gen/l1",)),
    "cycle_gan": (_cycle_gan, {"a": IMAGE, "b": 0.5 - IMAGE}, ("gen/cycle",)),
    "soft_tokens": (_soft_tokens, {"text": TEXT}, ()),
}
SHAPES = {"z": jnp.zeros((1, 3)), "code": jnp.zeros((1, NUM_CODES))}


def _start(players, batch, tx):
    """A fresh state of two (module, names of its inputs)."""
    made = [
        module.init(jax.random.key(n), *((SHAPES | batch)[name][:1] for name in names), train=True)
        for n, (module, names) in enumerate(players)
    ]
    return state.init_state(*(state.init_player(variables, tx) for variables in made))


@pytest.mark.parametrize("name", GAMES)
def test_every_game_trains_and_its_terms_fall(name):
    make, batch, falling = GAMES[name]
    game, *players = make(None)
    tx = optax.adam(1e-2)
    start = _start(players, batch, tx)
    step = jax.jit(steps.train_step(UPDATES["alternating"](game, tx), steps.ema_step(0.9)))
    now, rows = start, []
    for _ in range(30):
        now, metrics = step(KEY, now, batch)
        rows.append(metrics)
    assert rows[-1]["gen/finite"] and rows[-1]["disc/finite"]
    for player in ("gen", "disc"):
        before, after = (getattr(each, player).params for each in (start, now))
        assert tiny.largest_difference(before, after) > 1e-2
        terms = getattr(game, f"{player}_terms")
        assert {f"{player}/{term}" for term in terms} <= set(rows[0])
    for metric in falling:
        values = np.array([row[metric] for row in rows])
        assert values[-5:].mean() < 0.95 * values[:5].mean(), metric
    assert ("disc/penalty" in rows[0]) == (game.penalty is not None)
    assert "gen/diversity" in rows[0]


@pytest.mark.parametrize("update", UPDATES)
def test_every_way_of_updating_plays_every_game(update):
    for name, (make, batch, _) in GAMES.items():
        game, *players = make(None)
        tx = optax.sgd(0.1)
        start = _start(players, batch, tx)
        after, metrics = jax.eval_shape(UPDATES[update](game, tx), KEY, start, batch)
        assert jax.tree.structure(after) == jax.tree.structure(start), name
        plain = jax.eval_shape(UPDATES["fresh"](game, tx), KEY, start, batch)[1]
        assert metrics == plain, name


@pytest.mark.parametrize("name", ["gan", "ac_gan", "info_gan"])
def test_a_game_on_eight_devices_is_the_game_on_one(name):
    make, batch, _ = GAMES[name]
    tx, (game, *players) = optax.sgd(0.1), make(None)
    start = _start(players, batch, tx)
    one, want = jax.jit(UPDATES["simultaneous"](game, tx))(KEY, start, batch)
    one = tiny.host(one)
    game, *_ = make(parallel.AXIS)
    eight, got = parallel.pmap_step(UPDATES["simultaneous"](game, tx))(KEY, start, batch)
    assert tiny.largest_difference(one, tiny.host(eight)) < 1e-6
    for metric, value in want.items():
        np.testing.assert_allclose(got[metric], value, rtol=1e-4, atol=1e-6, err_msg=metric)


def test_the_loss_of_a_tree_of_logits_is_the_sum_of_its_leaves_and_the_critic_their_sum():
    game, *players = _cycle_gan(None)
    tx, (_, batch, _) = optax.sgd(0.1), GAMES["cycle_gan"]
    disc = _start(players, batch, tx).disc
    made = {"a": batch["b"], "b": batch["a"]}
    loss, (_, metrics) = game.disc_loss(KEY, disc.params, disc, batch, made)
    judge = lambda entries: game.disc(KEY, disc.variables, entries)[0]["logits"]  # noqa: E731
    real, fake = judge(batch), judge({**batch, **made})
    expected = sum(game.loss.disc(real[kind], fake[kind]).mean() for kind in ("a", "b"))
    np.testing.assert_allclose(metrics["disc/loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["disc/real"], (real["a"].mean() + real["b"].mean()) / 2, rtol=1e-5
    )
    slopes = [
        penalties.zero_centered(lambda x: sum(judge({**batch, "a": x}).values()), x)
        for x in (batch["a"], made["a"])
    ]
    np.testing.assert_allclose(metrics["disc/penalty"], 0.05 * sum(slopes).mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, expected + metrics["disc/penalty"], rtol=1e-6)


def test_only_the_example_is_augmented():
    seen = []

    def disc(key, variables, batch):
        seen.append(batch)
        return {"logits": variables["params"] * batch["image"].mean((1, 2, 3))}, {}

    game = steps.Game(
        gen=lambda key, variables, batch: ({"image": -batch["source"]}, {}),
        disc=disc,
        loss=ADVERSARIAL["hinge"],
        augment=lambda key, x: 0.5 * x,
    )
    player = state.Player(params=jnp.ones(()), stats={}, opt_state=())
    batch = {"image": IMAGE, "source": IMAGE}
    game.disc_loss(KEY, player.params, player, batch, {"image": -IMAGE})
    for entries, sign in zip(seen, (1, -1), strict=True):
        np.testing.assert_array_equal(entries["image"], 0.5 * sign * IMAGE)
        np.testing.assert_array_equal(entries["source"], IMAGE)


def test_diversity_is_left_out_where_the_generator_does_not_make_the_example():
    game, *players = _soft_tokens(None)
    tx, batch = optax.sgd(0.1), {"text": TEXT}
    start = _start(players, batch, tx)
    elsewhere = dataclasses.replace(game, example="image", penalty=None)
    _, metrics = jax.eval_shape(steps.gen_step(elsewhere, tx), KEY, start, batch)
    assert set(metrics) == {"gen/loss", "gen/gradient"}


def test_logits_are_float32_whatever_the_networks_compute_in():
    game, *players = _plain(None)
    half = dataclasses.replace(
        game,
        disc=lambda *args: jax.tree.map(lambda x: x.astype(jnp.bfloat16), game.disc(*args)),
        disc_terms={"seen": lambda seen: seen.fake_out["logits"]},
    )
    disc = _start(players, {"image": IMAGE}, optax.sgd(0.1)).disc
    loss, (_, metrics) = half.disc_loss(KEY, disc.params, disc, {"image": IMAGE}, {"image": -IMAGE})
    assert all(value.dtype == jnp.float32 for value in (loss, *metrics.values()))


@pytest.mark.parametrize(("player", "name"), [("gen", "loss"), ("disc", "penalty")])
def test_a_term_cannot_take_the_name_of_a_metric(player, name):
    game, *_ = _plain(None)
    with pytest.raises(ValueError, match=f'a term of {player} cannot be named "{name}"'):
        dataclasses.replace(game, **{f"{player}_terms": {name: lambda seen: seen.batch["image"]}})


class NnxGen(nnx.Module):
    """`tiny.DenseGen` in Flax NNX."""

    def __init__(self, rngs):
        self.first = nnx.Linear(tiny.LATENT_DIM, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(8, 16, rngs=rngs)

    def __call__(self, z):
        return jnp.tanh(self.last(nnx.relu(self.norm(self.first(z))))).reshape(-1, 4, 4, 1)


class NnxDisc(nnx.Module):
    """`tiny.DenseDisc` in Flax NNX."""

    def __init__(self, rngs):
        self.first = nnx.Linear(16, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.norm(self.first(x.reshape(x.shape[0], -1)))))[:, 0]


def _call(definition, variables, *inputs):
    """An NNX module's outputs, and its statistics afterwards."""
    module = nnx.merge(definition, variables["params"], variables["stats"])
    out = module(*inputs)
    _, _, stats = nnx.split(module, nnx.Param, ...)
    return out, {"stats": nnx.to_pure_dict(stats)}


def _as_linen(variables):
    """The same numbers as variables of the Linen networks."""
    names = {"first": "Dense_0", "norm": "BatchNorm_0", "last": "Dense_1"}
    renamed = {names[name]: value for name, value in variables["params"].items()}
    return {"params": renamed, "batch_stats": {"BatchNorm_0": variables["stats"]["norm"]}}


def test_networks_of_flax_nnx_plug_in_and_train_as_those_of_linen():
    tx, batch = optax.sgd(0.2, momentum=0.5), tiny.batch(side=4)
    parts = [nnx.split(net(nnx.Rngs(0)), nnx.Param, ...) for net in (NnxGen, NnxDisc)]
    (gen_def, *_), (disc_def, *_) = parts
    variables = [
        {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}
        for _, params, stats in parts
    ]

    def gen(key, variables, batch):
        z_key, _ = jax.random.split(key)  # as `from_latents` draws
        z = latents.normal(z_key, batch["image"].shape[0], tiny.LATENT_DIM)
        image, stats = _call(gen_def, variables, z)
        return {"image": image}, stats

    def disc(key, variables, batch):
        logits, stats = _call(disc_def, variables, batch["image"])
        return {"logits": logits}, stats

    linen = tiny.make_game(tiny.DenseGen(), tiny.DenseDisc(), "relativistic")
    ours = dataclasses.replace(linen, gen=gen, disc=disc)
    now = state.init_state(*(state.init_player(each, tx) for each in variables))
    same = state.init_state(*(state.init_player(_as_linen(each), tx) for each in variables))
    build = lambda game: jax.jit(  # noqa: E731
        steps.train_step(steps.alternating_step(game, tx, tx), steps.ema_step(0.9))
    )
    step, reference = build(ours), build(linen)
    for _ in range(3):
        now, metrics = step(KEY, now, batch)
        same, expected = reference(KEY, same, batch)
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for player in ("gen", "disc"):
        mine, theirs = (getattr(each, player).variables for each in (now, same))
        assert tiny.largest_difference(_as_linen(mine), theirs) < 1e-6
    assert tiny.largest_difference(_as_linen(now.gen_ema), same.gen_ema) < 1e-6
    assert tiny.largest_difference(now.gen.params, variables[0]["params"]) > 1e-2  # they did train
