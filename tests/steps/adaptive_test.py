"""ADA's probability and LeCam's anchors, from step to step: against the parts they are made of."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from jaxgan import steps
from jaxgan.augment import ada
from jaxgan.losses import lecam
from tests.helpers import tiny

KEY, TX = jax.random.key(5), optax.sgd(0.1)
GEN, DISC = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False)
BATCH = tiny.batch(side=4)


def disc_step(**options):
    return steps.disc_step(tiny.make_game(GEN, DISC, "hinge", **options), TX)


def _state(**extra):
    return tiny.dense_state(GEN, DISC, TX, TX, **extra)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_ada_augments_with_its_probability_and_moves_it_by_the_signs(p):
    step = jax.jit(
        steps.with_ada(
            lambda augment: disc_step(augment=augment), num_images=16, names="cutout", ramp=640
        )
    )
    now, signs = _state(ada=ada.init_controller(p=p)), []
    by_hand = jax.jit(disc_step(augment=ada.pipeline("cutout", p=p)))
    expected, _ = by_hand(KEY, _state(), BATCH)
    for number in range(4):  # p moves after every fourth step
        assert float(now.extra["ada"]["p"]) == p
        now, metrics = step(KEY, now, BATCH)
        signs.append(float(metrics["disc/sign"]))
        if number == 0:
            assert tiny.largest_difference(now.disc.params, expected.disc.params) < 1e-6
    moved = p + np.sign(np.mean(signs) - 0.6) * 4 * 16 / 640
    np.testing.assert_allclose(metrics["disc/augment"], max(0.0, moved), rtol=1e-6)
    np.testing.assert_allclose(now.extra["ada"]["p"], metrics["disc/augment"])


def test_lecam_holds_logits_at_the_anchors_and_moves_them_to_the_mean_logits():
    step = jax.jit(
        steps.with_lecam(lambda term: disc_step(disc_terms={"lecam": term}), weight=0.5, decay=0.75)
    )

    def by_hand(key, now, anchors):
        """The same maths as a penalty, which runs D once more."""

        def penalty(key, critic, real, fake):
            return 0.5 * lecam.penalty(critic(real), critic(fake), anchors)

        return disc_step(penalty=penalty)(key, now, BATCH)

    by_hand = jax.jit(by_hand)
    now, anchors = _state(lecam=lecam.init_anchors()), lecam.init_anchors()
    for number in range(3):
        key = jax.random.fold_in(KEY, number)
        expected, same = by_hand(key, now, anchors)
        now, metrics = step(key, now, BATCH)
        assert tiny.largest_difference(now.disc.params, expected.disc.params) < 1e-6
        np.testing.assert_allclose(metrics["disc/lecam"], same["disc/penalty"], rtol=1e-5)
        anchors = lecam.update_anchors(
            anchors, metrics["disc/real"], metrics["disc/fake"], decay=0.75
        )
        assert tiny.largest_difference(now.extra["lecam"], anchors) < 1e-6
    assert float(metrics["disc/lecam"]) > 0


def test_lecam_runs_the_discriminator_no_further_time():
    calls = []

    def disc(key, variables, batch):
        calls.append(batch["image"].shape)
        return steps.judged(DISC, "image")(key, variables, batch)

    game = dataclasses.replace(tiny.make_game(GEN, DISC, "hinge"), disc=disc)
    step = steps.with_lecam(
        lambda term: steps.disc_step(dataclasses.replace(game, disc_terms={"lecam": term}), TX),
        weight=0.3,
    )
    jax.eval_shape(step, KEY, _state(lecam=lecam.init_anchors()), BATCH)
    assert len(calls) == 2  # real and fake
