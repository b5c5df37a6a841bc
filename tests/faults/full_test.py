"""Disks that fill up, have no file left, or turn read-only as a process trains, for real.

Training goes on without a traceback. What waited is written when there is space again: the log and
the curves end as if nothing had been.
"""

import json

import pytest

from tests.helpers import disks, events, runs, training

FULL = {"bytes": disks.fill, "files": disks.fill_names}


def _check(text):
    """No traceback, and a warning is said once for each thing that fails."""
    assert "Traceback" not in text and "Exception" not in text, text
    logs = [x for x in text.splitlines() if x.startswith("warning: ") and "was not saved" not in x]
    assert len(logs) <= 8, logs


def _check_whole(workdir):
    """The log has each step once, the curves have what the log has, nothing is left over."""
    logged = runs.steps_logged(workdir)
    assert logged == list(range(1, logged[-1] + 1))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    shown = events.points(workdir)
    pictures = [step for step, _ in shown.pop("samples")]
    assert set(shown) == {name for line in lines for name in line} - {"step"}
    for name, points in shown.items():
        assert [step for step, _ in points] == [x["step"] for x in lines if name in x], name
    there = sorted(int(path.stem[5:]) for path in (workdir / "samples").glob("step_*.png"))
    assert pictures == [step for step in there if step <= logged[-1]]  # more: of a lost process
    assert not [path for path in workdir.rglob("*.tmp")] and len(events.files(workdir)) == 1


def _fill_up(tmp_path, kind, number):
    folder = tmp_path / str(number)
    folder.mkdir()
    with disks.in_memory(folder / "disk") as disk:
        process = training.Process(disk / "run", folder)
        process.wait_for(20)
        ballast = FULL[kind](disk)
        process.wait_for(60)
        for path in ballast:
            path.unlink()
        process.wait_for(30)
        code = process.stop()
        text = process.text()
        assert code == 143 and "SIGTERM: saved step" in text, text
        _check(text)
        _check_whole(disk / "run")


TEN = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "times"),
    [("bytes", 1), pytest.param("bytes", 10, marks=TEN), pytest.param("files", 10, marks=TEN)],
)
def test_a_disk_that_fills_up_costs_nothing_once_there_is_space(tmp_path, kind, times):
    for number in range(times):
        _fill_up(tmp_path, kind, number)


def _turn_read_only(tmp_path, number):
    folder = tmp_path / str(number)
    folder.mkdir()
    image, disk = folder / "image", folder / "disk"
    with disks.of_file(disk, image):
        process = training.Process(disk / "run", folder)
        process.wait_for(20)
        disks.turn_read_only(disk)
        process.wait_for(30)
        assert process.stop() == 1, process.text()
        _check(process.text())
        assert "Read-only file system" in process.text()
    with disks.of_file(disk, image):
        process = training.Process(disk / "run", folder)
        process.wait_for(5)
        assert process.stop() == 143, process.text()
        assert "resuming after step" in process.text()
        _check_whole(disk / "run")


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=TEN)])
def test_a_disk_that_turns_read_only_ends_in_a_line_and_the_run_goes_on_later(tmp_path, times):
    for number in range(times):
        _turn_read_only(tmp_path, number)
