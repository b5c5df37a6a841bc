"""Other losses, penalties and inputs of D: against numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxgan import penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.steps import packing
from jaxgan.types import UserError
from tests.helpers import tiny

KEY = jax.random.key(2)
REAL, FAKE = jnp.array([0.5, -1.0, 2.0, 0.0]), jnp.array([3.0, -2.0, 1.0, 0.5])


def test_top_k_is_the_mean_over_the_best_fakes():
    values = steps.top_k(ADVERSARIAL["hinge"], 0.5).gen(REAL, FAKE)
    np.testing.assert_allclose(values, [-6.0, 0.0, -2.0, 0.0])  # -D twice for 3 and 1
    assert float(values.mean()) == -2.0


def test_top_k_leaves_bad_fakes_without_gradient_and_the_discriminator_alone():
    loss = ADVERSARIAL["nonsaturating"]
    ours = steps.top_k(loss, 0.5)
    grads = jax.grad(lambda fake: ours.gen(REAL, fake).mean())(FAKE)
    expected = -jax.nn.sigmoid(-FAKE) / 2 * jnp.array([1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(grads, expected, rtol=1e-5)
    assert ours.disc is loss.disc


@pytest.mark.parametrize(("share", "kept"), [(1.0, 4), (0.51, 3), (0.01, 1)])
def test_top_k_rounds_up_and_takes_a_traced_share_and_patches(share, kept):
    patches = jnp.stack([FAKE, FAKE], axis=1)[..., None]  # [4, 2, 1]
    for fake in (FAKE, patches):
        value = jax.jit(
            lambda share, fake: (
                steps.top_k(ADVERSARIAL["wasserstein"], share).gen(fake, fake).mean()
            )
        )(share, fake)
        np.testing.assert_allclose(value, -np.sort(np.asarray(FAKE))[::-1][:kept].mean(), rtol=1e-5)


def test_label_smoothing_is_the_cross_entropy_with_smooth_labels():
    ours = steps.label_smoothing(ADVERSARIAL["nonsaturating"], 0.1)
    real, fake = np.float64(REAL), np.float64(FAKE)
    entropy = lambda logit, label: (  # noqa: E731
        -label * np.log(1 / (1 + np.exp(-logit))) - (1 - label) * np.log(1 / (1 + np.exp(logit)))
    )
    expected = entropy(real, 0.9) + entropy(fake, 0.1)
    np.testing.assert_allclose(ours.disc(REAL, FAKE), expected, rtol=1e-5)
    one = steps.one_sided_smoothing(ADVERSARIAL["nonsaturating"], target=0.9)
    np.testing.assert_allclose(
        one.disc(REAL, FAKE), entropy(real, 0.9) + entropy(fake, 0.0), rtol=1e-5
    )


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_smoothing_by_nothing_changes_nothing(name):
    loss = ADVERSARIAL[name]
    ours = steps.label_smoothing(loss, 0.0)
    np.testing.assert_allclose(ours.disc(REAL, FAKE), loss.disc(REAL, FAKE), rtol=1e-6)
    np.testing.assert_allclose(ours.gen(REAL, FAKE), loss.gen(REAL, FAKE), rtol=1e-6)
    all_of_them = steps.top_k(loss, 1.0)
    np.testing.assert_allclose(all_of_them.gen(REAL, FAKE), loss.gen(REAL, FAKE), rtol=1e-6)


def test_instance_noise_has_its_standard_deviation_and_keeps_the_dtype():
    x = jnp.ones((64, 8, 8, 1), jnp.bfloat16)
    noisy = steps.instance_noise(0.5)(KEY, x)
    assert noisy.dtype == x.dtype
    assert float((noisy - 1).astype(jnp.float32).std()) == pytest.approx(0.5, rel=0.05)
    assert tiny.equal(steps.instance_noise(0.0)(KEY, x), x)


def test_a_lazy_penalty_is_as_strong_on_average_and_nothing_in_between():
    critic = lambda x: 3.0 * x[:, 0]  # noqa: E731
    x = jnp.ones((2, 1))
    values = [
        float(steps.lazy(penalties.r1, 4, jnp.int32(n))(KEY, critic, x, x).mean()) for n in range(8)
    ]
    assert values == [4 * 4.5, 0, 0, 0] * 2


def test_a_penalty_of_a_name_is_weighted_and_lazy_where_asked_for():
    critic = lambda x: 3.0 * x[:, 0]  # noqa: E731
    x = jnp.ones((2, 1))
    value = lambda penalty: float(penalty(KEY, critic, x, x).mean())  # noqa: E731
    assert steps.named_penalty("none", 1.0) is None
    assert value(steps.named_penalty("r1", 2.0)) == 2 * 4.5
    assert value(steps.named_penalty("r1_r2", 2.0)) == 4 * 4.5
    rare = [steps.named_penalty("r1", 2.0, interval=3, step=jnp.int32(n)) for n in range(4)]
    assert [value(penalty) for penalty in rare] == [6 * 4.5, 0, 0, 6 * 4.5]


def test_numbers_follow_a_schedule_inside_the_compiled_step():
    gen, disc, tx = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False), optax.sgd(0.1)

    def make(gamma):
        penalty = penalties.weighted(penalties.r1, gamma)
        return steps.disc_step(tiny.make_game(gen, disc, "hinge", penalty=penalty), tx)

    start = tiny.dense_state(gen, disc, tx, tx).replace(step=jnp.int32(3))
    batch = tiny.batch(side=4)
    ours, _ = jax.jit(steps.scheduled(lambda step: make(0.5 * step)))(KEY, start, batch)
    expected, _ = jax.jit(make(1.5))(KEY, start, batch)
    assert tiny.largest_difference(ours, expected) < 1e-6


def test_a_pack_has_its_examples_channels_side_by_side():
    x = jnp.arange(4 * 2 * 2 * 3).reshape(4, 2, 2, 3)
    packed = packing.pack(x, 2)
    assert packed.shape == (2, 2, 2, 6)
    np.testing.assert_array_equal(packed[1, ..., :3], x[2])
    np.testing.assert_array_equal(packed[1, ..., 3:], x[3])
    points = packing.pack(jnp.arange(8).reshape(4, 2), 4)
    np.testing.assert_array_equal(points, jnp.arange(8)[None])
    with pytest.raises(UserError, match="4 examples do not make packs of 3"):
        packing.pack(x, 3)


class Sum(nn.Module):
    """Logits that see every channel of a pack."""

    @nn.compact
    def __call__(self, x, label=None, *, train):
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


@pytest.mark.parametrize("update", sorted(tiny.UPDATES))
def test_packed_discriminators_stand_in_every_step(update):
    gen, disc, tx = tiny.DenseGen(), packing.Packed(Sum(), 4), optax.sgd(0.1)
    gen_key, disc_key = jax.random.split(KEY)
    start = state.init_state(
        state.init_player(gen.init(gen_key, jnp.zeros((1, 4)), train=False), tx),
        state.init_player(disc.init(disc_key, jnp.zeros((4, 4, 4, 1)), train=False), tx),
    )
    penalty = penalties.weighted(penalties.r1_r2, 0.1)
    game = tiny.make_game(gen, disc, "relativistic", penalty=penalty)
    after, metrics = jax.jit(tiny.UPDATES[update](game, tx, tx))(KEY, start, tiny.batch(side=4))
    assert all(np.isfinite(value) for value in metrics.values())
    assert not tiny.equal(after.disc.params, start.disc.params)
    with pytest.raises(UserError, match="unconditional"):
        disc.apply(start.disc.variables, jnp.zeros((4, 4, 4, 1)), jnp.zeros(4, int), train=False)


def test_the_penalty_of_a_pack_is_shared_out_among_its_members():
    x = jnp.arange(8.0).reshape(4, 2)
    critic = lambda x: jnp.square(packing.pack(x, 2)).sum(1)  # noqa: E731
    np.testing.assert_allclose(
        penalties.zero_centered(critic, x), 4 * jnp.square(x).sum(1), rtol=1e-6
    )


def test_a_penalty_that_aims_at_a_slope_aims_at_it_for_each_member_of_a_pack():
    weights = jnp.array([0.6, 0.8, 0.0, 1.0])  # of length 1 for each member, sqrt(2) for the pack
    critic = lambda x: packing.pack(x, 2) @ weights  # noqa: E731
    x = jnp.arange(8.0).reshape(4, 2)
    np.testing.assert_allclose(penalties.interpolated(KEY, critic, x, -x), 0, atol=1e-10)
