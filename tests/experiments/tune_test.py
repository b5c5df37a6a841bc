"""The sweep over penalties and rates: what it tries, how it ranks, and what it leaves behind."""

import json

import numpy as np
import pytest

from experiments import images, tune
from jaxgan.types import UserError
from tests.helpers import runs

SETTINGS = {
    **runs.SMALL,
    "net": "dcgan",
    "widths": "8",
    "latent_dim": 4,
    "tune_steps": 2,
    "tune_samples": 16,
    "gammas": "0.1,1",
    "rates": "1e-3",
}


def _config(workdir="", **settings):
    given = {**SETTINGS, "data_dir": str(runs.data_file()), "workdir": str(workdir)}
    return tune.Config(**{**given, **settings})


@pytest.fixture(autouse=True)
def features_are_at_hand(monkeypatch):
    """Features that need no training."""

    def random(kind, **options):
        del kind
        return open_features("random", **options)

    open_features = tune.reference.open_features
    monkeypatch.setattr(tune.reference, "open_features", random)


def test_every_setting_is_scored_and_the_best_comes_first_with_its_flags(tmp_path, capsys):
    results = tune.run(_config(tmp_path / "tune"))
    assert {(one["gamma"], one["gen_lr"]) for one in results} == {(0.1, 1e-3), (1.0, 1e-3)}
    assert json.loads((tmp_path / "tune" / "tune.json").read_text()) == results
    names = {"tune.json", "tune_gamma_0.1_gen_lr_0.001.png", "tune_gamma_1_gen_lr_0.001.png"}
    assert {path.name for path in (tmp_path / "tune").iterdir()} == names
    best = results[0]
    expected = f"best: --gamma={best['gamma']:.3g} --gen_lr=0.001 --disc_lr="
    assert expected in capsys.readouterr().out


def test_a_run_of_the_sweep_is_the_run_that_its_flags_would_train(tmp_path):
    (result,) = tune.run(_config(gammas="0.5", rates="2e-3"))
    config = _config(gamma=0.5, gen_lr=2e-3, disc_lr=2e-3)
    settings = {
        name: getattr(config, name)
        for name in images.Config.__dataclass_fields__
        if name not in ("num_steps", "workdir")
    }
    workdir = tmp_path / "run"
    state = images.run(images.Config(**settings, num_steps=2, workdir=str(workdir)))
    assert state is not None
    line = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["gen/diversity"] == pytest.approx(line["gen/diversity"], rel=1e-3)


@pytest.mark.slow  # compiles three programs
def test_side_by_side_as_one_after_the_other():
    alone, together = (tune.run(_config(at_once=n)) for n in (1, 2))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, rel=1e-2)


def test_collapsed_runs_come_last_however_near_their_distance():
    near = {"frechet_distance": 1.0, "gen/diversity": 0.1}
    far = {"frechet_distance": 9.0, "gen/diversity": 0.9}
    assert sorted([near, far], key=tune.rank)[0] is far
    broken = {"frechet_distance": np.inf, "gen/diversity": 1.0}
    assert sorted([broken, far], key=tune.rank)[0] is far


def test_lists_that_are_none_are_one_line():
    for text in ("0.1;1", "0", "-1", "nan", ""):
        with pytest.raises(UserError, match="is not a list of numbers above 0"):
            _config(gammas=text or ",").settings()
    assert len(_config(gammas="", rates="").settings()) == 6
