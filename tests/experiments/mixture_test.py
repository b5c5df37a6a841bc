"""The mixture experiment, tiny: the row, exact resume, the same seeds alone, what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import evaluate, mixture, sample
from jaxgan.data import synthetic
from jaxgan.data.spec import Spec
from jaxgan.types import UserError
from tests.helpers import command, runs

SMALL = {
    "seeds": 2,
    "num_steps": 12,
    "steps_per_call": 2,
    "batch_size": 16,
    "features": 8,
    "log_every": 2,
    "sample_every": 12,
    "save_every": 4,
    "num_samples": 50,
    "keep_memory": False,
    "compilation_cache": "",
}


def _config(workdir, **settings):
    return mixture.Config(**{**SMALL, "workdir": str(workdir), **settings})


def _results(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The directory of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    mixture.run(_config(workdir))
    return workdir


def test_a_run_writes_what_the_benchmark_asks_for(straight):
    results = _results(straight)
    assert results["protocol"] == "ring" and results["seeds"] == 2 and results["seconds"] > 0
    for name in ("modes", "high_quality", "kl"):
        assert len(results[name]) == 2
    assert all(0 <= share <= 100 for share in results["high_quality"])
    assert results["floor"] == {"modes": 8, "high_quality": pytest.approx(98.8891), "kl": 0.0014}
    assert [p.name for p in (straight / "samples").iterdir()] == ["step_00000012.png"]
    assert runs.steps_logged(straight) == [2, 4, 6, 8, 10, 12]
    last = json.loads((straight / "metrics.jsonl").read_text().splitlines()[-1])
    each = [last[f"disc/loss/seed_{seed}"] for seed in (0, 1)]
    assert last["disc/loss"] == pytest.approx(np.mean(each)) and each[0] != each[1]
    assert last["disc/loss/interval"] > 0


# By default run/driver_test and faults/kills_test see to that.
@pytest.mark.slow
def test_a_run_stopped_and_started_again_is_the_same_run(straight, tmp_path):
    for num_steps in (8, 12):  # rates decay over 12 steps in both
        mixture.run(_config(tmp_path / "run", num_steps=num_steps, decay_steps=12))
    assert runs.different(tmp_path / "run", straight, 12) == []
    assert _results(tmp_path / "run")["kl"] == _results(straight)["kl"]


def test_a_finished_run_shows_its_row_again_and_changes_nothing(straight, capsys):
    before = command.tree(straight / "checkpoints")
    mixture.run(_config(straight))
    finished, row = capsys.readouterr().out.splitlines()
    assert finished.startswith(f"finished: {straight} is at step 12")
    assert row.startswith("| ring | modes ") and command.tree(straight / "checkpoints") == before


def test_a_finished_run_whose_results_are_damaged_is_measured_again(straight, capsys):
    before = _results(straight)
    (straight / "results.json").write_bytes(bytes(300))
    mixture.run(_config(straight))
    _, said, row = capsys.readouterr().out.splitlines()
    assert said.endswith("results.json cannot be read; it is measured again")
    assert row.startswith("| ring | modes ") and _results(straight)["kl"] == before["kl"]


def test_a_run_is_sampled_and_scored_from_its_directory(straight, tmp_path):
    out = tmp_path / "points.npz"
    config = sample.Config(workdir=str(straight), out=str(out), member=1, num=2500)
    assert sample.run(config)["image"].shape == (2500, 2)
    with pytest.raises(UserError, match="--member=2: the run has 2"):
        sample.run(dataclasses.replace(config, member=2))
    result = evaluate.run(evaluate.Config(workdir=str(straight), out=str(tmp_path / "a.json")))
    for name in ("modes", "high_quality", "kl"):
        assert result[name] == _results(straight)[name]


# By default run/driver_test sees to that.
@pytest.mark.slow
def test_seeds_trained_together_are_those_trained_alone(straight, tmp_path):
    mixture.run(_config(tmp_path / "run", seeds=1, seed=1))
    ours, theirs = runs.arrays(tmp_path / "run", 12), runs.arrays(straight, 12)
    for name, value in ours.items():
        together = theirs[name][1:] if value.ndim else theirs[name]
        np.testing.assert_allclose(value, together, rtol=1e-3, atol=1e-4, err_msg=name)
    assert _results(tmp_path / "run")["seeds"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"mixture": "grid", "penalty": "none", "loss": "hinge", "update": "simultaneous"},
        # Second derivatives. `stacked_mnist_test` has lazy penalties, and `run/adversarial_test`
        # those that fade.
        pytest.param(
            {"penalty": "wgan_gp", "loss": "wasserstein", "penalty_every": 4, "gamma_final": 0.1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_ways_to_train(tmp_path, settings):
    mixture.run(_config(tmp_path / "run", num_steps=4, **settings))
    assert np.isfinite(_results(tmp_path / "run")["kl"]).all()


def test_a_penalty_that_is_due_at_times_trains_the_same_in_turns_as_in_one_program(tmp_path):
    """A launch of several steps is one program; of single steps two take turns on CPU."""
    lazy = {"seeds": 1, "num_steps": 4, "penalty_every": 2, "gamma_final": 0.1}
    together, turns = (
        mixture.run(_config(tmp_path / str(n), steps_per_call=n, **lazy)) for n in (2, 1)
    )
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6),
        turns.disc.params,
        together.disc.params,
    )
    lines = (tmp_path / "1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]
    assert all(json.loads(line)["disc/penalty"] > 0 for line in lines)  # due at steps 1 and 3


def test_points_are_drawn_where_they_are():
    corners = synthetic.Mixture(np.array([[1.0, 1.0], [-1.0, -1.0]]), 0.01)
    points = np.array([[1.05, 1.05], [-1.05, -0.05], [5.0, 5.0]])
    picture = mixture.scatter({"image": points}, mixture=corners, side=24)
    assert picture.shape == (24, 24, 1) and picture.dtype == np.uint8
    dark = np.argwhere(picture[..., 0] < 200)
    assert [tuple(place) for place in dark] == [(1, 22), (12, 1)]  # up is up, right is right
    assert (picture == 210).any()  # the modes


def test_players_see_points_in_the_unit_square(monkeypatch):
    def update(game, gen_tx, disc_tx, *, accumulate):
        del game, gen_tx, disc_tx, accumulate
        return lambda key, now, batch: (now, {"largest": abs(batch["image"]).max()})

    monkeypatch.setattr(mixture.adversarial.steps, "alternating_step", update)
    config = _config("unused", mixture="grid", batch_size=500)
    made = mixture.build(config, Spec("grid"))
    state = jax.jit(made.init)(jax.random.key(1))
    _, metrics = jax.jit(made.step)(jax.random.key(0), state, {})
    assert 0.95 < float(metrics["largest"]) < 1.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": "rign"}, 'did you mean "ring"'),
        ({"steps_per_call": 5}, "--steps_per_call=5 does not divide --num_steps=12"),
        ({"workdir": ""}, "--workdir is empty"),
        ({"seeds": 0}, "--seeds=0 is below 1"),
    ],
)
def test_mistakes_are_one_line(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        mixture.run(_config(**{"workdir": tmp_path / "run", **settings}))
    assert command.tree(tmp_path) == []
