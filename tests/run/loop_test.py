"""The loop and its hooks, with steps made of nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import state, types
from jaxgan.data import pipeline, synthetic
from jaxgan.run import checkpoint, hooks, launch, loop, summaries

KEY = jax.random.key(0)


def _state(step=0):
    player = lambda: state.Player(params={"w": jnp.zeros(1)}, stats={}, opt_state={})  # noqa: E731
    return state.init_state(player(), player()).replace(step=jnp.int32(step))


@jax.jit
def _step(key, now, batch):
    return now.replace(step=now.step + 1), {"x": batch["x"]}


def _batches(start=0):
    while True:
        yield {"x": np.float32(start)}
        start += 1


def _fit(num_steps, *, start=0, hooks=(), step=_step):
    return loop.fit(step, _state(start), _batches(start), key=KEY, num_steps=num_steps, hooks=hooks)


def test_fit_takes_exactly_the_steps_that_are_missing():
    seen = []
    after = _fit(
        7, start=4, hooks=[lambda n, now, m: seen.append((n, int(now.step), float(m["x"])))]
    )
    assert seen == [(5, 5, 4.0), (6, 6, 5.0), (7, 7, 6.0)]
    assert int(after.step) == 7


def test_fit_does_nothing_where_nothing_is_missing():
    never = lambda *args: pytest.fail("called")  # noqa: E731
    assert int(_fit(3, start=3, hooks=[never]).step) == 3
    assert int(_fit(3, start=5, hooks=[never]).step) == 5


def test_steps_that_take_turns_do_so_by_the_number_of_steps_taken():
    """A run that is resumed goes on where it was in the cycle."""
    turns = [
        lambda key, now, batch, n=n: (now.replace(step=now.step + 1), {"turn": n}) for n in range(3)
    ]
    seen = []
    _fit(9, start=4, step=turns, hooks=[lambda number, now, metrics: seen.append(metrics["turn"])])
    assert seen == [1, 2, 0, 1, 2]


def test_batches_of_another_step_than_the_state_are_refused_before_a_step_is_taken():
    source = synthetic.squares(num_examples=4)
    step = jax.jit(lambda key, now, batch: (now.replace(step=now.step + 1), {}))
    options = {"key": KEY, "num_steps": 8}
    forgotten = pipeline.batches(source, batch_size=2, seed=0)
    with pytest.raises(types.UserError, match=r"at step 5 but the batches at step 0.*start=5"):
        loop.fit(step, _state(5), forgotten, **options)
    assert forgotten.step == 0
    batches = pipeline.batches(source, batch_size=2, seed=0, start=5)
    after = loop.fit(step, _state(5), batches, **options)
    assert int(after.step) == batches.step == 8
    # The same iterator serves the next call.
    assert int(loop.fit(step, after, batches, key=KEY, num_steps=9).step) == 9


def test_every_step_has_the_same_key_and_hooks_run_in_order():
    keys, calls = [], []

    def step(key, now, batch):
        keys.append(key)
        return _step(key, now, batch)

    hooks = [lambda *args, name=name: calls.append(name) for name in "ab"]
    _fit(2, step=step, hooks=hooks)
    assert keys == [KEY, KEY] and calls == ["a", "b", "a", "b"]


def _finite(gen=True, disc=True):
    return {"gen/finite": jnp.array(gen), "disc/finite": jnp.array(disc), "gen/loss": jnp.nan}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"gen": False}, "in the generator;"),
        ({"disc": False}, "in the discriminator;"),
        ({"gen": False, "disc": False}, "generator and the discriminator;"),
    ],
)
def test_guard_names_step_and_player_one_step_late(flags, named):
    guard = hooks.Guard()
    guard(1, _state(), _finite())
    guard(2, _state(), _finite(**flags))
    with pytest.raises(hooks.Diverged, match="step 2: NaN or infinity") as caught:
        guard(3, _state(), _finite())
    assert named in str(caught.value) and caught.value.exit_code == 1


def test_guard_looks_at_the_last_step_when_flushed():
    guard = hooks.Guard()
    guard(1, _state(), _finite(gen=False))
    with pytest.raises(hooks.Diverged, match="step 1"):
        guard.flush()
    guard.flush()  # reported once


def _log(every, *, start=0, num_steps=10, **options):
    lines = []
    log = hooks.Log(
        lambda step, values: lines.append((step, dict(values))),
        every=every,
        start=start,
        num_steps=num_steps,
        batch_size=8,
        **options,
    )
    return log, lines


def test_metrics_are_written_one_step_late_when_due_and_at_the_end(capsys):
    log, lines = _log(4)
    for step in range(1, 11):
        log(step, _state(), {"gen/loss": jnp.float32(step), "gen/finite": jnp.array(True)})
        assert [n for n, _ in lines] == [n for n in (4, 8) if n < step]
    log.close()
    assert [n for n, _ in lines] == [4, 8, 10]
    assert [values["gen/loss"] for _, values in lines] == [4.0, 8.0, 10.0]
    timing = {"images_per_second", "seconds"}
    assert all(set(values) == {"gen/loss", *timing} for _, values in lines)
    assert all(values["images_per_second"] > 0 for _, values in lines)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed] == ["step 4/10", "step 8/10", "step 10/10"]
    assert "gen/loss 8.000" in printed[1] and "images/s" in printed[1] and "left" in printed[1]


def test_a_metric_that_few_steps_have_is_the_newest_since_the_line_before():
    log, lines = _log(4)
    for step in range(1, 11):
        lazy = {"disc/penalty": jnp.float32(step)} if step in (1, 3, 9) else {}
        log(step, _state(), {"gen/loss": jnp.float32(step), **lazy})
    log.close()
    assert [values.get("disc/penalty") for _, values in lines] == [3.0, None, 9.0]
    assert [values["gen/loss"] for _, values in lines] == [4.0, 8.0, 10.0]


def test_the_first_step_has_no_rate_for_it_holds_the_compilation(capsys):
    log, lines = _log(1, start=5)
    log(6, _state(), {})
    log.close()
    assert np.isnan(lines[0][1]["images_per_second"])
    assert "images/s" not in capsys.readouterr().out


def test_a_terminal_sees_a_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    log, _ = _log(1, num_steps=3)
    for step in (1, 2, 3):
        log(step, _state(), {"gen/loss": jnp.float32(0.5)})
    log.close()
    shown = capsys.readouterr()
    assert "3/3" in shown.err and "gen/loss" in shown.err and not shown.out


def test_epoch_and_seconds_count_on_from_those_of_the_log(capsys):
    log, lines = _log(1, start=4, num_steps=6, num_examples=32, seconds=100.0)
    for step in (5, 6):
        log(step, _state(), {})
    log.close()
    assert [values["epoch"] for _, values in lines] == [1.25, 1.5]
    assert 100 < lines[0][1]["seconds"] < lines[1][1]["seconds"] < 160
    last = capsys.readouterr().out.splitlines()[-1].split("  ")
    assert last[:2] == ["step 6/6", "epoch 1.5"] and last[-2].startswith("0:01:4")
    assert last[-2].endswith(" elapsed")


def test_metrics_of_several_seeds_are_a_mean_its_interval_and_each_value(capsys):
    log, lines = _log(1, num_steps=1, seeds=(7, 9))
    log(1, _state(), {"gen/loss": jnp.array([1.0, 3.0]), "disc/finite": jnp.array([True, True])})
    log.close()
    values = lines[0][1]
    assert {name: values[name] for name in values if name.startswith("gen/loss/seed")} == {
        "gen/loss/seed_7": 1.0,
        "gen/loss/seed_9": 3.0,
    }
    # Student's t with one degree of freedom is 12.706; the standard error is 1.
    assert values["gen/loss"] == 2 and values["gen/loss/interval"] == pytest.approx(12.706, 1e-3)
    assert "gen/loss 2.000 +- 12.706" in capsys.readouterr().out


def test_guard_and_alarms_name_the_seed_that_fails():
    guard = hooks.Guard(seeds=(7, 9))
    guard(1, _state(), {"gen/finite": jnp.array([True, False])})
    with pytest.raises(hooks.Diverged, match="in the generator of seed 9;"):
        guard.flush()
    gradients = {"gen/gradient": np.array([0.1, 0.0]), "gen/diversity": np.array([0.5, 0.5])}
    assert summaries.signs(gradients, (7, 9)) == ["seed 9: G's gradient has vanished (norm 0)"]


COLLAPSED = {
    "gen/diversity": jnp.float32(0.001),
    "gen/gradient": jnp.float32(0.0),
    "disc/accuracy": jnp.float32(1.0),
}
SOUND = {
    "gen/diversity": jnp.float32(0.9),
    "gen/gradient": jnp.float32(0.1),
    "disc/accuracy": jnp.float32(0.7),
}


def test_each_sign_of_collapse_is_seen_alone_and_none_in_a_sound_step():
    sound = {name: float(value) for name, value in SOUND.items()}
    assert summaries.alarms(sound) == [] and summaries.alarms({}) == []
    assert summaries.alarms({name: np.nan for name in sound}) == []
    assert summaries.alarms({**sound, "gen/class_diversity": 0.06}) == []
    assert len(summaries.alarms({"gen/diversity": 0.01, "gen/class_diversity": 0.01})) == 1
    (text,) = summaries.alarms({**sound, "gen/class_diversity": 0.04})
    assert "of a class are alike (diversity 0.04" in text
    words = {"gen/diversity": "alike", "gen/gradient": "vanished", "disc/accuracy": "every image"}
    for name, word in words.items():
        (text,) = summaries.alarms({**sound, name: float(COLLAPSED[name])})
        assert word in text


def test_collapse_that_lasts_is_reported_once_in_one_line_and_counted_in_every_line(capsys):
    log, lines = _log(1)
    for step, metrics in enumerate([SOUND, *[COLLAPSED] * 5, SOUND, *[COLLAPSED] * 3], 1):
        log(step, _state(), metrics)
    log.close()
    assert [values["guard/alarms"] for _, values in lines] == [0, *[3] * 5, 0, *[3] * 3]
    assert "every image" in lines[1][1]["guard/signs"] and "guard/signs" not in lines[0][1]
    warnings = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning")]
    assert [x.split(":")[1] for x in warnings] == [" step 4", " step 10"]
    assert "alike" in warnings[0] and "vanished" in warnings[0] and "lower --disc_lr" in warnings[0]


def test_samples_are_saved_when_due_and_at_the_last_step():
    saved = []
    _fit(7, hooks=[hooks.sample_every(3, 7, lambda n, now: saved.append((n, int(now.step))))])
    assert saved == [(3, 3), (6, 6), (7, 7)]


def test_checkpoints_are_saved_when_due_after_the_check(tmp_path):
    checks = []
    with checkpoint.manager(tmp_path, max_to_keep=9) as manager:
        hook = hooks.save_every(2, 5, manager, lambda: checks.append(len(checks)))
        _fit(5, hooks=[hook])
        manager.wait_until_finished()
        assert checkpoint.finished_steps(manager) == [2, 4, 5]
    assert len(checks) == 3


def test_a_save_that_is_waited_for_is_there_before_the_next_step(tmp_path):
    with checkpoint.manager(tmp_path, max_to_keep=9) as manager:
        hook = hooks.save_every(2, 5, manager, lambda: None, wait=True)
        saved = lambda *_: there.append(checkpoint.finished_steps(manager))  # noqa: E731
        there = []
        _fit(5, hooks=[hook, saved])
    assert there == [[], [2], [2], [2, 4], [2, 4, 5]]


def test_a_state_that_fails_the_check_is_not_saved(tmp_path):
    def fail():
        raise hooks.Diverged("step 2: broken")

    with checkpoint.manager(tmp_path) as manager:
        with pytest.raises(hooks.Diverged):
            _fit(5, hooks=[hooks.save_every(2, 5, manager, fail)])
        manager.wait_until_finished()
        assert checkpoint.finished_steps(manager) == []


def test_count_adds_up_all_leaves():
    tree = {"a": jnp.zeros((2, 3)), "b": [jnp.zeros(()), jax.ShapeDtypeStruct((4,), jnp.int8)]}
    assert launch.count(tree) == 11
