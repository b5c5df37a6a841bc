"""Combining steps: order, keys, repetition, periods, batches and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import state, steps
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
