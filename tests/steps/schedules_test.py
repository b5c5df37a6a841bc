"""Schedules at their ends, in the middle and beyond; and in the transformations that take them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import ema, steps
from jaxgan.steps import schedules
from tests.helpers import tiny


@pytest.mark.parametrize("jit", [False, True])
def test_a_cosine_starts_ends_and_stays(jit):
    schedule = schedules.cosine(2.0, 0.5, 100)
    values = [
        float((jax.jit(schedule) if jit else schedule)(jnp.int32(t))) for t in (0, 50, 100, 500)
    ]
    np.testing.assert_allclose(values, [2.0, 1.25, 0.5, 0.5], rtol=1e-6)
    assert float(schedules.cosine(2.0, 0.5, 0)(jnp.int32(0))) == 0.5


def test_a_cosine_is_optaxs_where_that_has_one():
    ours, theirs = schedules.cosine(1e-3, 1e-4, 40), optax.cosine_decay_schedule(1e-3, 40, 0.1)
    for t in range(0, 60, 7):
        np.testing.assert_allclose(ours(jnp.int32(t)), theirs(t), rtol=1e-5)


def test_a_late_line_stays_for_the_first_half():
    schedule = schedules.late_line(1.0, 0.2, 8)
    values = [float(schedule(jnp.int32(t))) for t in (0, 4, 6, 8, 9)]
    np.testing.assert_allclose(values, [1.0, 1.0, 0.6, 0.2, 0.2], rtol=1e-6)


def test_a_geometric_schedule_falls_by_the_same_factor():
    schedule = schedules.geometric(1.0, 0.01, 2)
    values = [float(schedule(jnp.int32(t))) for t in (0, 1, 2, 3)]
    np.testing.assert_allclose(values, [1.0, 0.1, 0.01, 0.01], rtol=1e-5)


def test_a_half_life_that_moves_is_the_fixed_one_at_every_step():
    schedule = schedules.half_life(lambda t: 100.0 * t, 32)
    for t in (0, 1, 5):
        expected = ema.decay_from_half_life(100.0 * t, 32)
        assert float(schedule(jnp.int32(t))) == pytest.approx(expected)


def test_a_moving_average_follows_its_schedule():
    start = tiny.dense_state(
        tiny.DenseGen(), tiny.DenseDisc(), optax.sgd(0.1), optax.sgd(0.1)
    ).replace(step=jnp.int32(4))
    start = start.replace(gen_ema=jax.tree.map(jnp.zeros_like, start.gen_ema))
    step = steps.ema_step(lambda t: 0.2 * t)
    after, _ = jax.jit(step)(jax.random.key(0), start, {})
    expected = ema.update(start.gen_ema, start.gen.variables, 0.8)
    assert tiny.largest_difference(after.gen_ema, expected) < 1e-6


def test_adam_with_a_schedule_of_beta2_uses_the_one_of_the_step():
    schedule = schedules.cosine(0.5, 0.9, 2)
    tx = schedules.adam(0.1, b1=0.0, b2=schedule)
    params, second = jnp.array([1.0]), 0.0
    opt_state = tx.init(params)
    for t, grad in enumerate([1.0, 3.0, 0.5]):
        updates, opt_state = tx.update(jnp.array([grad]), opt_state, params)
        b2 = float(schedule(jnp.int32(t)))
        second = b2 * second + (1 - b2) * grad**2
        expected = -0.1 * grad / (np.sqrt(second / (1 - b2 ** (t + 1))) + 1e-8)
        np.testing.assert_allclose(updates, [expected], rtol=1e-4)


def test_adam_without_schedules_is_optaxs():
    params, grads = jnp.ones(3), jnp.array([1.0, -2.0, 0.5])
    ours, theirs = schedules.adam(1e-3), optax.adam(1e-3, b1=0.0, b2=0.99)
    np.testing.assert_array_equal(
        ours.update(grads, ours.init(params))[0], theirs.update(grads, theirs.init(params))[0]
    )


def test_a_constant_rate_beside_a_schedule_of_beta2_may_change_when_a_run_is_resumed():
    params, grads = jnp.ones(3), jnp.array([1.0, -2.0, 3.0])
    before, after = (schedules.adam(rate, b2=schedules.cosine(0.9, 0.99, 9)) for rate in (0.1, 0.3))
    opt_state = before.init(params)
    first, _ = before.update(grads, opt_state, params)
    second, _ = after.update(grads, opt_state, params)
    np.testing.assert_allclose(second, 3.0 * first, rtol=1e-5)
