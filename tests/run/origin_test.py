"""Which run, step and surroundings a checkpoint is of: what is refused, and what is only said."""

import json
import shutil

import jax
import pytest

from jaxgan.run import checkpoint, manifest, origin
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import tiny


def _save(folder, *steps, run_id="", **options):
    with checkpoint.manager(folder, run_id=run_id, **options) as manager:
        for step in steps:
            checkpoint.save(manager, small.state(step, step=step))


def _good(folder, **options):
    every = {"every": options["every"]} if "every" in options else {}
    with checkpoint.manager(folder, **options) as manager:
        return checkpoint.good_step(manager, **every)


def _edit(folder, **changes):
    """Changes a manifest, by somebody who knows how."""
    content = json.loads((folder / manifest.NAME).read_text())
    del content["sha256"]
    content |= changes
    signed = {**content, "sha256": manifest._digest_of(content)}
    (folder / manifest.NAME).write_text(json.dumps(signed))


def test_a_renamed_step_is_set_aside(tmp_path, capsys):
    _save(tmp_path, 4, 6)
    (tmp_path / "6").rename(tmp_path / "9")
    assert _good(tmp_path) == 4
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "checkpoint 9" in x]
    assert "checkpoint 9 is damaged: it is step 6 of the run, renamed; now " in line
    assert (tmp_path / "9.damaged.1").is_dir()


def test_swapped_steps_are_set_aside(tmp_path):
    _save(tmp_path, 2, 4, 6)
    for old, new in (("4", "x"), ("6", "4"), ("x", "6")):
        (tmp_path / old).rename(tmp_path / new)
    assert _good(tmp_path) == 2


def test_a_step_of_another_run_is_set_aside_where_the_run_is_known(tmp_path, capsys):
    _save(tmp_path / "mine", 2, run_id="1234")
    _save(tmp_path / "other", 4, run_id="5678")
    shutil.copytree(tmp_path / "other" / "4", tmp_path / "mine" / "4")
    assert _good(tmp_path / "mine") == 4
    assert _good(tmp_path / "mine", run_id="1234") == 2
    said = capsys.readouterr().out
    assert "checkpoint 4 is damaged: it was saved by another run (if by this one" in said
    assert 'set "run": "5678" there); now' in said
    assert checkpoint.restore_from(tmp_path / "other", small.state(0.0)).step == 4


def test_steps_of_before_runs_had_a_name_are_taken(tmp_path):
    _save(tmp_path, 2)
    content = json.loads((tmp_path / "2" / manifest.NAME).read_text())
    assert content["run"] == "" and content["step"] == 2
    assert _good(tmp_path, run_id="1234") == 2
    _edit(tmp_path / "2", run=None, step=None, written_with=None)
    assert _good(tmp_path, run_id="1234") == 2


def test_sampling_passes_over_a_renamed_step(tmp_path):
    _save(tmp_path, 2, 4)
    (tmp_path / "4").rename(tmp_path / "5")
    step, variables = checkpoint.restore_generator(tmp_path)
    assert step == 2 and tiny.equal(variables, small.state(2).gen_ema)
    with pytest.raises(UserError, match="5: it is step 4 of the run, renamed"):
        checkpoint.restore_generator(tmp_path, step=5)


def test_other_surroundings_are_said_once_and_are_no_error(tmp_path, capsys):
    _save(tmp_path, 2)
    assert _good(tmp_path) == 2 and "note" not in capsys.readouterr().out
    then = {**origin.here(), "jax": "0.1\n2", "devices": 99, "cores": True, "platform": [1]}
    _edit(tmp_path / "2", written_with=then)
    with checkpoint.manager(tmp_path) as manager:
        assert checkpoint.good_step(manager) == checkpoint.good_step(manager) == 2
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("note")]
    assert said == [
        f"note: checkpoint 2 was written with jax 0.1?2 (here {jax.__version__}), number of "
        f"devices 99 (here {jax.device_count()}); results may differ in the last bits"
    ]


def test_the_newest_multiple_is_kept_and_found_beside_newer_steps(tmp_path):
    _save(tmp_path, 4, 8, 9, 10, 11, every=4)
    with checkpoint.manager(tmp_path) as manager:
        assert checkpoint.finished_steps(manager) == [8, 9, 10, 11]
        assert checkpoint.good_step(manager) == 11
        assert checkpoint.good_step(manager, every=4) == 8
        assert checkpoint.good_step(manager, every=7) is None


def test_only_multiples_are_looked_at(tmp_path, capsys):
    _save(tmp_path, 4, 8, 9, every=4)
    for step in (8, 9):
        (tmp_path / str(step) / manifest.NAME).unlink()
    assert _good(tmp_path, every=4) == 4
    said = capsys.readouterr().out
    assert "checkpoint 8 is damaged" in said and "checkpoint 9" not in said
    assert (tmp_path / "9").is_dir()
    shutil.rmtree(tmp_path / "4")
    with pytest.raises(UserError, match=r"8.damaged.1: damaged before"):
        _good(tmp_path, every=4)
    assert _good(tmp_path, every=5) is None  # 8 is none of these
