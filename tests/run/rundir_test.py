"""The run directory: its lock, its record of the settings, and its logs."""

import dataclasses
import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxgan.run import cli, disk, rundir
from jaxgan.types import UserError

DATA = {"fingerprint": "abc", "num_classes": 10}


@dataclasses.dataclass(frozen=True)
class Config:
    workdir: str = cli.field("", "Where.", changeable=True)
    width: int = cli.field(8, "Units.")
    rate: float = cli.field(0.1, "Rate.")
    num_steps: int = cli.field(10, "Steps.", changeable=True)


def _open(path, config=None, *, experiment="experiments.some", data=DATA):
    return rundir.RunDir(path, config or Config(), experiment=experiment, data=data)


def _used(path, *, start=0, **settings):
    with _open(path, Config(**settings)) as run:
        run.start_logs(start)


def test_settings_are_recorded_as_json_and_as_a_flagfile_that_may_be_moved(tmp_path):
    _used(tmp_path / "a" / "b", width=16)
    record = rundir.read_config(tmp_path / "a" / "b")
    assert record["experiment"] == "experiments.some" and record["data"] == DATA
    assert record["config"] == {"workdir": "", "width": 16, "rate": 0.1, "num_steps": 10}
    flags = (tmp_path / "a" / "b" / "run.flags").read_text().splitlines()
    assert flags == [
        "# python -m experiments.some --flagfile=run.flags --workdir=DIRECTORY",
        *("--width=16", "--rate=0.1", "--num_steps=10"),
    ]


def test_a_run_has_a_name_of_its_own_that_it_keeps(tmp_path):
    with _open(tmp_path / "a") as run, _open(tmp_path / "b") as other:
        assert run.run_id != other.run_id and len(bytes.fromhex(run.run_id)) == 8
    with _open(tmp_path / "a") as again:
        assert again.run_id == run.run_id
        again.start_logs(0)
    record = rundir.read_config(tmp_path / "a")
    assert record["run"] == run.run_id
    assert list(record) == ["experiment", "jaxgan", "run", "data", "config"]


