"""The players' steps against hand-written plain JAX, and what each must leave alone."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import ema, penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.steps import game
from jaxgan.types import UserError
from tests.helpers import tiny

KEY = jax.random.key(11)
Z = jnp.asarray(np.random.default_rng(0).normal(size=(16, tiny.LATENT_DIM)), jnp.float32)
GEN, DISC = tiny.DenseGen(), tiny.DenseDisc()
SMOOTH_DISC = tiny.DenseDisc(batch_norm=False)
# SGD: Adam would turn the rounding noise in the gradient of a bias before batch norm, which is
# truly 0, into full-size steps.
GEN_TX, DISC_TX = optax.sgd(0.2, momentum=0.5), optax.sgd(0.3, momentum=0.5)
BATCH = tiny.batch(side=4)


def same_latents(key, num, dim):
    """A prior that always draws the same, so that a reference can draw it too."""
    del key
    return Z[:num, :dim]


def _game(disc, loss, **options):
    """The game with the same latents again and again."""
    return tiny.make_game(GEN, disc, loss, prior=same_latents, **options)


def _start(disc=DISC, **extra):
    return tiny.dense_state(GEN, disc, GEN_TX, DISC_TX, **extra)


def _run(step, start, batch=BATCH, key=KEY):
    return jax.jit(step)(key, start, batch)


# A reference: the same steps in plain JAX, with softplus and the loss written out.


def _fakes(params, stats):
    fake, new = GEN.apply({"params": params, **stats}, Z, train=True, mutable=["batch_stats"])
    return fake, new


def _both_logits(disc, params, stats, fake):
    """Logits of real, then of fake, the statistics handed on from one to the other."""
    mutable = list(stats)
    real_logits, stats = disc.apply(
        {"params": params, **stats}, BATCH["image"], train=True, mutable=mutable
    )
    fake_logits, stats = disc.apply({"params": params, **stats}, fake, train=True, mutable=mutable)
    return real_logits, fake_logits, stats


def _reference_disc(disc, player, fake, gamma):
    def loss_fn(params):
        real_logits, fake_logits, stats = _both_logits(disc, params, player.stats, fake)
        loss = jnp.mean(jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits))
        if gamma:
            one = lambda x: disc.apply({"params": params}, x[None], train=True)[0]  # noqa: E731
            slopes = jax.vmap(jax.grad(one))
            real = jnp.asarray(BATCH["image"])
            squares = jnp.sum(slopes(real) ** 2 + slopes(fake) ** 2, axis=(1, 2, 3))
            loss = loss + gamma / 2 * jnp.mean(squares)
        return loss, stats

    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(player.params)
    updates, opt_state = DISC_TX.update(grads, player.opt_state, player.params)
    return state.Player(optax.apply_updates(player.params, updates), stats, opt_state), loss


def _reference_gen(disc, gen, opponent):
    def loss_fn(params):
        fake, stats = _fakes(params, gen.stats)
        _, fake_logits, _ = _both_logits(disc, opponent.params, opponent.stats, fake)
        return jnp.mean(jax.nn.softplus(-fake_logits)), stats

    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(gen.params)
    updates, opt_state = GEN_TX.update(grads, gen.opt_state, gen.params)
    return state.Player(optax.apply_updates(gen.params, updates), stats, opt_state), loss


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _reference(kind, disc_net, gamma, start):
    fake, _ = _fakes(start.gen.params, start.gen.stats)
    disc, disc_loss = _reference_disc(disc_net, start.disc, fake, gamma)
    opponent = start.disc if kind == "simultaneous" else disc
    gen, gen_loss = _reference_gen(disc_net, start.gen, opponent)
    return start.replace(gen=gen, disc=disc), disc_loss, gen_loss


def _ours(kind, disc_net, gamma):
    penalty = penalties.weighted(penalties.r1_r2, gamma) if gamma else None
    game = _game(disc_net, "nonsaturating", penalty=penalty)
    if kind == "fresh":
        return steps.chain(steps.disc_step(game, DISC_TX), steps.gen_step(game, GEN_TX))
    return tiny.UPDATES[kind](game, GEN_TX, DISC_TX)


@pytest.mark.parametrize("kind", ["simultaneous", "alternating", "fresh"])
@pytest.mark.parametrize(("disc_net", "gamma"), [(DISC, 0.0), (SMOOTH_DISC, 0.7)])
def test_three_steps_equal_a_hand_written_reference(kind, disc_net, gamma):
    step = jax.jit(_ours(kind, disc_net, gamma))
    ours = reference = _start(disc_net)
    for _ in range(3):
        ours, metrics = step(KEY, ours, BATCH)
        reference, disc_loss, gen_loss = _reference(kind, disc_net, gamma, reference)
        total = metrics["disc/loss"] + metrics.get("disc/penalty", 0.0)
        np.testing.assert_allclose(total, disc_loss, rtol=1e-4)
        np.testing.assert_allclose(metrics["gen/loss"], gen_loss, rtol=1e-4)
    assert tiny.largest_difference(ours, reference) < 2e-4
    for player in ("gen", "disc"):  # they did train
        before, after = (getattr(now, player).params for now in (_start(disc_net), ours))
        assert tiny.largest_difference(before, after) > 1e-2


def test_the_three_ways_of_updating_differ():
    after = [_run(_ours(kind, DISC, 0.0), _start())[0] for kind in ("simultaneous", "alternating")]
    assert tiny.equal(after[0].disc, after[1].disc)
    assert not tiny.equal(after[0].gen, after[1].gen)


HINGE = tiny.make_game(GEN, DISC, "hinge")
DISC_STEP, GEN_STEP = steps.disc_step(HINGE, DISC_TX), steps.gen_step(HINGE, GEN_TX)


def test_the_discriminators_step_leaves_the_generator_and_its_statistics_alone():
    start = _start()
    after, _ = _run(DISC_STEP, start)
    assert tiny.equal(after.gen, start.gen)
    assert tiny.equal((after.step, after.gen_ema), (start.step, start.gen_ema))
    for part in ("params", "stats", "opt_state"):
        assert not tiny.equal(getattr(after.disc, part), getattr(start.disc, part)), part


def test_the_generators_step_leaves_the_discriminator_and_its_statistics_alone():
    start = _start()
    after, _ = _run(GEN_STEP, start)
    assert tiny.equal(after.disc, start.disc)
    assert tiny.equal((after.step, after.gen_ema), (start.step, start.gen_ema))
    for part in ("params", "stats", "opt_state"):
        assert not tiny.equal(getattr(after.gen, part), getattr(start.gen, part)), part


def test_running_statistics_of_the_discriminator_see_real_then_fake():
    # momentum .9 twice: .81 old + .09 mean of real + .1 mean of fake, of the first layer's output.
    start = _start()
    after, _ = _run(steps.disc_step(_game(DISC, "hinge"), DISC_TX), start)
    fake, _ = _fakes(start.gen.params, start.gen.stats)
    dense = start.disc.params["Dense_0"]
    real, fake = (
        np.asarray(x).reshape(16, -1) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
        for x in (BATCH["image"], fake)
    )
    np.testing.assert_allclose(
        after.disc.stats["batch_stats"]["BatchNorm_0"]["mean"],
        0.09 * real.mean(0) + 0.1 * fake.mean(0),
        atol=1e-5,
    )


def test_metrics_are_what_they_say():
    game = _game(SMOOTH_DISC, "wasserstein", penalty=penalties.weighted(penalties.r1, 2.0))
    start = _start(SMOOTH_DISC)
    _, metrics = _run(steps.disc_step(game, DISC_TX), start)
    fake, _ = _fakes(start.gen.params, start.gen.stats)
    critic = lambda x: SMOOTH_DISC.apply({"params": start.disc.params}, x, train=True)  # noqa: E731
    real_logits, fake_logits = critic(BATCH["image"]), critic(fake)
    middle = (real_logits.mean() + fake_logits.mean()) / 2
    expected = {
        "disc/loss": fake_logits.mean() - real_logits.mean(),
        "disc/real": real_logits.mean(),
        "disc/fake": fake_logits.mean(),
        "disc/accuracy": ((real_logits > middle).mean() + (fake_logits < middle).mean()) / 2,
        "disc/penalty": penalties.zero_centered(critic, jnp.asarray(BATCH["image"])).mean(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6)


class Shifted(nn.Module):
    """A discriminator whose logits are all higher by a number."""

    by: float

    @nn.compact
    def __call__(self, x, label=None, *, train):
        return tiny.DenseDisc(batch_norm=False)(x, label, train=train) + self.by


def test_accuracy_does_not_depend_on_where_zero_is():
    # Under a relativistic loss, that is anywhere.
    seen = []
    for by in (0.0, 100.0):
        disc = Shifted(by)
        seen.append(_run(steps.disc_step(_game(disc, "relativistic"), DISC_TX), _start(disc))[1])
    assert 0 < seen[0]["disc/accuracy"] < 1
    assert seen[0]["disc/accuracy"] == seen[1]["disc/accuracy"]


def test_accuracy_is_one_where_some_number_parts_real_from_fake():
    assert HINGE._accuracy(jnp.array([3.0, 5.0]), jnp.array([1.0, 2.0])) == 1.0
    assert HINGE._accuracy(jnp.ones(4), jnp.ones(4)) == 0.5


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_each_player_lowers_its_loss_on_the_same_examples(name):
    # Small SGD steps, same latents: each player's own loss must go down.
    game, tx = _game(SMOOTH_DISC, name), optax.sgd(0.01)
    start = tiny.dense_state(GEN, SMOOTH_DISC, tx, tx)
    disc_step, gen_step = jax.jit(steps.disc_step(game, tx)), jax.jit(steps.gen_step(game, tx))
    after, before = disc_step(KEY, start, BATCH)
    _, now = disc_step(KEY, after, BATCH)
    assert now["disc/loss"] < before["disc/loss"]
    after, before = gen_step(KEY, start, BATCH)
    _, now = gen_step(KEY, after, BATCH)
    assert now["gen/loss"] < before["gen/loss"]


def _keys_drawn_with(step):
    """Runs a step; returns the keys that latents were drawn with."""
    keys = []

    def prior(key, num, dim):
        _note(keys, key)
        return Z[:num, :dim]

    game = tiny.make_game(GEN, SMOOTH_DISC, "hinge", prior=prior)
    jax.block_until_ready(_run(step(game), _start(SMOOTH_DISC)))
    jax.effects_barrier()
    return keys


def _note(keys, key):
    """Appends a key to a list, when a compiled program comes there."""
    jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))


def test_every_critic_iteration_and_player_draws_with_its_own_key():
    keys = _keys_drawn_with(
        lambda game: steps.train_step(
            steps.repeat(steps.disc_step(game, DISC_TX), 2), steps.gen_step(game, GEN_TX)
        )
    )
    assert len(keys) == len(set(keys)) == 3


@pytest.mark.parametrize("kind", ["simultaneous", "alternating"])
def test_shared_fakes_come_from_one_draw(kind):
    keys = _keys_drawn_with(lambda game: tiny.UPDATES[kind](game, GEN_TX, DISC_TX))
    assert len(keys) == 1


def test_two_steps_of_training_see_different_latents():
    step = jax.jit(steps.train_step(DISC_STEP))
    start = _start()
    _, first = step(KEY, start, BATCH)
    _, second = step(KEY, start.replace(step=jnp.int32(1)), BATCH)
    assert float(first["disc/fake"]) != float(second["disc/fake"])
    assert float(first["disc/real"]) == float(second["disc/real"])


def test_augmentation_meets_real_and_fake_with_keys_of_their_own():
    keys, seen = [], []

    def augment(key, x):
        _note(keys, key)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return -x

    start, game = _start(SMOOTH_DISC), _game(SMOOTH_DISC, "hinge")
    augmented = dataclasses.replace(game, augment=augment)
    after, _ = jax.block_until_ready(_run(steps.disc_step(augmented, DISC_TX), start))
    jax.effects_barrier()
    assert len(keys) == 2 and keys[0] != keys[1]
    fake, _ = _fakes(start.gen.params, start.gen.stats)
    for x in (BATCH["image"], np.asarray(fake)):
        assert any(np.allclose(x, one, atol=1e-6) for one in seen)
    # Turning what D sees upside down equals turning its first weights upside down.
    first = start.disc.params["Dense_0"]
    turned = {**start.disc.params, "Dense_0": {**first, "kernel": -first["kernel"]}}
    turned = start.replace(disc=start.disc.replace(params=turned))
    mirror, _ = _run(steps.disc_step(game, DISC_TX), turned)
    kernel = mirror.disc.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(after.disc.params["Dense_0"]["kernel"], -kernel, atol=1e-6)


def test_the_generator_learns_through_the_augmentation():
    game = _game(SMOOTH_DISC, "hinge", augment=lambda key, x: 0.0 * x)
    start = _start(SMOOTH_DISC)
    after, _ = _run(steps.gen_step(game, GEN_TX), start)
    assert tiny.equal(after.gen.params, start.gen.params)  # no gradient gets through a zero


def test_conditional_players_see_their_labels():
    gen, disc = tiny.DenseGen(num_classes=3), tiny.DenseDisc(num_classes=3)
    start = tiny.dense_state(gen, disc, GEN_TX, DISC_TX)
    game = tiny.make_game(gen, disc, "hinge", prior=same_latents, conditional=True)
    step = jax.jit(steps.simultaneous_step(game, GEN_TX, DISC_TX))
    other = {**BATCH, "label": (BATCH["label"] + 1) % 3}
    first, second = (step(KEY, start, batch)[0] for batch in (BATCH, other))
    assert not tiny.equal(first.gen.params, second.gen.params)
    assert not tiny.equal(first.disc.params, second.disc.params)
    # The row of the generator's first weights that belongs to an absent label has no gradient.
    only_zero = {**BATCH, "label": np.zeros(16, np.int32)}
    rows = step(KEY, start, only_zero)[0].gen.params["Dense_0"]["kernel"][-3:]
    before = start.gen.params["Dense_0"]["kernel"][-3:]
    np.testing.assert_array_equal(rows[1:], before[1:])


def test_unconditional_players_do_not_see_labels():
    other = {**BATCH, "label": (BATCH["label"] + 1) % 3}
    step = jax.jit(_ours("simultaneous", DISC, 0.0))
    assert tiny.equal(step(KEY, _start(), BATCH), step(KEY, _start(), other))
    without = {"image": BATCH["image"]}
    assert tiny.equal(step(KEY, _start(), BATCH)[0], _run(step, _start(), without)[0])


def test_a_conditional_network_without_labels_says_what_is_missing():
    from jaxgan.nets import dcgan

    gen = dcgan.Generator(image_size=8, features=(4,), num_classes=3)
    with pytest.raises(UserError, match="needs labels"):
        jax.eval_shape(lambda: gen.init(KEY, jnp.zeros((1, 4)), train=False))


def test_moving_average_follows_parameters_and_statistics():
    step = jax.jit(steps.chain(GEN_STEP, steps.ema_step(0.75)))
    start = _start()
    after, _ = step(KEY, start, BATCH)
    expected = jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new, start.gen_ema, after.gen.variables
    )
    assert tiny.largest_difference(after.gen_ema, expected) < 1e-6
    assert not tiny.equal(after.gen_ema["batch_stats"], start.gen_ema["batch_stats"])


def test_moving_average_warms_up_with_the_step():
    gen, disc, tx = GEN, SMOOTH_DISC, optax.sgd(0.0)
    start = tiny.dense_state(gen, disc, tx, tx)
    start = start.replace(gen_ema=jax.tree.map(jnp.zeros_like, start.gen_ema))
    for number, decay in ((0, 0.1), (8, 0.5), (100_000, 0.99)):
        after, _ = _run(steps.ema_step(0.99, warm_up=True), start.replace(step=jnp.int32(number)))
        expected = ema.update(start.gen_ema, start.gen.variables, decay)
        assert tiny.largest_difference(after.gen_ema, expected) < 1e-6


def test_patch_logits_train():
    import flax.linen as nn

    class PatchDisc(nn.Module):
        @nn.compact
        def __call__(self, x, label=None, *, train):
            return nn.Conv(1, (2, 2), strides=(2, 2))(x)[..., 0]  # [B, 2, 2]

    disc = PatchDisc()
    start = tiny.dense_state(GEN, disc, GEN_TX, DISC_TX)
    penalty = penalties.weighted(penalties.r1_r2, 0.1)
    game = _game(disc, "relativistic_average", penalty=penalty)
    after, metrics = _run(steps.simultaneous_step(game, GEN_TX, DISC_TX), start)
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    assert not tiny.equal(after.disc.params, start.disc.params)


def test_diversity_is_that_of_fakes_in_terms_of_the_data():
    real = jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
    assert float(game.diversity(jnp.ones_like(real), real)) == 0.0
    np.testing.assert_allclose(game.diversity(3.0 + 0.5 * real, real), 0.5, rtol=1e-5)


def test_class_diversity_is_nothing_for_one_image_a_class_whatever_classes_differ_by():
    keys = jax.random.split(jax.random.key(0), 2)
    label = jax.random.randint(keys[0], (64,), 0, 5)
    real = jax.random.normal(keys[1], (64, 4, 4, 1)) + 3.0 * label[:, None, None, None]
    one_each = jnp.broadcast_to(10.0 * label[:, None, None, None], real.shape)
    found = jax.jit(game.class_diversity)
    assert float(game.diversity(one_each, real)) > 1
    assert float(found(one_each, real, label)) < 1e-4
    np.testing.assert_allclose(found(one_each + 0.5 * real, real, label), 0.5, rtol=1e-4)
    # By hand: within classes 0, 0 and 1 the deviations are +-1 of fakes and +-2 of real ones.
    hand = jnp.array([0, 1, 0]), jnp.array([1.0, 9.0, 3.0]), jnp.array([1.0, 7.0, 5.0])
    np.testing.assert_allclose(found(hand[1][:, None], hand[2][:, None], hand[0]), 0.5, rtol=1e-6)
    alone = jnp.arange(64)
    assert float(found(one_each, real, alone)) == 1.0


def test_class_diversity_of_eight_devices_is_that_of_their_batches_together():
    keys = jax.random.split(jax.random.key(0), 3)
    label = jax.random.randint(keys[0], (32,), 0, 5)
    real, fake = (jax.random.normal(key, (32, 2, 2, 1)) for key in keys[1:])
    parts = [x.reshape(8, 4, *x.shape[1:]) for x in (fake, real, label)]
    found = jax.pmap(lambda *x: game.class_diversity(*x, axis_name="d"), axis_name="d")(*parts)
    np.testing.assert_allclose(found, game.class_diversity(fake, real, label), rtol=1e-5)
