"""Moving averages of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import ema


def test_weight_halves_after_half_life_images():
    decay = ema.decay_from_half_life(10_000, 100)  # 100 steps
    np.testing.assert_allclose(decay**100, 0.5, rtol=1e-12)
    assert ema.decay_from_half_life(128, 128) == 0.5


def test_no_half_life_keeps_no_memory():
    assert ema.decay_from_half_life(0, 64) == 0.0


def test_half_life_does_not_depend_on_the_batch_size():
    # 6,400 images in steps of 64 or of 256 leave the same weight on the start.
    small, large = (ema.decay_from_half_life(5_000, size) for size in (64, 256))
    np.testing.assert_allclose(small**100, large**25, rtol=1e-12)


def test_warm_up_lowers_the_decay_early_only():
    decays = [float(ema.warmed_up(0.99, jnp.int32(step))) for step in (0, 8, 80, 10_000)]
    np.testing.assert_allclose(decays, [0.1, 0.5, 0.9, 0.99], rtol=1e-6)


def test_update_is_the_weighted_mean():
    average = {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.array(4.0)}}
    values = {"a": jnp.array([3.0, 0.0]), "b": {"c": jnp.array(0.0)}}
    new = ema.update(average, values, 0.75)
    np.testing.assert_allclose(new["a"], [1.5, 1.5])
    np.testing.assert_allclose(new["b"]["c"], 3.0)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 3.0), (1.0, 1.0)])
def test_ends_of_the_decay(decay, expected):
    assert float(ema.update(jnp.float32(1.0), jnp.float32(3.0), decay)) == expected


def test_an_average_that_has_arrived_stays_exactly():
    values = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    average = values
    for _ in range(20):
        average = ema.update(average, values, 0.999)
    np.testing.assert_array_equal(average, values)


def test_integers_are_taken_over_and_dtypes_kept():
    average = {"n": jnp.int32(3), "x": jnp.ones(2, jnp.float32)}
    new = ema.update(average, {"n": jnp.int32(8), "x": jnp.zeros(2, jnp.bfloat16)}, 0.5)
    assert int(new["n"]) == 8 and new["n"].dtype == jnp.int32
    assert new["x"].dtype == jnp.float32
    np.testing.assert_allclose(new["x"], 0.5)


def test_decay_may_be_traced():
    update = jax.jit(lambda a, v, step: ema.update(a, v, ema.warmed_up(0.99, step)))
    np.testing.assert_allclose(update(jnp.float32(0), jnp.float32(1), jnp.int32(0)), 0.9)
