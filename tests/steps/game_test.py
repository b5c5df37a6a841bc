"""One Game plays six kinds of game by every way of updating, on one device as on eight."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel, penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from tests.helpers import games, tiny

KEY = jax.random.key(7)
UPDATES = {
    "fresh": lambda game, tx: steps.chain(steps.disc_step(game, tx), steps.gen_step(game, tx)),
    "simultaneous": lambda game, tx: steps.simultaneous_step(game, tx, tx),
    "alternating": lambda game, tx: steps.alternating_step(game, tx, tx),
    "extragradient": lambda game, tx: steps.extragradient_step(game, tx, tx),
    "unrolled": lambda game, tx: steps.chain(
        steps.disc_step(game, tx), steps.unrolled_gen_step(game, tx, tx, unroll=1)
    ),
}


@pytest.mark.parametrize("name", games.GAMES)
def test_every_game_trains_and_its_terms_fall(name):
    make, batch, falling = games.GAMES[name]
    game, *players = make(None)
    tx = optax.adam(1e-2)
    start = games.start(players, batch, tx)
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


@pytest.mark.parametrize("name", games.GAMES)
def test_every_way_of_updating_plays_every_game(name):
    make, batch, _ = games.GAMES[name]
    game, *players = make(None)
    tx = optax.sgd(0.1)
    start = games.start(players, batch, tx)
    seen = []
    for update, step in UPDATES.items():
        after, metrics = jax.eval_shape(step(game, tx), KEY, start, batch)
        assert jax.tree.structure(after) == jax.tree.structure(start), update
        seen.append(metrics)
    assert all(metrics == seen[0] for metrics in seen)


@pytest.mark.parametrize("name", ["gan", "ac_gan", "info_gan"])
def test_a_game_on_eight_devices_is_the_game_on_one(name):
    make, batch, _ = games.GAMES[name]
    tx, (game, *players) = optax.sgd(0.1), make(None)
    start = games.start(players, batch, tx)
    one, want = jax.jit(UPDATES["simultaneous"](game, tx))(KEY, start, batch)
    one = tiny.host(one)
    game, *_ = make(parallel.AXIS)
    eight, got = parallel.pmap_step(UPDATES["simultaneous"](game, tx))(KEY, start, batch)
    assert tiny.largest_difference(one, tiny.host(eight)) < 1e-6
    for metric, value in want.items():
        np.testing.assert_allclose(got[metric], value, rtol=1e-4, atol=1e-6, err_msg=metric)


def test_the_loss_of_a_tree_of_logits_is_the_sum_of_its_leaves_and_the_critic_their_sum():
    game, *players = games.cycle_gan(None)
    tx, (_, batch, _) = optax.sgd(0.1), games.GAMES["cycle_gan"]
    disc = games.start(players, batch, tx).disc
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
    batch = {"image": games.IMAGE, "source": games.IMAGE}
    game.disc_loss(KEY, player.params, player, batch, {"image": -games.IMAGE})
    for entries, sign in zip(seen, (1, -1), strict=True):
        np.testing.assert_array_equal(entries["image"], 0.5 * sign * games.IMAGE)
        np.testing.assert_array_equal(entries["source"], games.IMAGE)


def test_diversity_is_left_out_where_the_generator_does_not_make_the_example():
    game, *players = games.soft_tokens(None)
    tx, batch = optax.sgd(0.1), {"text": games.TEXT}
    start = games.start(players, batch, tx)
    elsewhere = dataclasses.replace(game, example="image", penalty=None)
    _, metrics = jax.eval_shape(steps.gen_step(elsewhere, tx), KEY, start, batch)
    assert set(metrics) == {"gen/loss", "gen/gradient"}


def test_logits_are_float32_whatever_the_networks_compute_in():
    game, *players = games.plain(None)
    half = dataclasses.replace(
        game,
        disc=lambda *args: jax.tree.map(lambda x: x.astype(jnp.bfloat16), game.disc(*args)),
        disc_terms={"seen": lambda seen: seen.fake_out["logits"]},
    )
    disc = games.start(players, {"image": games.IMAGE}, optax.sgd(0.1)).disc
    loss, (_, metrics) = half.disc_loss(
        KEY, disc.params, disc, {"image": games.IMAGE}, {"image": -games.IMAGE}
    )
    assert all(value.dtype == jnp.float32 for value in (loss, *metrics.values()))


@pytest.mark.parametrize(("player", "name"), [("gen", "loss"), ("disc", "penalty")])
def test_a_term_cannot_take_the_name_of_a_metric(player, name):
    game, *_ = games.plain(None)
    with pytest.raises(ValueError, match=f'a term of {player} cannot be named "{name}"'):
        dataclasses.replace(game, **{f"{player}_terms": {name: lambda seen: seen.batch["image"]}})
