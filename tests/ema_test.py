"""Moving averages of parameters; batch statistics estimated anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import ema, types
from jaxgan.nets import dcgan


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


@pytest.fixture(scope="module")
def stale():
    """A generator whose statistics are of nothing it ever made: (module, gen, variables)."""
    module = dcgan.Generator(image_size=16, features=(8, 4), momentum=0.99, num_classes=3)
    label = jnp.zeros((2,), jnp.int32)
    init = jax.jit(lambda key: module.init(key, jnp.zeros((2, 5)), label, train=False))
    variables = init(jax.random.key(1))
    # Weights as DCGAN draws them make images too faint to be compared.
    params = jax.tree.map(lambda p: 8.0 * p if p.ndim > 1 else p, variables["params"])
    garbage = jax.tree.map(lambda s: jnp.full_like(s, 37.0), variables["batch_stats"])

    @jax.jit
    def gen(key, variables, batch):
        z = jax.random.normal(key, (len(batch["label"]), 5))
        image, stats = module.apply(
            variables, z, batch["label"], train=True, mutable=["batch_stats"]
        )
        return {"image": image}, stats

    return module, gen, {"params": params, "batch_stats": garbage}


def _labels(num, size):
    return {"label": jnp.arange(num * size).reshape(num, size) % 3}


def test_standing_statistics_are_the_plain_average_of_the_batches_own(stale):
    _, gen, variables = stale
    batches = _labels(3, 7)
    with jax.debug_key_reuse(True):
        new = jax.jit(lambda key: ema.standing_statistics(key, gen, variables, batches))(
            jax.random.key(2)
        )
    assert new["params"].keys() == variables["params"].keys()
    total = 0.0
    for key, label in zip(jax.random.split(jax.random.key(2), 3), batches["label"], strict=True):
        zero = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
        _, stats = gen(key, {**variables, "batch_stats": zero}, {"label": label})
        total = total + np.asarray(stats["batch_stats"]["Norm_1"]["var"]) / 0.01
    np.testing.assert_allclose(new["batch_stats"]["Norm_1"]["var"], total / 3, rtol=1e-4)


def test_samples_with_standing_statistics_have_the_moments_of_training_mode(stale):
    module, gen, variables = stale
    moments = lambda x: np.array([x.mean(), x.std(), np.abs(x).mean()])  # noqa: E731
    label, key = _labels(1, 512)["label"][0], jax.random.key(3)
    z = jax.random.normal(key, (512, 5))
    sample = jax.jit(lambda variables: module.apply(variables, z, label, train=False))
    wanted = moments(gen(key, variables, {"label": label})[0]["image"])
    before = moments(sample(variables))
    new = ema.standing_statistics(jax.random.key(4), gen, variables, _labels(8, 128))
    after = moments(sample(new))
    np.testing.assert_allclose(after, wanted, atol=0.02)
    assert np.abs(before - wanted).max() > 0.1


def test_statistics_that_never_change_and_generators_without_any_stay_as_they_are(stale):
    def frozen(key, variables, batch):  # a plain function, with a counter beside its statistics
        stats = variables["batch_stats"]
        mean = 0.5 * stats["mean"] + 0.5 * batch["z"].mean(0)
        return {}, {"batch_stats": {**stats, "mean": mean, "num": stats["num"] + 1}}

    stats = {"mean": jnp.ones(2), "held": jnp.float32(3.0), "num": jnp.int32(5)}
    z = jnp.arange(12.0).reshape(2, 3, 2)
    new = ema.standing_statistics(
        jax.random.key(0), frozen, {"params": {}, "batch_stats": stats}, {"z": z}
    )["batch_stats"]
    np.testing.assert_allclose(new["mean"], z.mean((0, 1)), rtol=1e-6)
    assert float(new["held"]) == 3.0 and int(new["num"]) == 5 and new["num"].dtype == jnp.int32
    plain = {"params": stale[2]["params"]}
    assert ema.standing_statistics(jax.random.key(0), frozen, plain, {"z": z}) is plain


def test_standing_statistics_of_no_batch_are_refused(stale):
    with pytest.raises(types.UserError, match="need batches; give entries"):
        ema.standing_statistics(jax.random.key(0), stale[1], stale[2], _labels(0, 4))
