"""No key is used twice: every builder and combinator under `jax.debug_key_reuse`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.errors import KeyReuseError

from jaxgan import penalties, state, steps
from jaxgan.augment import ada, diffaug
from jaxgan.data import synthetic
from jaxgan.losses import ADVERSARIAL, lecam
from tests.helpers import tiny

KEY, TX = jax.random.key(5), optax.sgd(0.1)
BATCH = tiny.batch(side=4)
CUTOUT = diffaug.policy("cutout")
BCR = penalties.balanced_consistency(CUTOUT)
CONSISTENCY = penalties.balanced_consistency(steps.instance_noise(0.1))  # traced in no time
AUGMENTS = {
    "none": None,
    "diffaug": diffaug.policy("color,translation,cutout"),
    "ada": ada.pipeline(",".join(ada.STAGES), p=0.5),
    "noise": steps.instance_noise(0.1),
}
BUILDERS = {
    "disc": lambda game: steps.disc_step(game, TX),
    "gen": lambda game: steps.gen_step(game, TX),
    "simultaneous": lambda game: steps.simultaneous_step(game, TX, TX),
    "alternating": lambda game: steps.alternating_step(game, TX, TX),
    "extragradient": lambda game: steps.extragradient_step(game, TX, TX),
    "unrolled": lambda game: steps.unrolled_gen_step(game, TX, TX, unroll=2),
}


class Gen(nn.Module):
    """Latents to examples through a layer with dropout."""

    shape: tuple[int, ...] = (4, 4, 1)

    @nn.compact
    def __call__(self, z, *, train):
        z = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(z)))
        return nn.Dense(math.prod(self.shape))(z).reshape(-1, *self.shape)


class Disc(nn.Module):
    """Examples to logits through a layer with dropout."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dropout(0.5, deterministic=not train)(nn.tanh(nn.Dense(8)(x.reshape(len(x), -1))))
        return nn.Dense(1)(x)[:, 0]


def _game(shape=(4, 4, 1), loss="hinge", **options):
    return tiny.make_game(Gen(shape), Disc(), loss, **options)


def _start(key, shape=(4, 4, 1), **extra):
    gen_key, disc_key = jax.random.split(key)
    return state.init_state(
        state.init_player(Gen(shape).init(gen_key, jnp.zeros((1, 4)), train=False), TX),
        state.init_player(Disc().init(disc_key, jnp.zeros((1, *shape)), train=False), TX),
        **extra,
    )


def check(step, batch=BATCH, *, keys=KEY, init=_start):
    """Traces a step, which raises where a key is used twice."""
    start = jax.eval_shape(init, KEY)
    with jax.debug_key_reuse(True):
        jax.jit(step).trace(keys, start, batch)


def test_a_key_used_twice_is_noticed():
    def careless(key, now, batch):
        return now, {"draw": jax.random.normal(key) + jax.random.uniform(key)}

    with pytest.raises(KeyReuseError):
        check(steps.train_step(steps.chain(careless)))


@pytest.mark.parametrize("builder", BUILDERS)
def test_builders_use_every_key_once(builder):
    check(BUILDERS[builder](_game(augment=AUGMENTS["noise"], penalty=CONSISTENCY)))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmentations_use_every_key_once(augment):
    # The discriminator's step augments real and fake, the generator's what it judges.
    game = _game(augment=AUGMENTS[augment], penalty=BCR)
    check(steps.chain(BUILDERS["disc"](game), BUILDERS["gen"](game)))


@pytest.mark.slow  # every pair is traced; of either, all are in the tests before
@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("augment", AUGMENTS)
def test_builders_use_every_key_once_whatever_augments(builder, augment):
    check(BUILDERS[builder](_game(augment=AUGMENTS[augment], penalty=BCR)))


def test_penalties_use_every_key_once():
    others = {"consistency": penalties.consistency(CUTOUT)}
    for penalty in {**penalties.PENALTIES, **others}.values():
        check(steps.disc_step(_game(augment=CUTOUT, penalty=penalty), TX))


