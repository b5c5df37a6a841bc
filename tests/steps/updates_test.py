"""Looking ahead: unrolled and extragradient steps on networks, against what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel, penalties, steps
from jaxgan.losses import ADVERSARIAL
from tests.helpers import tiny

KEY = jax.random.key(5)
Z = jnp.asarray(np.random.default_rng(0).normal(size=(4, tiny.LATENT_DIM)), jnp.float32)
GEN, DISC = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False)
PLAIN_GEN = tiny.DenseGen(batch_norm=False)  # mixes no examples of a share
TX = optax.sgd(0.2, momentum=0.5)
BATCH = tiny.batch(side=4)
LOSS = ADVERSARIAL["nonsaturating"]


def repeated(key, num, dim):
    """The same four latents again and again: a share of a batch sees what the whole does."""
    del key
    return jnp.tile(Z, (num // 4, 1))[:, :dim]


GAME = {"latent_dim": tiny.LATENT_DIM, "prior": repeated}


def _start(tx=TX):
    return tiny.dense_state(GEN, DISC, tx, tx)


def _run(step, start, batch=BATCH):
    return jax.jit(step)(KEY, start, batch)


def test_unrolled_by_nothing_is_the_plain_step():
    plain, _ = _run(steps.gen_step(GEN, DISC, TX, LOSS, **GAME), _start())
    ours, metrics = _run(
        steps.unrolled_gen_step(GEN, DISC, TX, TX, LOSS, unroll=0, **GAME), _start()
    )
    assert tiny.largest_difference(plain.gen, ours.gen) < 1e-6
    assert set(metrics) == {"gen/loss"}


def test_unrolled_loss_is_that_against_the_discriminator_updated_and_it_stays():
    penalty = penalties.weighted(penalties.r1, 0.3)
    start = _start()
    disc_step = steps.disc_step(GEN, DISC, TX, LOSS, penalty=penalty, **GAME)
    ahead, _ = _run(steps.repeat(disc_step, 2), start)
    _, expected = _run(steps.gen_step(GEN, DISC, TX, LOSS, **GAME), ahead)
    after, metrics = _run(
        steps.unrolled_gen_step(GEN, DISC, TX, TX, LOSS, unroll=2, penalty=penalty, **GAME), start
    )
    np.testing.assert_allclose(metrics["gen/loss"], expected["gen/loss"], rtol=1e-5)
    assert tiny.equal(after.disc, start.disc)
    # The gradient flows through the updates: it is not that of the discriminator held fixed.
    held, _ = _run(steps.gen_step(GEN, DISC, TX, LOSS, **GAME), start.replace(disc=ahead.disc))
    assert tiny.largest_difference(after.gen.params, held.gen.params) > 1e-4


def test_unrolling_adam_needs_its_epsilon_under_the_root_and_then_works():
    tx = optax.adam(1e-2, eps_root=1e-8)
    after, _ = _run(steps.unrolled_gen_step(GEN, DISC, tx, tx, LOSS, unroll=3, **GAME), _start(tx))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.gen.params))


@pytest.mark.parametrize(
    "tx", [optax.sgd(0.1, momentum=0.5), optax.adam(1e-2)], ids=["sgd", "adam"]
)
def test_extragradient_moves_by_the_second_gradient_from_where_it_was(tx):
    gen = PLAIN_GEN  # Adam makes full-size steps of the rounding noise before batch norm
    step = steps.simultaneous_step(gen, DISC, tx, tx, LOSS, **GAME)
    start = tiny.dense_state(gen, DISC, tx, tx)
    ahead, _ = _run(step, start)
    twice, metrics = _run(step, ahead)
    after, ours = _run(steps.extragradient(step), start)
    for player in ("gen", "disc"):
        moved = jax.tree.map(
            lambda w, a, b: w + b - a,
            *(getattr(now, player).params for now in (start, ahead, twice)),
        )
        assert tiny.largest_difference(getattr(after, player).params, moved) < 1e-5
        assert (
            tiny.largest_difference(
                getattr(after, player).opt_state, getattr(twice, player).opt_state
            )
            < 1e-5
        )
    assert set(ours) == set(metrics)


@pytest.mark.parametrize("kind", ["unrolled", "extragradient"])
def test_looking_ahead_on_eight_devices_is_looking_ahead_on_one(kind):
    gen, tx = PLAIN_GEN, optax.sgd(0.2)

    def build(axis_name):
        game = {**GAME, "axis_name": axis_name, "penalty": penalties.r1_r2}
        if kind == "unrolled":
            return steps.unrolled_gen_step(gen, DISC, tx, tx, LOSS, unroll=2, **game)
        return steps.extragradient(steps.simultaneous_step(gen, DISC, tx, tx, LOSS, **game))

    start = tiny.dense_state(gen, DISC, tx, tx)
    batch = tiny.batch(size=32, side=4)
    one, want = _run(build(None), start, batch)
    before = tiny.host(start)
    eight, got = parallel.pmap_step(build(parallel.AXIS))(KEY, start, batch)
    np.testing.assert_allclose(got["gen/loss"], want["gen/loss"], rtol=1e-5)
    assert tiny.largest_difference(tiny.host(one), tiny.host(eight)) < 1e-6
    assert tiny.largest_difference(before.gen.params, tiny.host(eight.gen.params)) > 1e-2


def _accumulated(tx, n):
    return optax.MultiSteps(tx, n).gradient_transformation()


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        ("nonsaturating", None),
        ("relativistic", penalties.weighted(penalties.r1_r2, 0.5)),
        ("hinge", None),
    ],
)
def test_accumulated_gradients_are_those_of_the_large_batch(loss, penalty):
    gen, loss = PLAIN_GEN, ADVERSARIAL[loss]
    whole = steps.chain(
        steps.disc_step(gen, DISC, TX, loss, penalty=penalty, **GAME),
        steps.gen_step(gen, DISC, TX, loss, **GAME),
    )
    tx = _accumulated(TX, 4)
    shares = steps.chain(
        steps.over_shares(steps.disc_step(gen, DISC, tx, loss, penalty=penalty, **GAME), 4),
        steps.over_shares(steps.gen_step(gen, DISC, tx, loss, **GAME), 4),
    )
    expected = tiny.dense_state(gen, DISC, TX, TX)
    ours = tiny.dense_state(gen, DISC, tx, tx)
    for number in range(2):
        batch = tiny.batch(number, side=4)
        (expected, want), (ours, got) = _run(whole, expected, batch), _run(shares, ours, batch)
        # Not accuracy: each share has its own middle.
        for name in ("disc/loss", "gen/loss", "disc/real", "disc/fake"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4)
    for player in ("gen", "disc"):
        params = [getattr(now, player).params for now in (expected, ours)]
        assert tiny.largest_difference(*params) < 1e-5
    before = tiny.dense_state(gen, DISC, TX, TX)
    assert tiny.largest_difference(ours.gen.params, before.gen.params) > 1e-3


def test_accumulation_moves_nobody_before_the_last_share():
    tx = _accumulated(TX, 2)
    start = tiny.dense_state(GEN, DISC, tx, tx)
    step = steps.disc_step(GEN, DISC, tx, LOSS, **GAME)
    once, _ = _run(step, start)
    assert tiny.equal(once.disc.params, start.disc.params)
    twice, _ = _run(step, once)
    assert not tiny.equal(twice.disc.params, start.disc.params)
