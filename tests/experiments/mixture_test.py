"""The mixture experiment, tiny: the row, exact resume, the same seeds alone, what is refused."""

import json

import jax
import numpy as np
import pytest

from experiments import mixture
from jaxgan.types import UserError
from tests.helpers import command, runs

SMALL = {
    "seeds": 2,
    "num_steps": 12,
    "steps_per_call": 2,
    "batch_size": 16,
    "features": 8,
}


def _config(workdir, **settings):
    return mixture.Config(**{**SMALL, "workdir": str(workdir), **settings})


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing stopped; (its directory, its results)."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    return workdir, mixture.run(_config(workdir))


def test_a_run_writes_what_the_benchmark_asks_for(straight):
    workdir, results = straight
    assert json.loads((workdir / "results.json").read_text()) == results
    assert results["protocol"] == "ring" and results["seeds"] == 2 and results["seconds"] > 0
    for name in ("modes", "high_quality", "kl"):
        assert len(results[name]) == 2
    assert all(0 <= share <= 100 for share in results["high_quality"])
    assert results["floor"] == {"modes": 8, "high_quality": pytest.approx(98.8891), "kl": 0.0014}
    assert [p.name for p in (workdir / "samples").iterdir()] == ["step_00000012.png"]
    assert runs.steps_logged(workdir) == [2, 4, 6, 8, 10, 12]


def test_a_run_interrupted_and_started_again_is_the_same_run(straight, tmp_path, monkeypatch):
    # As if a signal had come after four launches.
    with monkeypatch.context() as patch:
        patch.setattr(mixture.signals.Interrupts, "__call__", _stop_at(8))
        with pytest.raises(SystemExit) as caught:
            mixture.run(_config(tmp_path / "run"))
        assert caught.value.code == 128 + 15
    results = mixture.run(_config(tmp_path / "run"))
    assert runs.different(tmp_path / "run", straight[0], 12) == []
    assert results["kl"] == straight[1]["kl"] and results["resumed_from"] == 8


def _stop_at(at):
    def hook(self, step, state, metrics):
        if step == at:
            raise mixture.signals.Interrupted(15, state)

    return hook


def test_a_finished_run_shows_its_row_again_and_changes_nothing(straight, capsys):
    workdir, results = straight
    before = command.tree(workdir / "checkpoints")
    assert mixture.run(_config(workdir)) == results
    out = capsys.readouterr().out
    assert out.startswith(f"finished: {workdir} is at step 12\n| ring | modes ")
    assert command.tree(workdir / "checkpoints") == before


def test_seeds_trained_together_are_those_trained_alone(straight, tmp_path):
    alone = mixture.run(_config(tmp_path / "run", seeds=1, seed=1))
    ours, theirs = runs.arrays(tmp_path / "run", 12), runs.arrays(straight[0], 12)
    for name, value in ours.items():
        together = theirs[name][1:] if value.ndim else theirs[name]
        np.testing.assert_allclose(value, together, rtol=1e-3, atol=1e-4, err_msg=name)
    assert alone["seeds"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"mixture": "grid", "penalty": "none", "loss": "hinge", "update": "simultaneous"},
        {"mixture": "grid", "penalty_every": 4, "gamma_final": 0.1},
        {"penalty": "wgan_gp", "loss": "wasserstein"},
    ],
)
def test_other_ways_to_train(tmp_path, settings):
    results = mixture.run(_config(tmp_path / "run", num_steps=4, **settings))
    assert np.isfinite(results["kl"]).all()


def test_points_are_drawn_where_they_are():
    picture = mixture.scatter(np.array([[0.85, 0.85], [-0.85, -0.05], [5.0, 5.0]]), 1.0, side=20)
    assert picture.shape == (20, 20, 1) and picture.dtype == np.uint8
    dark = np.argwhere(picture[..., 0] < 255)
    assert [tuple(place) for place in dark] == [(1, 18), (10, 1)]  # up is up, right is right


def test_players_see_points_in_the_unit_square():
    seen = []

    def step(key, now, batch):
        seen.append(batch["image"])
        return now, {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mixture.UPDATES, "alternating", lambda *args, **options: step)
        init, train, _ = mixture.game(_config("unused", mixture="grid", batch_size=500))
        train(jax.random.key(0), init(jax.random.key(1)), {})
    assert 0.95 < float(abs(seen[0]).max()) < 1.1


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
