"""ADA's probability and LeCam's anchors, from step to step: against the parts they are made of."""

import functools

import jax
import numpy as np
import optax
import pytest

from jaxgan import penalties, steps
from jaxgan.augment import ada
from jaxgan.losses import ADVERSARIAL
from tests.helpers import tiny

KEY, TX = jax.random.key(5), optax.sgd(0.1)
GEN, DISC = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False)
BATCH = tiny.batch(side=4)
disc_step = functools.partial(
    steps.disc_step, GEN, DISC, TX, ADVERSARIAL["hinge"], latent_dim=tiny.LATENT_DIM
)


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
        steps.with_lecam(lambda penalty: disc_step(penalty=penalty), weight=0.5, decay=0.75)
    )
    now, anchors = _state(lecam=penalties.init_anchors()), penalties.init_anchors()
    for number in range(3):
        held = anchors

        def penalty(key, critic, real, fake, held=held):
            return 0.5 * penalties.lecam(critic(real), critic(fake), held)

        expected, _ = disc_step(penalty=penalty)(jax.random.fold_in(KEY, number), now, BATCH)
        now, metrics = step(jax.random.fold_in(KEY, number), now, BATCH)
        assert tiny.largest_difference(now.disc.params, expected.disc.params) < 1e-6
        anchors = penalties.update_anchors(
            anchors, metrics["disc/real"], metrics["disc/fake"], decay=0.75
        )
        assert tiny.largest_difference(now.extra["lecam"], anchors) < 1e-6
    assert anchors["real"] != anchors["fake"]
