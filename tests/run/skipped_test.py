"""Runs with `--on_nonfinite=skip`: dropped steps are told, and a run of them fails."""

import jax.numpy as jnp
import pytest

from jaxgan.run import hooks
from tests.faults import small

SETTINGS = {"on_nonfinite": "skip", "log_every": 2, "sample_every": 100, "num_steps": 6}


def _step(*bad):
    """A step that leaves G broken after the steps of these numbers, from 0."""

    def step(key, now, batch):
        fine = jnp.all(now.step != jnp.array(bad))
        after, metrics = small.advance(key, now, batch)
        return after, {**metrics, "gen/finite": fine, "disc/finite": jnp.array(True)}

    return step


def test_a_run_whose_every_step_was_dropped_is_not_finished_but_says_so(tmp_path, capsys):
    for begun in (True, False):  # the second start finds the run at its end
        with pytest.raises(hooks.Diverged, match="each of the 6 steps left NaN or infinity"):
            small.train(tmp_path, step=_step(*range(6)), **SETTINGS)
        out = capsys.readouterr().out
        assert "finished" not in out and ("  6 steps dropped" in out) == begun
        assert out.count("warning: step 2: every step since step 0 left NaN or infinity") == begun
        assert out.count("warning") == begun
    assert hooks.Diverged.exit_code == 1


def test_lines_before_which_every_step_was_dropped_are_told_once_in_a_row(tmp_path, capsys):
    assert small.train(tmp_path, step=_step(0, 2, 3, 4), **SETTINGS) is not None
    out = capsys.readouterr().out
    assert [x.split(": every")[0] for x in out.splitlines() if "warning" in x] == [
        "warning: step 4"
    ]
    assert "finished: " in out and out.count(" steps dropped") == 3
