"""From a config to a finished run: exact resume, divergence, dry runs, and what is refused."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest

from jaxgan.run import checkpoint, driver, experiment, history, hooks, load, rundir
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import command, runs, tiny, toy


def _run(workdir, **settings):
    due = {"log_every": 1, "save_every": 3}
    return toy.run(runs.config(workdir, **{**due, "seed": 1, **settings}))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 7 steps that nothing stopped; (its directory, its final state)."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    return workdir, _run(workdir, num_steps=7)


def test_a_run_directory_holds_what_the_design_says(straight):
    workdir, state = straight
    names = {path.name for path in workdir.iterdir()}
    assert names >= {"config.json", "run.flags", "metrics.jsonl", "tensorboard", "samples"}
    names = {path.name for path in (workdir / "samples").iterdir()}
    assert names == {"real.png", "step_00000007.png"}
    assert runs.steps_saved(workdir) == [3, 6, 7]
    assert runs.steps_logged(workdir) == [1, 2, 3, 4, 5, 6, 7]
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last) == {
        *(
            "step",
            "images_per_second",
            "seconds",
            "epoch",
            "gen/loss",
            "disc/loss",
            "disc/real",
            "disc/fake",
        ),
        *("disc/accuracy", "disc/penalty", "gen/gradient", "gen/diversity", "guard/alarms"),
    }
    assert int(state.step) == 7


@pytest.mark.parametrize(
    "stops",
    # Before a step that is saved; the others are slow, as each stop is a run.
    [(2,), pytest.param((2, 3, 6), marks=pytest.mark.slow)],
)
def test_a_run_stopped_and_started_again_is_the_same_run(straight, tmp_path, stops):
    # With 40 images in batches of 16, the first epoch ends within the third step.
    for num_steps in (*stops, 7):
        state = _run(tmp_path / "run", num_steps=num_steps)
    workdir, expected = straight
    assert tiny.equal(state, expected)
    assert runs.different(tmp_path / "run", workdir, 7) == []
    assert runs.steps_logged(tmp_path / "run") == [1, 2, 3, 4, 5, 6, 7]


def test_pretraining_ends_at_its_step_also_where_a_run_is_resumed(tmp_path):
    def other(key, now, batch):  # as `small.advance`, the other way
        after, metrics = small.advance(key, now, batch)
        params = jax.tree.map(lambda old, new: 2 * old - new, now.gen.params, after.gen.params)
        return after.replace(gen=after.gen.replace(params=params)), metrics

    def run(name, num_steps):
        due = {"save_every": 3, "sample_every": 100, "num_steps": num_steps}
        return small.train(tmp_path / name, pretraining=((4, other),), **due)

    state = run("whole", 7)
    for num_steps in (2, 4, 5, 7):
        stopped = run("stopped", num_steps)
        if num_steps == 4:
            assert tiny.equal(stopped, small.train(tmp_path / "other", step=other, num_steps=4))
    assert tiny.equal(state, stopped)
    assert not tiny.equal(state, small.train(tmp_path / "without", num_steps=7))


def test_other_seeds_give_other_runs(straight, tmp_path):
    state = _run(tmp_path / "run", num_steps=1, seed=2)
    assert not tiny.equal(state.gen.params, straight[1].gen.params)
    assert runs.steps_saved(tmp_path / "run") == [1]


def test_pmap_goes_on_where_jit_stopped_and_trains_the_same(straight, tmp_path):
    runs.killed_after(straight[0], tmp_path / "run", 3)
    state = _run(tmp_path / "run", num_steps=7, parallel="pmap")
    # Adam on 8 devices: within rounding, which it can blow up where a gradient is truly 0.
    differences = [
        np.abs(a - b).mean()
        for a, b in zip(
            jax.tree.leaves(jax.device_get(state.disc.params)),
            jax.tree.leaves(jax.device_get(straight[1].disc.params)),
            strict=True,
        )
    ]
    assert max(differences) < 1e-5


def test_steps_fused_in_launches_train_the_same(straight, tmp_path):
    due = {"num_steps": 6, "log_every": 2, "save_every": 2, "sample_every": 2}
    state = _run(tmp_path / "run", steps_per_call=2, **due)
    assert int(state.step) == 6 and runs.steps_saved(tmp_path / "run") == [2, 4, 6]
    ours, theirs = runs.arrays(tmp_path / "run", 6), runs.arrays(straight[0], 6)
    for name, value in ours.items():
        if ".disc" in name or "'disc'" in name:
            assert np.abs(value - theirs[name]).mean() < 1e-5, name
    with pytest.raises(UserError, match="--steps_per_call=2 does not divide --save_every=3"):
        _run(tmp_path / "other", steps_per_call=2, **{**due, "save_every": 3})
    assert not (tmp_path / "other").exists()


def test_a_finished_run_says_so_and_changes_nothing(straight, capsys):
    workdir, expected = straight
    before = (workdir / "metrics.jsonl").read_text()
    for num_steps in (7, 5):
        state = _run(workdir, num_steps=num_steps)
        assert f"finished: {workdir} is at step 7, asked for {num_steps}" in capsys.readouterr().out
        assert tiny.equal(state, expected)
    assert (workdir / "metrics.jsonl").read_text() == before
    assert runs.steps_saved(workdir) == [3, 6, 7]


def test_a_step_is_in_the_log_before_it_is_in_a_checkpoint(tmp_path, monkeypatch):
    # Or a process killed between the two would never log it.
    save, logged = checkpoint.save, {}

    def look_and_save(manager, state):
        logged[int(state.step)] = runs.steps_logged(tmp_path / "run")
        save(manager, state)

    monkeypatch.setattr(checkpoint, "save", look_and_save)
    _run(tmp_path / "run", num_steps=4, save_every=2)
    assert logged == {2: [1, 2], 4: [1, 2, 3, 4]}


def test_an_error_in_a_hook_is_not_swallowed_and_costs_no_step(tmp_path, monkeypatch):
    real = experiment.images.grid
    monkeypatch.setattr(experiment.images, "grid", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _run(tmp_path / "run", num_steps=5, save_every=2, sample_every=4)
    assert runs.steps_saved(tmp_path / "run") == [2, 4]
    monkeypatch.setattr(experiment.images, "grid", real)
    assert int(_run(tmp_path / "run", num_steps=5, save_every=2).step) == 5  # the lock is free


WILD = {"loss": "wasserstein", "penalty": "none", "disc_lr": 1e38}


def test_divergence_names_player_and_step_and_is_never_saved(tmp_path):
    with pytest.raises(hooks.Diverged, match=r"^step \d: NaN or infinity in the .*discriminator"):
        _run(tmp_path / "run", num_steps=30, save_every=1, **WILD)
    workdir = tmp_path / "run"
    for step in runs.steps_saved(workdir):
        assert all(np.isfinite(leaf).all() for leaf in runs.arrays(workdir, step).values())


def test_divergence_at_the_last_step_is_not_saved_either(tmp_path):
    with pytest.raises(hooks.Diverged) as caught:
        _run(tmp_path / "a", num_steps=30, save_every=30, **WILD)
    step = int(str(caught.value).split(":")[0].removeprefix("step "))
    with pytest.raises(hooks.Diverged, match=f"step {step}:"):
        _run(tmp_path / "b", num_steps=step, save_every=30, **WILD)
    assert runs.steps_saved(tmp_path / "b") == []


def test_the_generator_is_named_where_it_diverges(tmp_path):
    with pytest.raises(hooks.Diverged, match="generator"):
        _run(tmp_path / "run", num_steps=30, gen_lr=1e38, penalty="none", loss="wasserstein")


ROLLBACK = {"on_nonfinite": "rollback", "num_steps": 8, "save_every": 3}


@pytest.fixture
def poisoned(monkeypatch):
    runs.poison(monkeypatch, bad_step=4, streams=2)


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory):
    """A run that goes back twice from its fifth step; (its directory, final state, output)."""
    workdir, out = tmp_path_factory.mktemp("rolled") / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        runs.poison(patch, bad_step=4, streams=2)
        state = _run(workdir, **ROLLBACK)
    return workdir, state, out.getvalue()


def test_a_run_rolls_back_to_its_last_checkpoint_and_goes_on_with_other_numbers(rolled_back):
    workdir, state, out = rolled_back
    said = [x for x in out.splitlines() if x.startswith("warning")]
    assert len(said) == 2 and all("step 5: NaN or infinity in the generator" in x for x in said)
    assert "back to step 3" in said[0] and "1 of 3" in said[0] and "2 of 3" in said[1]
    assert int(state.step) == 8 and int(state.extra["guard"]["rollbacks"]) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tiny.host(state)))
    assert runs.steps_logged(workdir) == list(range(1, 9))
    told = [(line["event"], line["step"]) for line in history.read(workdir)]
    assert told == [("start", 0), ("rollback", 3), ("rollback", 3), ("end", 8)]


@pytest.mark.parametrize("step", [3, 6], ids=["before", "after"])
def test_a_run_killed_around_rollbacks_is_the_same_run(poisoned, rolled_back, tmp_path, step):
    runs.killed_after(rolled_back[0], tmp_path / "run", step)
    _run(tmp_path / "run", **ROLLBACK)
    assert runs.different(tmp_path / "run", rolled_back[0], 8) == []


def test_rollbacks_end_and_the_run_stops(tmp_path, monkeypatch):
    runs.poison(monkeypatch, bad_step=1, streams=99)  # before any checkpoint: from the start again
    with pytest.raises(hooks.Diverged, match="step 2: .* stopped after 2 rollbacks"):
        _run(tmp_path / "run", on_nonfinite="rollback", max_rollbacks=2, num_steps=5)
    assert runs.steps_saved(tmp_path / "run") == []


def test_a_run_that_diverges_may_be_taken_up_again_with_rollbacks(tmp_path, monkeypatch):
    runs.poison(monkeypatch, bad_step=4, streams=1)
    settings = {"num_steps": 6, "save_every": 2}
    with pytest.raises(hooks.Diverged, match="step 5"):
        _run(tmp_path / "run", **settings)
    state = _run(tmp_path / "run", on_nonfinite="rollback", **settings)
    assert int(state.step) == 6 and int(state.extra["guard"]["rollbacks"]) == 1


def test_steps_that_diverge_are_skipped_and_the_run_is_the_same_when_resumed(tmp_path):
    settings = {**WILD, "on_nonfinite": "skip", "save_every": 3, "log_every": 1}
    state = _run(tmp_path / "run", num_steps=8, **settings)
    skipped = int(state.extra["guard"]["skipped"])
    assert int(state.step) == 8 and skipped > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tiny.host(state.gen.params)))
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["guard/skipped"] == skipped
    runs.killed_after(tmp_path / "run", tmp_path / "other", 3)
    _run(tmp_path / "other", num_steps=8, **settings)
    assert runs.different(tmp_path / "other", tmp_path / "run", 8) == []


@pytest.mark.parametrize(
    "text",
    ["", '{"protocol": "ri', "\0" * 300, "[1]", "3", '{"protocol": "ring"}', "[" * 9000,
     '{"protocol": "r", "seeds": 1, "modes": ["x"], "floor": {"modes": 8}, "seconds": 1}'],
)  # fmt: skip
def test_results_that_are_damaged_are_measured_again(tmp_path, capsys, text):
    (tmp_path / "results.json").write_text(text)
    assert driver._written_row(tmp_path / "results.json") is None
    said = capsys.readouterr().out
    assert said == f"note: {tmp_path}/results.json cannot be read; it is measured again\n"


def test_divergence_ends_the_process_with_one_line_and_code_1(tmp_path):
    settings = {"num_steps": 30, "save_every": 1, "sample_every": 1, "keep_memory": True, **WILD}
    argv = runs.flags(tmp_path / "run", **settings)
    message = command.mistake(runs.MODULE, *argv, code=1)
    assert message.startswith("step ") and "discriminator" in message


def test_a_run_whose_checkpoints_somebody_moved_is_refused(straight, tmp_path):
    runs.killed_after(straight[0], tmp_path / "run", 3)
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.rename(tmp_path / "moved")
    before = command.tree(tmp_path)
    with pytest.raises(UserError, match=f"{checkpoints} has none; put that folder back"):
        _run(tmp_path / "run", num_steps=6)
    assert command.tree(tmp_path) == before and not checkpoints.exists()
    (tmp_path / "moved").rename(checkpoints)
    assert int(_run(tmp_path / "run", num_steps=4).step) == 4


def test_a_directory_with_other_settings_is_refused_by_their_names(straight):
    workdir, _ = straight
    before = command.tree(workdir)
    settings = {"num_steps": 9, "seed": 1, "latent_dim": 5, "beta1": 0.1}
    message = command.mistake(runs.MODULE, *runs.flags(workdir, **settings))
    assert "latent_dim is 4 there, 5 here" in message
    assert "beta1 is 0.5 there, 0.1 here" in message
    assert "num_steps" not in message and command.tree(workdir) == before


def test_two_runs_at_once_on_one_directory_are_refused(tmp_path):
    settings = runs.config(tmp_path / "run", seed=1)
    with rundir.RunDir(
        tmp_path / "run", settings, experiment=runs.MODULE, data={"fingerprint": ""}
    ):
        before = command.tree(tmp_path)
        with pytest.raises(UserError, match="is in use by process"):
            _run(tmp_path / "run")
        assert command.tree(tmp_path) == before


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/jaxgan"])
def test_a_directory_that_cannot_be_one_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=f"workdir {tmp_path / place}"):
        _run(tmp_path / place)
    assert command.tree(tmp_path) == [(str(tmp_path / "file"), 4)]


def test_a_dry_run_tells_and_writes_nothing(tmp_path):
    argv = runs.flags(tmp_path / "run", cpu_devices=4)
    result = command.run(runs.MODULE, *argv, "--dry_run", cwd=command.ROOT)
    assert result.code == 0 and result.err == "", result
    assert "--batch_size=16\n" in result.out and "--gen_lr=0.0002\n" in result.out
    assert "40 examples of image (8, 8, 1)" in result.out
    # G: dense 4 * 8, norm 2 * 8, dense 8 * 64 + 64. D: dense 64 * 8 + 8, dense 8 + 1.
    assert "generator: 624 parameters\n" in result.out
    assert "discriminator: 529 parameters\n" in result.out
    assert "devices: 4 x cpu, 4 examples on each, under jit\n" in result.out
    assert "memory: about " in result.out and "MiB" in result.out
    assert command.tree(tmp_path) == []


def test_a_run_can_be_made_again_from_its_flagfile(straight, tmp_path):
    workdir, _ = straight
    argv = [f"--flagfile={workdir / 'run.flags'}", "--parallel=pmap", "--dry_run"]
    result = command.run(runs.MODULE, *argv)
    assert result.code == 0, result
    stored = (workdir / "run.flags").read_text()
    _, _, stored = stored.partition("--workdir=DIRECTORY\n")
    asked = stored.replace("--parallel=jit", "--parallel=pmap").replace(
        "--dry_run=False", "--dry_run=True"
    )
    assert result.out.startswith(f"--workdir=\n{asked}")


def test_rates_gamma_and_batch_size_may_change_when_a_run_is_resumed(straight, tmp_path):
    runs.killed_after(straight[0], tmp_path / "run", 6)
    _run(tmp_path / "run", num_steps=7, gen_lr=1e-3, batch_size=32, gamma=0.5)
    record = rundir.read_config(tmp_path / "run")
    (change,) = record["changes"]
    assert change["step"] == 6 and change["gen_lr"] == [2e-4, 1e-3]
    assert change["batch_size"] == [16, 32] and record["config"]["gamma"] == 0.5
    with pytest.raises(UserError, match="--decay_steps=9 .* began with constant rates"):
        _run(tmp_path / "run", num_steps=8, decay_steps=9)


def test_a_fork_starts_from_another_runs_checkpoint_which_stays_as_it_is(straight, tmp_path):
    workdir, expected = straight
    before = command.tree(workdir)
    fork = {"fork_from": str(workdir), "loss": "hinge", "num_steps": 8}
    first = _run(tmp_path / "fork", **fork)
    assert runs.steps_logged(tmp_path / "fork") == [8] and command.tree(workdir) == before
    assert not tiny.equal(first.gen.params, expected.gen.params)
    own = _run(tmp_path / "fork", **{**fork, "num_steps": 9})  # resumes itself, not the source
    assert int(own.step) == 9 and runs.steps_logged(tmp_path / "fork") == [8, 9]


def test_a_fork_may_start_from_an_older_checkpoint(straight, tmp_path):
    fork = {"fork_from": str(straight[0]), "loss": "hinge", "num_steps": 7}
    _run(tmp_path / "fork", **fork, fork_checkpoint="6")
    assert runs.steps_logged(tmp_path / "fork") == [7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fork_from": "no/run"}, "no good checkpoint in .*no/run/checkpoints"),
        ({"fork_checkpoint": "5"}, "has no checkpoint 5"),
        ({"fork_checkpoint": "best"}, "is not newest, and not a step"),
        ({"latent_dim": 5}, "saved by another model: .*kernel"),
    ],
)
def test_a_fork_that_cannot_be_leaves_no_directory(straight, tmp_path, settings, message):
    settings = {"fork_from": str(straight[0]), "num_steps": 9, **settings}
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stops", "settings"),
    # A program for several seeds takes its time; `combine_test` unrolls them in one step.
    [
        ((), {}),
        pytest.param((2,), {}, marks=pytest.mark.slow),
        pytest.param((), {"unroll_seeds": True, "steps_per_call": 3}, marks=pytest.mark.slow),
    ],
    ids=["vmap", "resumed", "unrolled"],
)
def test_seeds_trained_together_are_those_trained_alone(straight, tmp_path, stops, settings):
    for num_steps in (*stops, 3):  # with seeds 0 and 1
        due = {"log_every": settings.get("steps_per_call", 1), "sample_every": 3}
        _run(tmp_path / "run", seed=0, seeds=2, num_steps=num_steps, **due, **settings)
    ours, theirs = runs.arrays(tmp_path / "run", 3), runs.arrays(straight[0], 3)
    for place, value in theirs.items():
        together = ours[place][1] if value.ndim or ours[place].ndim else ours[place]
        np.testing.assert_allclose(together, value, atol=1e-4, err_msg=place)
    line, alone = rundir.read_metrics(tmp_path / "run")[-1], rundir.read_metrics(straight[0])[2]
    assert line["gen/loss/seed_1"] == pytest.approx(alone["gen/loss"], abs=1e-3)
    mean = np.mean([line["gen/loss/seed_0"], line["gen/loss/seed_1"]])
    assert line["gen/loss"] == pytest.approx(mean) and line["gen/loss/interval"] > 0
    trained = load.load(tmp_path / "run", module=runs.MODULE)
    images = [trained.sample(jax.random.key(0), 3, member=n)["image"] for n in (0, 1)]
    assert images[0].shape == (3, 8, 8, 1) and not np.allclose(*images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parallel": "pmap"}, "--seeds=2 needs --parallel=jit"),
        ({"shard_params": True}, "--seeds=2 needs --shard_params=False"),
        ({"on_nonfinite": "rollback"}, "would take back all of --seeds=2; use skip"),
    ],
)
def test_what_several_seeds_cannot_do_is_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "run", seeds=2, **settings)
