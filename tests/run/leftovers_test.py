"""What killed processes leave goes at the next start; a run without its checkpoints is refused."""

import os

import pytest

from jaxgan.run import leftovers
from jaxgan.types import UserError
from tests.run import rundir_test

OURS = (
    ".config.json.17.tmp",
    ".run.flags.17.tmp",
    ".metrics.jsonl.17.tmp",
    ".results.json.17.tmp",
    "samples/.step_00000004.png.17.tmp",
    "samples/.real.png.17.tmp",
    "tensorboard/.curves.17.tmp",
    "tensorboard/events.out.tfevents.1700000000.host",  # emptied when the next one was made
)
MINE = (
    "notes.tmp",
    ".config.json.tmp",
    ".config.json.mine.tmp",
    "config.json.17.tmp",
    ".evaluation.json.17.tmp",  # that may be running
    "samples/.step_4.png.17.tmp",
    "samples/.config.json.17.tmp",
    "samples/step_00000004.png",
    "tensorboard/mine.tmp",
    "elsewhere/.config.json.17.tmp",
)


def _names(path):
    files = (one for one in path.rglob("*") if one.is_file() or one.is_symlink())
    return {file.relative_to(path).as_posix() for file in files}


def test_temporary_files_go_once_the_directory_is_locked_and_no_others(tmp_path, capsys):
    rundir_test._used(tmp_path)
    before = _names(tmp_path)
    for name in (*OURS, *MINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.symlink(tmp_path / "notes.tmp", tmp_path / ".run.flags.18.tmp")
    with rundir_test._open(tmp_path):
        assert _names(tmp_path) == before | set(MINE) | {".run.flags.18.tmp"}
        for name in OURS:
            (tmp_path / name).touch()
        with pytest.raises(UserError, match="in use by process"):
            rundir_test._open(tmp_path)
        assert set(OURS) < _names(tmp_path)  # the other process is writing them
    said = capsys.readouterr().out
    assert said.count("which a killed process left") == len(OURS) - 1  # the last is no accident


def test_a_process_killed_as_it_made_the_directory_is_no_run_yet(tmp_path):
    (tmp_path / ".config.json.17.tmp").write_text('{"exp')
    rundir_test._used(tmp_path)
    assert ".config.json.17.tmp" not in _names(tmp_path)


def _run_that_saved(path, step="4"):
    """A run with a checkpoint of a step, as far as the directory shows."""
    with rundir_test._open(path) as run:
        run.start_logs(0)
        for name in ("state", "gen_ema"):
            (path / "checkpoints" / step / name).mkdir(parents=True)
            (path / "checkpoints" / step / name / "_METADATA").touch()
        (path / "checkpoints" / step / "_CHECKPOINT_METADATA").touch()
        run.log(4, {"loss": 0.5})
    return path / "checkpoints"


@pytest.mark.parametrize("gone", ["the folder", "the steps"])
def test_a_run_whose_checkpoints_are_gone_is_refused_and_keeps_its_log(tmp_path, gone):
    checkpoints = _run_that_saved(tmp_path / "run")
    checkpoints.rename(tmp_path / "kept")
    if gone == "the steps":
        checkpoints.mkdir()
        (checkpoints / "9.orbax-checkpoint-tmp").mkdir()
        (checkpoints / "notes").touch()
    log = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="has none; put that folder back, or use another workdir"):
        rundir_test._open(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == log
    if gone == "the steps":
        (checkpoints / "4.damaged.1").mkdir()  # that is another error's
        with rundir_test._open(tmp_path / "run"):
            pass


def test_a_run_of_an_older_version_is_known_by_its_log(tmp_path):
    checkpoints = _run_that_saved(tmp_path)
    (tmp_path / leftovers.SAVED).unlink()
    with rundir_test._open(tmp_path):
        pass  # resumed as it should be
    (tmp_path / leftovers.SAVED).unlink()
    checkpoints.rename(tmp_path / "kept")
    with pytest.raises(UserError, match="has none"):
        rundir_test._open(tmp_path)


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path):
    with rundir_test._open(tmp_path) as run:
        run.start_logs(0)
        run.log(1, {"loss": 0.5})
    with rundir_test._open(tmp_path) as run:
        assert run.start_logs(0) == 0.0 and run.metrics() == []
