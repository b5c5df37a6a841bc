"""Looking ahead and accumulating, against what they are made of; and what schedules do in them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel, penalties, regularizers, state, steps
from jaxgan.losses import ADVERSARIAL
from tests.helpers import tiny

KEY = jax.random.key(5)
Z = jnp.asarray(np.random.default_rng(0).normal(size=(4, tiny.LATENT_DIM)), jnp.float32)
GEN, DISC = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False)
PLAIN_GEN = tiny.DenseGen(batch_norm=False)  # mixes no examples of a share
TX = optax.sgd(0.2, momentum=0.5)
BATCH = tiny.batch(side=4)


def repeated(key, num, dim):
    """The same four latents again and again: a share of a batch sees what the whole does."""
    del key
    return jnp.tile(Z, (num // 4, 1))[:, :dim]


def _game(gen=GEN, loss="nonsaturating", **options):
    return tiny.make_game(gen, DISC, loss, prior=repeated, **options)


def _start(tx=TX, gen=GEN):
    return tiny.dense_state(gen, DISC, tx, tx)


def _run(step, start, batch=BATCH):
    return jax.jit(step)(KEY, start, batch)


def test_unrolled_by_nothing_is_the_plain_step():
    plain, seen = _run(steps.gen_step(_game(), TX), _start())
    ours, metrics = _run(steps.unrolled_gen_step(_game(), TX, TX, unroll=0), _start())
    assert tiny.largest_difference(plain.gen, ours.gen) < 1e-6
    assert set(metrics) == set(seen)


def test_unrolled_loss_is_that_against_the_discriminator_updated_and_it_stays():
    game, start = _game(penalty=penalties.weighted(penalties.r1, 0.3)), _start()
    ahead, _ = _run(steps.repeat(steps.disc_step(game, TX), 2), start)
    gen_step = steps.gen_step(game, TX)
    _, expected = _run(gen_step, ahead)
    after, metrics = _run(steps.unrolled_gen_step(game, TX, TX, unroll=2), start)
    np.testing.assert_allclose(metrics["gen/loss"], expected["gen/loss"], rtol=1e-5)
    assert tiny.equal(after.disc, start.disc)
    # The gradient flows through the updates: it is not that of the discriminator held fixed.
    held, _ = _run(gen_step, start.replace(disc=ahead.disc))
    assert tiny.largest_difference(after.gen.params, held.gen.params) > 1e-4


def test_unrolling_adam_needs_its_epsilon_under_the_root_and_then_works():
    tx = optax.adam(1e-2, eps_root=1e-8)
    after, _ = _run(steps.unrolled_gen_step(_game(), tx, tx, unroll=2), _start(tx))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.gen.params))


@pytest.mark.parametrize(
    "tx", [optax.sgd(0.1, momentum=0.5), optax.adam(1e-2)], ids=["sgd", "adam"]
)
def test_extragradient_moves_by_the_second_gradient_from_where_it_was(tx):
    game = _game(PLAIN_GEN)  # Adam makes full-size steps of the rounding noise before batch norm
    step, start = steps.simultaneous_step(game, tx, tx), _start(tx, PLAIN_GEN)
    ahead, _ = _run(step, start)
    twice, metrics = _run(step, ahead)
    after, ours = _run(steps.extragradient_step(game, tx, tx), start)
    for player in ("gen", "disc"):
        first, second, third, got = (getattr(now, player) for now in (start, ahead, twice, after))
        moved = jax.tree.map(lambda w, a, b: w + b - a, first.params, second.params, third.params)
        assert tiny.largest_difference(got.params, moved) < 1e-5
        # The moments see both gradients.
        assert tiny.largest_difference(got.opt_state, third.opt_state) < 1e-5
    assert set(ours) == set(metrics)


def test_extragradient_keeps_the_weights_where_a_projection_puts_them():
    tx = optax.chain(optax.sgd(0.5), regularizers.clip_weights(0.05))
    now, step = _start(tx), jax.jit(steps.extragradient_step(_game(), tx, tx))
    for _ in range(3):
        now, _ = step(KEY, now, BATCH)
    sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(now.disc.params)]
    assert max(sizes) < 0.05 + 1e-6


def _counts(opt_state):
    """Every whole number in the state of a transformation: how far its schedules are."""
    leaves = jax.tree.leaves(opt_state)
    return {int(leaf) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.integer)}


def _halving(count):
    return 0.1 * 0.5**count


# D is one number, whose gradient is -1 always: SGD moves it by its rate.
STRAIGHT = steps.Game(
    gen=lambda key, variables, batch: ({"image": 0.0 * batch["image"]}, {}),
    disc=lambda key, variables, batch: ({"logits": variables["params"] * batch["image"]}, {}),
    loss=ADVERSARIAL["wasserstein"],
)
ONES = {"image": jnp.ones(6)}


def _straight_start(tx):
    player = state.init_player({"params": jnp.zeros(())}, tx)
    return state.init_state(player, player)


@pytest.mark.parametrize(
    "tx",
    [
        optax.sgd(_halving),
        optax.inject_hyperparams(optax.sgd)(_halving),
        optax.chain(optax.inject_hyperparams(optax.scale)(1.0), optax.sgd(_halving)),
    ],
    ids=["schedule", "injected", "both"],
)
def test_extragradient_advances_schedules_once_a_step(tx):
    step = jax.jit(steps.train_step(steps.extragradient_step(STRAIGHT, tx, tx)))
    now, place = _straight_start(tx), 0.0
    for number in range(3):
        now, _ = step(KEY, now, ONES)
        place += _halving(number)
        assert _counts(now.disc.opt_state) == {number + 1}
        np.testing.assert_allclose(now.disc.params, place, rtol=1e-6)


@pytest.mark.parametrize("several", [steps.repeat, steps.microbatches])
def test_a_schedule_in_a_transformation_counts_updates_and_a_rate_may_count_steps(several):
    def moved(step, tx):
        now, places = _straight_start(tx), [0.0]
        trained = jax.jit(steps.train_step(several(step, 3)))
        for _ in range(2):
            now, _ = trained(KEY, now, ONES)
            places.append(float(now.disc.params))
        return np.diff(places)

    counting = optax.sgd(_halving)
    updates = [sum(_halving(n) for n in numbers) for numbers in (range(3), range(3, 6))]
    np.testing.assert_allclose(
        moved(steps.disc_step(STRAIGHT, counting), counting), updates, rtol=1e-5
    )
    following = steps.scheduled(lambda step: steps.disc_step(STRAIGHT, optax.sgd(_halving(step))))
    np.testing.assert_allclose(
        moved(following, optax.sgd(0.1)), [3 * _halving(0), 3 * _halving(1)], rtol=1e-5
    )


def test_extragradient_counts_both_gradients_in_the_bias_correction_of_adam_alone():
    tx = optax.adam(_halving)
    now, _ = _run(steps.extragradient_step(STRAIGHT, tx, tx), _straight_start(tx), ONES)
    adam, scheduled = now.disc.opt_state
    assert int(adam.count) == 2 and int(scheduled.count) == 1


KINDS = ["unrolled", "extragradient"]


@pytest.mark.parametrize(
    ("kind", "penalty"),
    [
        *((kind, None) for kind in KINDS),
        # Derivatives of derivatives, compiled for one device and for eight.
        *(pytest.param(kind, penalties.r1_r2, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_looking_ahead_on_eight_devices_is_looking_ahead_on_one(kind, penalty):
    tx = optax.sgd(0.2)

    def build(axis_name):
        game = _game(PLAIN_GEN, axis_name=axis_name, penalty=penalty)
        if kind == "unrolled":
            return steps.unrolled_gen_step(game, tx, tx, unroll=2)
        return steps.extragradient_step(game, tx, tx)

    start, batch = _start(tx, PLAIN_GEN), tiny.batch(size=32, side=4)
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
        pytest.param("hinge", None, marks=pytest.mark.slow),  # as the first
    ],
)
def test_accumulated_gradients_are_those_of_the_large_batch(loss, penalty):
    game, tx = _game(PLAIN_GEN, loss, penalty=penalty), _accumulated(TX, 4)
    whole = steps.chain(steps.disc_step(game, TX), steps.gen_step(game, TX))
    shares = steps.chain(
        steps.microbatches(steps.disc_step(game, tx), 4),
        steps.microbatches(steps.gen_step(game, tx), 4),
    )
    expected, ours = _start(TX, PLAIN_GEN), _start(tx, PLAIN_GEN)
    before = ours
    for number in range(2):
        batch = tiny.batch(number, side=4)
        (expected, want), (ours, got) = _run(whole, expected, batch), _run(shares, ours, batch)
        # Not accuracy: each share has its own middle.
        for name in ("disc/loss", "gen/loss", "disc/real", "disc/fake"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4)
    for player in ("gen", "disc"):
        params = [getattr(now, player).params for now in (expected, ours)]
        assert tiny.largest_difference(*params) < 1e-5
    assert tiny.largest_difference(ours.gen.params, before.gen.params) > 1e-3


def test_accumulation_moves_nobody_before_the_last_share():
    tx = _accumulated(TX, 2)
    step, start = steps.disc_step(_game(), tx), _start(tx)
    once, _ = _run(step, start)
    assert tiny.equal(once.disc.params, start.disc.params)
    twice, _ = _run(step, once)
    assert not tiny.equal(twice.disc.params, start.disc.params)