def test_a_run_of_an_older_version_gets_a_name_as_it_is_resumed(tmp_path):
    _used(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    del record["run"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with _open(tmp_path) as run:
        assert "run" not in rundir.read_config(tmp_path)  # nothing is trained yet
        run.start_logs(0)
    assert rundir.read_config(tmp_path)["run"] == run.run_id != ""


def test_other_processes_of_a_run_write_nothing_and_have_no_name(tmp_path):
    run = rundir.RunDir(tmp_path / "run", Config(), experiment="e", data=DATA, main=False)
    with run:
        run.start_logs(0)
        run.log(1, {"loss": 0.5})
        run.sync()
    assert run.run_id == "" and not (tmp_path / "run").exists()


def test_a_change_is_recorded_with_its_step_once_training_begins(tmp_path, capsys):
    _used(tmp_path)
    before = (tmp_path / "config.json").read_bytes(), (tmp_path / "run.flags").read_bytes()
    with _open(tmp_path, Config(num_steps=5)):
        pass  # finished already: nothing is trained
    assert before == (
        (tmp_path / "config.json").read_bytes(),
        (tmp_path / "run.flags").read_bytes(),
    )
    assert not capsys.readouterr().out
    with _open(tmp_path, Config(num_steps=20, workdir="elsewhere")) as run:
        run.start_logs(6)
        run.start_logs(3)  # after a rollback
    _used(tmp_path, start=9, num_steps=30)
    assert "settings changed: num_steps 10 -> 20\n" in capsys.readouterr().out
    record = rundir.read_config(tmp_path)
    assert (
        record["config"]["num_steps"] == 30
        and "--num_steps=30" in (tmp_path / "run.flags").read_text()
    )
    assert record["changes"] == [
        {"step": 6, "num_steps": [10, 20]},
        {"step": 9, "num_steps": [20, 30]},
    ]


def test_changes_that_an_older_version_recorded_stay(tmp_path):
    _used(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    record["changes"] = [{"num_steps": [5, 10]}]
    (tmp_path / "config.json").write_text(json.dumps(record))
    _used(tmp_path, start=8, num_steps=11)
    assert rundir.read_config(tmp_path)["changes"] == [
        {"num_steps": [5, 10]},
        {"step": 8, "num_steps": [10, 11]},
    ]


def test_seconds_of_training_are_those_of_the_lines_that_stay(tmp_path):
    with _open(tmp_path) as run:
        assert run.start_logs(0) == 0.0
        run.log(1, {"loss": 1.0})  # as an older version wrote it
        assert run.start_logs(1) == 0.0
        run.log(2, {"loss": 1.0, "seconds": 2.5})
        run.log(3, {"loss": 1.0, "seconds": 4.0})
    with _open(tmp_path) as run:
        assert run.start_logs(2) == 2.5


def test_other_settings_are_refused_and_named(tmp_path):
    _used(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError) as caught:
        _open(tmp_path, Config(width=9, rate=0.2, num_steps=99))
    message = str(caught.value)
    assert "width is 8 there, 9 here" in message and "rate is 0.1 there, 0.2 here" in message
    assert "num_steps" not in message
    assert (tmp_path / "config.json").read_text() == before
    _used(tmp_path)  # the refusal unlocked the directory


def test_a_setting_that_an_older_run_did_not_have_counts_as_its_default(tmp_path):
    _used(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    del record["config"]["width"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="width is 8 there, 9 here"):
        _open(tmp_path, Config(width=9))
    _used(tmp_path)
    assert rundir.read_config(tmp_path)["config"]["width"] == 8


def test_another_experiment_is_refused(tmp_path):
    _used(tmp_path)
    with pytest.raises(UserError, match="holds a run of experiments.some; use another workdir"):
        _open(tmp_path, experiment="experiments.other")


def test_changed_data_are_refused(tmp_path):
    _used(tmp_path)
    with pytest.raises(UserError, match="the training data have changed"):
        _open(tmp_path, data={**DATA, "fingerprint": "xyz"})


def test_checkpoints_of_an_unknown_run_are_not_used(tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UserError, match="holds checkpoints without config.json"):
        _open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"config": 3}',
        '{"config": {}, "data": {"fingerprint": ""}, "run": 1}',
        '{"config": {}, "data": {}}',
    ],
)
def test_a_damaged_record_is_refused_and_kept(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json is not the record of a run"):
        _open(tmp_path)
    assert (tmp_path / "config.json").read_text() == text


def test_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        rundir.read_config(tmp_path)


def test_one_process_at_a_time(tmp_path):
    with _open(tmp_path):
        with pytest.raises(UserError, match=r"in use by process \d+ on .*; wait for it"):
            _open(tmp_path)
    _used(tmp_path)  # free again


def test_a_lock_file_that_a_killed_process_left_does_not_lock(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on elsewhere\n" * 9)
    with _open(tmp_path):
        assert len((tmp_path / ".lock").read_text().splitlines()) == 1


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file; give a directory"):
        _open(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        _open(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(UserError, match="workdir /proc/jaxgan cannot be written: "):
        _open("/proc/jaxgan")


@pytest.mark.parametrize("full", ["config.json", "run.flags", "metrics.jsonl"])
def test_a_disk_that_is_full_before_training_is_one_line(tmp_path, monkeypatch, full):
    _used(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 9}\n{"step": 1}\n')  # to be written anew
    replace = disk.replace

    def refused(path, text):
        if path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, text)

    monkeypatch.setattr(disk, "replace", refused)
    line = f"workdir {tmp_path} cannot be written: No space left on device; make room there"
    with pytest.raises(UserError, match=line):
        _used(tmp_path, start=1, num_steps=20)
    if full != "metrics.jsonl":
        with pytest.raises(UserError, match="cannot be written: No space left"):
            _used(tmp_path / "new")
    monkeypatch.undo()
    _used(tmp_path, start=1, num_steps=20)  # the lock is free


def test_pictures_that_cannot_be_written_are_one_warning(tmp_path, monkeypatch, capsys):
    picture = np.zeros((4, 4, 1), np.uint8)
    with _open(tmp_path) as run:
        run.start_logs(0)
        (tmp_path / "samples").write_text("in the way")
        for step in (1, 2):
            run.save_samples(step, picture)
        (tmp_path / "samples").unlink()
        run.save_samples(3, picture)
        run.sync()
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step_00000003.png"]
    assert capsys.readouterr().out.splitlines() == [
        f"warning: {tmp_path}/samples cannot be written: File exists; training continues",
        f"note: {tmp_path}/samples: written again",
    ]


def test_all_that_was_written_is_synced_and_a_failure_is_a_warning(tmp_path, monkeypatch, capsys):
    synced = []
    monkeypatch.setattr(disk, "sync_file", lambda path: synced.append(path.name))
    monkeypatch.setattr(disk, "sync_folder", lambda path: synced.append(path.name))
    with _open(tmp_path / "run") as run:
        run.start_logs(0)
        run.log(1, {"loss": 0.5})
        run.save_samples(1, np.zeros((4, 4, 1), np.uint8))
        synced.clear()
        run.sync()
        assert sorted(synced) == ["metrics.jsonl", "run", "samples", "step_00000001.png"]
        synced.clear()
        run.sync()  # nothing new
        assert set(synced) <= {"run"}
        monkeypatch.setattr(disk, "sync_folder", lambda path: os.stat("/no/such/file"))
        run.sync()
        run.sync()
    assert capsys.readouterr().out.count("warning: ") == 1


def _logged(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_one_object_a_line_without_what_was_not_measured(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        run.log(1, {"gen/loss": 0.5, "disc/r1": float("nan"), "rate": float("inf")})
        run.log(2, {"gen/loss": 0.25})
    assert _logged(tmp_path) == [{"step": 1, "gen/loss": 0.5}, {"step": 2, "gen/loss": 0.25}]


def test_what_was_logged_beyond_the_checkpoint_is_dropped_half_lines_too(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        for step in (1, 2, 3, 4):
            run.log(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    with _open(tmp_path) as run:
        run.start_logs(2)
        run.log(3, {"loss": 30.0})
    assert _logged(tmp_path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 30.0},
    ]


def test_damaged_lines_of_a_log_are_skipped(tmp_path):
    good = '{"step": 1, "loss": 1.0}\n'
    damaged = [
        '{"step": 1, \xff"}\n',
        "[1]\n",
        '{"loss": 2}\n',
        '{"step": "2"}\n',
        "[" * 5000 + "}\n",
    ]
    with _open(tmp_path) as run:
        (tmp_path / "metrics.jsonl").write_text(good + "".join(damaged))
        assert rundir.read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
        run.start_logs(3)
        run.log(4, {"loss": 0.5})
    assert _logged(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 4, "loss": 0.5}]


def test_events_hold_scalars_and_pictures(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        run.log(1, {"gen/loss": 0.5})
        run.save_samples(1, np.zeros((4, 4, 1), np.uint8))
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"gen/loss" in events and b"samples" in events and b"PNG" in events


def test_samples_are_png_files_named_by_step(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    with _open(tmp_path) as run:
        path = run.save_samples(1000, picture)
    assert path == tmp_path / "samples" / "step_00001000.png"
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