def _whole():
    """A training step with everything in it that draws."""
    return steps.train_step(
        steps.mirrored(steps.alternating_step(_game(augment=CUTOUT, penalty=BCR), TX, TX)),
        steps.ema_step(0.9),
    )


def _several(step, **options):
    """A step for two seeds, with their keys and a state."""
    init = lambda key: steps.init_ensemble(jax.random.split(key), _start)  # noqa: E731
    check(steps.ensemble(step, **options), keys=jax.random.split(KEY), init=init)


def test_combinators_use_every_key_once():
    disc_step = steps.disc_step(_game(augment=CUTOUT, penalty=BCR), TX)
    check(steps.chain(disc_step, steps.gen_step(_game(), TX)))
    check(steps.repeat(disc_step, 2))
    check(steps.every(2, disc_step))
    check(steps.microbatches(disc_step, 2))
    check(steps.scheduled(lambda step: disc_step))
    check(steps.map_batch(lambda batch: batch, _whole()))
    rows = {name: jnp.stack([x, x], axis=1) for name, x in BATCH.items()}
    check(steps.multi_step(_whole(), 2), rows)
    _several(_whole())
    _several(_whole(), unroll=True)


def test_steps_that_adapt_and_guards_use_every_key_once():
    def with_ada(augment):
        return steps.alternating_step(_game(augment=augment, penalty=BCR), TX, TX)

    check(
        steps.train_step(steps.with_ada(with_ada, num_images=16)),
        init=lambda key: _start(key, ada=ada.init_controller()),
    )
    check(
        steps.with_lecam(
            lambda term: steps.disc_step(_game(augment=CUTOUT, disc_terms={"lecam": term}), TX),
            weight=0.1,
        ),
        init=lambda key: _start(key, lecam=lecam.init_anchors()),
    )
    check(
        steps.skip_nonfinite(steps.after_rollback(_whole())),
        init=lambda key: steps.init_guard(_start(key)),
    )


@pytest.mark.parametrize("mixture", synthetic.MIXTURES)
def test_mixtures_drawn_inside_the_step_use_every_key_once(mixture):
    def update(key, now, batch):
        real_key, step_key = jax.random.split(key)
        real = synthetic.sample(real_key, synthetic.MIXTURES[mixture](), 16)
        game = _game((2,), penalty=penalties.interpolated)
        return steps.alternating_step(game, TX, TX)(step_key, now, {**batch, "image": real})

    check(steps.train_step(update), {}, init=lambda key: _start(key, (2,)))


def test_consistency_under_the_same_augmentation_compares_two_different_images():
    disc = tiny.DenseDisc(batch_norm=False)  # no dropout: what differs is the augmentation
    penalty = penalties.balanced_consistency(CUTOUT, fake_weight=0.0)
    game = tiny.make_game(tiny.DenseGen(), disc, "hinge", augment=CUTOUT, penalty=penalty)
    start = tiny.dense_state(tiny.DenseGen(), disc, TX, TX)
    _, metrics = jax.jit(steps.disc_step(game, TX))(KEY, start, BATCH)
    assert float(metrics["disc/penalty"]) > 1e-6


@pytest.mark.parametrize("builder", ["simultaneous", "alternating"])
def test_both_players_see_the_same_augmented_fakes(builder):
    seen = lambda judged: judged.fake_out["logits"]  # noqa: E731
    game = steps.Game(
        gen=lambda key, variables, batch: ({"image": variables["params"] * batch["image"]}, {}),
        disc=lambda key, variables, batch: ({"logits": batch["image"].sum((1, 2, 3))}, {}),
        loss=ADVERSARIAL["hinge"],
        augment=steps.instance_noise(1.0),
        gen_terms={"seen": seen},
        disc_terms={"seen": seen},
    )
    player = state.init_player({"params": jnp.ones(())}, TX)
    start = state.init_state(player, player)
    _, metrics = jax.jit(BUILDERS[builder](game))(KEY, start, BATCH)
    np.testing.assert_allclose(metrics["disc/seen"], metrics["gen/seen"], rtol=1e-6)
    assert metrics["disc/fake"] != metrics["disc/real"]  # the same image, other noise
