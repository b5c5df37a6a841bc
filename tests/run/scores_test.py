"""Scores on the way: they change nothing, the best step stays, and a killed run repeats none."""

import pytest

from jaxgan.metrics import evaluate, weights
from jaxgan.run import checkpoint, load, rundir, scoring
from jaxgan.types import UserError
from tests.helpers import runs, toy


def _run(workdir, **settings):
    return toy.run(runs.config(workdir, **{"log_every": 1, "save_every": 3, **settings}))


def _scored(workdir, **settings):
    """A run that scores its generator at every second step, and at the last."""
    scores = {
        "eval_every": 2,
        "eval_samples": 20,
        "eval_weights": str(runs.classifier_file()),
        "data_dir": str(runs.split_file()),
    }
    return _run(workdir, **{**scores, **settings})


def _scores(workdir):
    """Lines of the log with scores: step -> line."""
    lines = [line for line in rundir.read_metrics(workdir) if scoring.PROTOCOL in line]
    found = {line.pop("step"): line for line in lines}
    assert len(found) == len(lines), "a step was scored twice"
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Reference features are kept here, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def scored(tmp_path_factory, home):
    """A run of 9 steps that nothing stopped, scored on the way; (its directory, its best step)."""
    workdir = tmp_path_factory.mktemp("scored") / "run"
    _scored(workdir, num_steps=9)
    values = {step: line["eval/frechet_distance"] for step, line in _scores(workdir).items()}
    return workdir, min(values, key=values.get)


def test_scores_are_logged_in_order_and_do_not_change_training(scored, tmp_path):
    workdir, _ = scored
    lines = _scores(workdir)
    assert list(lines) == [2, 4, 6, 8, 9]
    digest = weights.sha256(runs.classifier_file())[:12]
    assert lines[2][scoring.PROTOCOL] == f"20 samples, arrays test split, classifier {digest}"
    assert {f"eval/{name}" for name in evaluate.BETTER} < set(lines[9])
    assert runs.steps_logged(workdir) == sorted([*range(1, 10), 2, 4, 6, 8, 9])
    _run(tmp_path / "run", num_steps=9, data_dir=str(runs.split_file()))
    assert runs.different(workdir, tmp_path / "run", 9) == []


def test_the_best_step_is_kept_beside_the_newest_and_can_be_loaded(scored):
    workdir, best = scored
    saved = runs.steps_saved(workdir)
    assert {best, 6, 9} <= set(saved) and len(saved) <= 4
    assert load.load(workdir, which="best", module=runs.MODULE).step == best
    assert load.load(workdir, module=runs.MODULE).step == 9
    assert load.load(workdir, which="9", module=runs.MODULE).step == 9
    with pytest.raises(UserError, match="--checkpoint=1 is not one of newest, best, "):
        load.load(workdir, which="1", module=runs.MODULE)


@pytest.mark.parametrize(
    "stops",
    [(4,), pytest.param((2, 6, 8), marks=pytest.mark.slow)],  # each stop is a run
)
def test_a_scored_run_stopped_and_started_again_is_the_same_run(scored, tmp_path, stops):
    for num_steps in (*stops, 9):
        _scored(tmp_path / "run", num_steps=num_steps)
    assert runs.different(tmp_path / "run", scored[0], 9) == []
    assert _scores(tmp_path / "run") == _scores(scored[0])
    assert load.load(tmp_path / "run", which="best", module=runs.MODULE).step == scored[1]


@pytest.mark.parametrize(
    ("place", "step"),
    [
        # Two runs each; the save of step 8 comes after its score, and after a save before.
        pytest.param("before the score", 4, marks=pytest.mark.slow),
        pytest.param("before the save", 6, marks=pytest.mark.slow),
        ("before the save", 8),
        pytest.param("after the save", 6, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_around_a_score_has_every_line_once(
    scored, tmp_path, monkeypatch, place, step
):
    class Killed(BaseException):
        pass

    save, log = checkpoint.save, rundir.RunDir.log

    def dying_log(self, at, values):
        if at == step and scoring.PROTOCOL in values and place == "before the score":
            raise Killed
        log(self, at, values)

    def dying_save(manager, state):
        if int(state.step) < step or place == "before the score":
            return save(manager, state)
        if place == "after the save":
            save(manager, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rundir.RunDir, "log", dying_log)
        patch.setattr(checkpoint, "save", dying_save)
        with pytest.raises(Killed):
            _scored(tmp_path / "run", num_steps=9)
    _scored(tmp_path / "run", num_steps=9)
    assert _scores(tmp_path / "run") == _scores(scored[0])
    assert runs.steps_logged(tmp_path / "run") == runs.steps_logged(scored[0])
    assert runs.different(tmp_path / "run", scored[0], 9) == []
    assert load.load(tmp_path / "run", which="best", module=runs.MODULE).step == scored[1]


def test_the_best_outlives_many_newer_ones(tmp_path, monkeypatch, home):
    made = iter([5.0, 1.0, 4.0, 3.0, 2.0, 6.0, 7.0, 8.0, 0.5])
    compare = evaluate.compare

    def chosen(*args):
        return {**compare(*args), "frechet_distance": next(made)}

    monkeypatch.setattr(evaluate, "compare", chosen)
    every = {"eval_every": 1, "save_every": 1}
    _scored(tmp_path / "run", num_steps=8, **every)
    assert runs.steps_saved(tmp_path / "run") == [2, 6, 7, 8]
    assert load.load(tmp_path / "run", which="best", module=runs.MODULE).step == 2
    _scored(tmp_path / "run", num_steps=9, **every)  # a new process knows the best so far
    assert runs.steps_saved(tmp_path / "run") == [7, 8, 9]
    assert load.load(tmp_path / "run", which="best", module=runs.MODULE).step == 9


def test_scores_under_pmap_and_fused_steps_are_the_same(scored, tmp_path):
    settings = {"parallel": "pmap", "steps_per_call": 2}
    due = {"num_steps": 4, "log_every": 2, "save_every": 2, "sample_every": 2}
    _scored(tmp_path / "run", **settings, **due)
    ours, theirs = _scores(tmp_path / "run"), _scores(scored[0])
    for step in (2, 4):
        name = "eval/frechet_distance"
        assert ours[step][name] == pytest.approx(theirs[step][name], rel=0.02)
    with pytest.raises(UserError, match="--steps_per_call=2 does not divide --eval_every=3"):
        _scored(tmp_path / "other", eval_every=3, **settings, **due)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_weights": "none.npz"}, "none.npz: no classifier of arrays at 8x8x1; train"),
        ({"eval_features": "inception", "eval_weights": ""}, "needs --eval_weights=FILE"),
        ({"eval_features": "inception", "eval_weights": "no.pth"}, "no Inception weights there"),
        ({"data_dir": str(runs.data_file())}, "no array named"),
        ({"eval_metric": "fid"}, "--eval_metric=fid is not one of"),
        ({"eval_samples": 9}, "--eval_samples=9 is below 10"),
    ],
)
def test_scores_that_cannot_be_are_refused_before_training(tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        _scored(tmp_path / "run", num_steps=2, **settings)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_run_that_rolls_back_has_every_score_once(tmp_path, monkeypatch, home):
    runs.poison(monkeypatch, bad_step=4, streams=1)
    _scored(tmp_path / "run", num_steps=9, on_nonfinite="rollback")
    lines = _scores(tmp_path / "run")
    assert list(lines) == [2, 4, 6, 8, 9]
    values = {step: line["eval/frechet_distance"] for step, line in lines.items()}
    best = load.load(tmp_path / "run", which="best", module=runs.MODULE).step
    assert values[best] == min(values.values())
