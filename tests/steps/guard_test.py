"""Steps that leave a player not finite: dropped or begun again, counted on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel, state, steps
from tests.helpers import tiny

KEY = jax.random.key(3)


def _state():
    player = lambda: state.Player(params={"w": jnp.ones(2)}, stats={}, opt_state={"m": jnp.ones(2)})  # noqa: E731
    return steps.init_guard(state.init_state(player(), player(), total=jnp.zeros(())))


def walk(key, now, batch):
    """Adds the batch's number to everything."""
    grow = lambda tree: jax.tree.map(lambda x: x + batch["x"], tree)  # noqa: E731
    return now.replace(
        gen=grow(now.gen),
        disc=grow(now.disc),
        gen_ema=grow(now.gen_ema),
        extra={**now.extra, "total": now.extra["total"] + batch["x"]},
    ), {"gen/loss": batch["x"].sum(), "draw": jax.random.uniform(key)}


STEP = steps.train_step(walk)
GUARDED = jax.jit(steps.skip_nonfinite(STEP, limit=3))


def _after(step, numbers, start=None):
    now, seen = start or _state(), []
    for number in numbers:
        now, metrics = step(KEY, now, {"x": jnp.float32(number)})
        seen.append({name: float(value) for name, value in metrics.items()})
    return now, seen


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_breaks_a_player_is_dropped_whole_and_counted(bad):
    now, seen = _after(GUARDED, [1.0, bad, 2.0])
    expected, _ = _after(GUARDED, [1.0, 2.0])
    assert int(now.step) == 3
    for part in ("gen", "disc", "gen_ema"):
        assert tiny.equal(getattr(now, part), getattr(expected, part)), part
    assert float(now.extra["total"]) == 3.0
    assert [each["guard/skipped"] for each in seen] == [0.0, 1.0, 1.0]
    assert np.isnan(seen[1]["gen/loss"]) and seen[2]["gen/loss"] == 2.0
    assert all(each["gen/finite"] and each["disc/finite"] for each in seen)


def test_a_run_without_trouble_is_the_plain_one():
    now, seen = _after(GUARDED, [1.0, 2.0])
    plain, same = _after(jax.jit(STEP), [1.0, 2.0])
    assert tiny.equal(now, plain)
    assert [each["draw"] for each in seen] == [each["draw"] for each in same]


def test_patience_ends_with_a_good_state():
    now, seen = _after(GUARDED, [1.0, *[np.nan] * 3])
    assert [bool(each["gen/finite"]) for each in seen] == [True, True, True, False]
    assert np.isfinite(np.asarray(now.gen.params["w"])).all()
    _, seen = _after(GUARDED, [np.nan, np.nan, 1.0, np.nan, np.nan])  # not in a row
    assert all(each["gen/finite"] for each in seen) and seen[-1]["guard/skipped"] == 4.0


def test_skipping_works_in_one_launch_of_several_steps():
    launch = jax.jit(steps.multi_step(steps.skip_nonfinite(STEP), 4))
    start = _state().replace(extra={**_state().extra, "total": jnp.zeros(1)})
    now, metrics = launch(KEY, start, {"x": jnp.array([[1.0, np.nan, 2.0, 3.0]])})
    assert float(now.extra["total"][0]) == 6.0 and int(now.step) == 4
    assert float(metrics["guard/skipped"]) == 1.0 and bool(metrics["gen/finite"])


def test_every_rollback_has_random_numbers_of_its_own():
    step = jax.jit(steps.after_rollback(STEP))
    _, plain = _after(jax.jit(STEP), [1.0])
    draws = []
    for times in range(4):
        start = _state()
        counts = {**start.extra[steps.GUARD], "rollbacks": jnp.int32(times)}
        _, seen = _after(step, [1.0], start.replace(extra={**start.extra, steps.GUARD: counts}))
        draws.append(seen[0]["draw"])
        assert seen[0]["guard/rollbacks"] == times
    assert draws[0] == plain[0]["draw"] and len(set(draws)) == 4


def _equal_everywhere(tree):
    """Whether all devices hold the same bits."""
    copies = [
        [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
        for leaf in jax.tree.leaves(tree)
    ]
    return all(len(set(each)) == 1 for each in copies)


def test_nan_on_one_device_of_eight_is_the_decision_of_all():
    gen, disc = tiny.DenseGen(batch_norm=False), tiny.DenseDisc(batch_norm=False)
    tx, axis_name = optax.adam(0.1), parallel.AXIS
    game = tiny.make_game(gen, disc, "nonsaturating", axis_name=axis_name)
    step = steps.train_step(steps.simultaneous_step(game, tx, tx), steps.ema_step(0.9))
    guarded = parallel.pmap_step(steps.skip_nonfinite(steps.after_rollback(step)))
    now = steps.init_guard(tiny.dense_state(gen, disc, tx, tx))
    for number, bad in enumerate([0, None, 5]):
        batch, before = tiny.batch(side=4), tiny.host(now)
        if bad is not None:
            batch["image"][2 * bad + 1] = np.nan  # two rows a device
        now, metrics = guarded(KEY, now, batch)
        assert len(now.step.addressable_shards) == 8 and _equal_everywhere((now, metrics))
        assert float(metrics["guard/skipped"]) == [1, 1, 2][number] and int(now.step) == number + 1
        for part in ("gen", "disc", "gen_ema"):
            kept = tiny.equal(getattr(now, part), getattr(before, part))
            assert kept == (bad is not None), part
