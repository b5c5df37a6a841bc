"""Combining steps: order, keys, repetition, periods, batches and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import collectives, parallel, state, steps
from jaxgan.types import UserError

KEY = jax.random.key(3)


def _state(step=0, **extra):
    player = lambda: state.Player(params={"w": jnp.ones(2)}, stats={}, opt_state={})  # noqa: E731
    start = state.init_state(player(), player(), **extra)
    return start.replace(step=jnp.int32(step))


def add(amount):
    def step(key, now, batch):
        total = now.extra["total"] + amount * batch["x"]
        return now.replace(extra={**now.extra, "total": total}), {"total": total}

    return step


def times(factor):
    def step(key, now, batch):
        total = now.extra["total"] * factor
        return now.replace(extra={**now.extra, "total": total}), {"total": total, "factor": total}

    return step


def draw(name):
    """Records what its key draws."""

    def step(key, now, batch):
        return now, {name: jax.random.uniform(key)}

    return step


def collect(key, now, batch):
    """Keeps every draw in the state, where repetitions cannot hide it."""
    draws = jnp.roll(now.extra["draws"], 1).at[0].set(jax.random.uniform(key))
    return now.replace(extra={"draws": draws}), {}


def run(step, now, batch=None, key=KEY):
    return jax.jit(step)(key, now, batch or {"x": jnp.float32(1.0)})


def test_chain_runs_in_order_and_later_metrics_win():
    now, metrics = run(steps.chain(add(2.0), times(3.0)), _state(total=jnp.float32(1.0)))
    assert float(now.extra["total"]) == 9.0
    assert {k: float(v) for k, v in metrics.items()} == {"total": 9.0, "factor": 9.0}
    now, _ = run(steps.chain(times(3.0), add(2.0)), _state(total=jnp.float32(1.0)))
    assert float(now.extra["total"]) == 5.0


def test_chained_steps_have_distinct_keys():
    _, metrics = run(steps.chain(draw("a"), draw("b"), draw("c")), _state())
    assert len({float(v) for v in metrics.values()}) == 3


def test_chains_nest():
    nested = steps.chain(steps.chain(add(1.0), times(2.0)), add(1.0))
    now, _ = run(nested, _state(total=jnp.float32(0.0)))
    assert float(now.extra["total"]) == 3.0


def test_repeat_runs_n_times_each_with_its_own_key():
    now, _ = run(steps.repeat(collect, 4), _state(draws=jnp.zeros(6)))
    draws = np.asarray(now.extra["draws"])
    assert (draws[:4] > 0).all() and (draws[4:] == 0).all()
    assert len(np.unique(draws[:4])) == 4


def test_every_runs_on_multiples_only_and_leaves_the_rest_alone():
    step = steps.every(3, add(1.0))
    for number in range(7):
        now, metrics = run(step, _state(number, total=jnp.float32(5.0)))
        due = number % 3 == 0
        assert float(now.extra["total"]) == (6.0 if due else 5.0)
        assert np.isnan(metrics["total"]) == (not due)
        assert metrics["total"].dtype == jnp.float32


def test_every_1_is_always():
    now, _ = run(steps.every(1, add(1.0)), _state(5, total=jnp.float32(0.0)))
    assert float(now.extra["total"]) == 1.0


def test_map_batch_prepares_what_the_step_sees():
    step = steps.map_batch(lambda batch: {"x": batch["raw"] * 10.0}, add(1.0))
    now, _ = run(step, _state(total=jnp.float32(0.0)), {"raw": jnp.float32(2.0)})
    assert float(now.extra["total"]) == 20.0


def test_train_step_counts_once_whatever_is_inside():
    step = steps.train_step(steps.repeat(add(1.0), 3), times(1.0))
    now, _ = run(step, _state(41, total=jnp.float32(0.0)))
    assert int(now.step) == 42 and now.step.dtype == jnp.int32


def test_steps_inside_see_the_number_of_steps_taken():
    def record(key, now, batch):
        return now, {"step": now.step}

    _, metrics = run(steps.train_step(record), _state(41))
    assert int(metrics["step"]) == 41


def test_randomness_is_a_function_of_the_key_and_the_step():
    step = steps.train_step(draw("a"))
    draws = [float(run(step, _state(n))[1]["a"]) for n in (0, 1, 2)]
    assert len(set(draws)) == 3
    assert float(run(step, _state(1))[1]["a"]) == draws[1]
    assert float(run(step, _state(1), key=jax.random.key(4))[1]["a"]) != draws[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "place", ["gen/params", "disc/params", "disc/stats", "gen/opt_state", "gen/loss"]
)
def test_what_is_not_finite_is_told_of_the_player_it_belongs_to(place, value):
    player, part = place.split("/")

    def break_it(key, now, batch):
        if part == "loss":
            return now, {place: batch["bad"]}
        bad = {"w": jnp.ones(2).at[1].set(batch["bad"])}
        broken = getattr(now, player).replace(**{part: bad})
        return now.replace(**{player: broken}), {}

    step = jax.jit(steps.train_step(break_it))
    other = {"gen": "disc", "disc": "gen"}[player]
    _, metrics = step(KEY, _state(), {"bad": jnp.float32(value)})
    assert not bool(metrics[f"{player}/finite"]) and bool(metrics[f"{other}/finite"])
    _, metrics = step(KEY, _state(), {"bad": jnp.float32(1.0)})
    assert bool(metrics[f"{player}/finite"]) and bool(metrics[f"{other}/finite"])


def test_an_optimiser_may_hold_counts_keys_and_a_best_value_that_starts_at_infinity():
    opt_state = {"count": jnp.int32(3), "key": jax.random.key(0), "best": jnp.float32(jnp.inf)}

    def finite(opt_state):
        now = _state()
        now = now.replace(gen=now.gen.replace(opt_state=opt_state))
        return bool(run(steps.train_step(), now)[1]["gen/finite"])

    assert finite(opt_state)
    assert not finite({**opt_state, "best": jnp.float32(jnp.nan)})


def test_a_share_that_is_not_finite_is_not_averaged_away():
    def told(key, now, batch):
        fine = jnp.isfinite(batch["x"]).all()
        return now, {"gen/finite": fine, "x": batch["x"].mean()}

    _, metrics = run(steps.microbatches(told, 2), _state(), {"x": jnp.array([1.0, 3.0, 5.0, 7.0])})
    assert metrics["gen/finite"].dtype == bool and bool(metrics["gen/finite"])
    assert float(metrics["x"]) == 4.0
    _, metrics = run(steps.microbatches(told, 2), _state(), {"x": jnp.array([1, 3, np.inf, 7])})
    assert not bool(metrics["gen/finite"])


def test_shares_that_do_not_come_out_even_are_refused():
    with pytest.raises(UserError, match="a batch of 4 .* into 3 shares; use a multiple of 3"):
        run(steps.microbatches(add(1.0), 3), _state(total=jnp.zeros(())), {"x": jnp.ones(4)})
    with pytest.raises(UserError, match="into 0 shares; use 1 or more"):
        steps.microbatches(add(1.0), 0)


def test_steps_in_one_launch_are_single_ones_on_the_batches_side_by_side():
    def walk(key, now, batch):
        total = now.extra["total"] * 2.0 + batch["x"].sum() + jax.random.uniform(key)
        total = total + batch["data"]["y"][0]
        return now.replace(extra={"total": total}), {"total": total, "gen/loss": batch["loss"][0]}

    step = steps.train_step(walk)
    x, loss = jnp.arange(12.0).reshape(4, 3), jnp.ones((4, 3))
    data = {"y": jnp.array([100.0])}
    now, seen = _state(total=jnp.float32(1.0)), []
    for number in range(3):
        batch = {"x": x[:, number], "loss": loss[:, number], "data": data}
        now, metrics = run(step, now, batch)
        seen.append(float(metrics["total"]))
    launch = steps.multi_step(step, 3)
    after, metrics = run(
        launch, _state(total=jnp.float32(1.0)), {"x": x, "loss": loss, "data": data}
    )
    np.testing.assert_allclose(after.extra["total"], now.extra["total"], rtol=1e-6)
    np.testing.assert_allclose(metrics["total"], seen[-1], rtol=1e-6)
    assert int(after.step) == 3 and bool(metrics["gen/finite"])
    # A step in the middle that is not finite is not forgotten.
    bad = {"x": x, "loss": loss.at[0, 1].set(jnp.nan), "data": data}
    _, metrics = run(launch, _state(total=jnp.float32(1.0)), bad)
    assert not bool(metrics["gen/finite"]) and bool(metrics["disc/finite"])


def _walk(key, now, batch):
    """Moves both players by what the batch holds and what its key draws."""
    amount = batch["x"].sum() + jax.random.uniform(key) + batch["data"]["y"][0]
    gen = now.gen.replace(params=jax.tree.map(lambda w: w + amount, now.gen.params))
    return now.replace(gen=gen), {"gen/loss": amount}


WALK = steps.train_step(_walk)
DATA = {"data": {"y": jnp.array([100.0])}}


def _alone(step, keys, batches, num_calls=2):
    """Each seed by itself: its final parameters and the metrics of its last call."""
    params, seen = [], []
    for key, batch in zip(keys, batches, strict=True):
        now = steps.init_guard(_state())
        for _ in range(num_calls):
            now, metrics = run(step, now, batch, key)
        params.append(now.gen.params["w"])
        seen.append(metrics["gen/loss"])
    return np.stack(params), np.stack(seen)


def _together(step, keys, batch, num_calls=2):
    now = steps.init_ensemble(keys, lambda key: steps.init_guard(_state()))
    for _ in range(num_calls):
        now, metrics = run(step, now, batch, keys)
    return now, metrics


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("per_seed", [False, True])
def test_an_ensemble_is_each_of_its_members_alone(per_seed, unroll):
    keys, rows = jax.random.split(KEY, 3), jnp.arange(12.0).reshape(4, 3)
    x = rows if per_seed else rows[:, 0]
    batches = [{"x": rows[:, n if per_seed else 0], **DATA} for n in range(3)]
    guarded = steps.skip_nonfinite(steps.after_rollback(WALK))
    params, losses = _alone(guarded, keys, batches)
    step = steps.ensemble(guarded, per_seed=per_seed, unroll=unroll)
    now, metrics = _together(step, keys, {"x": x, **DATA})
    np.testing.assert_allclose(now.gen.params["w"], params, rtol=1e-6)
    np.testing.assert_allclose(metrics["gen/loss"], losses, rtol=1e-6)
    assert int(now.step) == 2 and now.step.shape == ()
    assert metrics["guard/skipped"].shape == (3,) and metrics["gen/finite"].shape == ()


@pytest.mark.parametrize("unroll", [False, True])
def test_a_member_that_is_not_finite_is_dropped_alone_and_told_where_nobody_guards(unroll):
    keys = jax.random.split(KEY, 2)
    batch = {"x": jnp.array([[1.0, np.nan]]), **DATA}
    guarded = steps.ensemble(steps.skip_nonfinite(WALK), per_seed=True, unroll=unroll)
    now, metrics = _together(guarded, keys, batch, num_calls=1)
    np.testing.assert_array_equal(metrics["guard/skipped"], [0.0, 1.0])
    np.testing.assert_array_equal(now.gen.params["w"][1], np.ones(2))
    assert bool(metrics["gen/finite"]) and float(now.gen.params["w"][0, 0]) > 100.0
    bare = steps.ensemble(WALK, per_seed=True, unroll=unroll)
    _, metrics = _together(bare, keys, batch, num_calls=1)
    assert not bool(metrics["gen/finite"]) and bool(metrics["disc/finite"])
    assert np.isfinite(metrics["gen/loss"][0]) and np.isnan(metrics["gen/loss"][1])


def test_an_ensemble_takes_several_steps_in_one_launch():
    keys, rows = jax.random.split(KEY, 2), jnp.arange(24.0).reshape(4, 2, 3)  # [B, S, n]
    step = steps.multi_step(WALK, 3)
    params, losses = _alone(step, keys, [{"x": rows[:, n], **DATA} for n in range(2)])
    now, metrics = _together(steps.ensemble(step, per_seed=True), keys, {"x": rows, **DATA})
    np.testing.assert_allclose(now.gen.params["w"], params, rtol=1e-6)
    np.testing.assert_allclose(metrics["gen/loss"], losses, rtol=1e-6)
    assert int(now.step) == 6


def _seen(key, now, batch):
    return now, {"image": batch["image"]}


def _flips(seen, x):
    """Whether each image was flipped; one of the two it must be."""
    turned = np.array([(a == b[:, ::-1]).all() for a, b in zip(seen, x, strict=True)])
    kept = np.array([(a == b).all() for a, b in zip(seen, x, strict=True)])
    assert (turned ^ kept).all()
    return turned


@pytest.mark.parametrize("outside", [False, True])
def test_half_of_the_images_are_mirrored_others_at_every_step(outside):
    x = np.random.default_rng(0).normal(size=(64, 2, 3, 1)).astype(np.float32)
    step = steps.mirrored(_seen)
    step = steps.mirrored(steps.train_step(_seen)) if outside else steps.train_step(step)
    step, patterns = jax.jit(step), []
    for number in range(3):
        _, metrics = step(KEY, _state(number), {"image": x})
        patterns.append(_flips(np.asarray(metrics["image"]), x))
        assert 16 < patterns[-1].sum() < 48
    assert len({tuple(pattern) for pattern in patterns}) == 3


def test_each_device_mirrors_its_share_of_what_one_device_mirrors():
    x = np.random.default_rng(0).normal(size=(16, 2, 3, 1)).astype(np.float32)
    _, one = run(steps.mirrored(_seen), _state(), {"image": x})
    gathered = lambda key, now, batch: (  # noqa: E731
        now,
        {"image": collectives.gather(batch["image"], parallel.AXIS)},
    )
    step = parallel.pmap_step(steps.mirrored(gathered, axis_name=parallel.AXIS))
    _, eight = step(KEY, _state(), {"image": x})
    np.testing.assert_array_equal(eight["image"], one["image"])


def test_only_the_example_named_is_mirrored():
    x = np.random.default_rng(0).normal(size=(16, 2, 3, 1)).astype(np.float32)
    step = steps.mirrored(lambda key, now, batch: (now, dict(batch)), example="photo")
    _, seen = run(step, _state(), {"image": x, "photo": x})
    np.testing.assert_array_equal(seen["image"], x)
    assert _flips(np.asarray(seen["photo"]), x).any()


def test_what_is_due_at_times_is_no_branch_on_cpu_and_has_its_gradient_when_due():
    """XLA's CPU programs are slow at convolutions in branches; elsewhere a branch saves work."""

    def value(x, step):
        return steps.when(step % 3 == 0, lambda: (x**3).sum(), lambda: jnp.zeros(()))

    both = jax.jit(jax.value_and_grad(value))
    x = jnp.array([1.0, 2.0])
    for number, expected in ((0, (9.0, [3.0, 12.0])), (1, (0.0, [0.0, 0.0])), (3, (9.0, [3, 12]))):
        found, grad = both(x, number)
        assert float(found) == expected[0]
        np.testing.assert_allclose(grad, expected[1])
    traced = both.trace(x, 0)
    branches = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.case")
        for platform in ("cpu", "cuda")
    }
    assert branches["cpu"] < branches["cuda"]  # the choice of the platform, a constant, stays
