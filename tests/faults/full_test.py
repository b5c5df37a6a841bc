"""Disks that fill up, have no file left, or turn read-only as a process trains, for real.

Training goes on without a traceback. What waited is written when there is space again: the log and
the curves end as if nothing had been.
"""

import json
import os
import pathlib
import signal
import time

import pytest

from tests.helpers import command, disks, events, runs

SETTINGS = {"num_steps": 10**6, "log_every": 1, "sample_every": 5, "save_every": 10}
FULL = {"bytes": disks.fill, "files": disks.fill_names}


class _Process:
    """A process that trains in a directory; ended when the test ends."""

    def __init__(self, workdir, folder, **settings):
        self.out, self.err = folder / "out", folder / "err"
        settings = {**SETTINGS, **settings, "data_dir": str(runs.data_file())}
        self._number = command.start(
            "tests.faults.small", str(workdir), json.dumps(settings), out=self.out, err=self.err
        )

    def wait_for(self, more):
        """Waits until so many more steps were taken."""
        start = seen = self._steps()
        for _ in range(6000):
            if seen >= start + more:
                return
            assert self._lives(), self.text()[-3000:]
            time.sleep(0.01)
            seen = self._steps()
        pytest.fail(f"no step for a minute: {self.text()[-3000:]}")

    def stop(self):
        """Tells it to save and end; its exit code."""
        os.kill(self._number, signal.SIGTERM)
        return command.wait(self._number)

    def text(self):
        return self.out.read_text() + self.err.read_text()

    def _lives(self):
        state = pathlib.Path(f"/proc/{self._number}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"

    def _steps(self):
        return sum(line.startswith("step ") for line in self.out.read_text().splitlines())


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
        process = _Process(disk / "run", folder)
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


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FULL)
def test_a_disk_that_fills_up_costs_nothing_once_there_is_space(tmp_path, kind, times):
    for number in range(times):
        _fill_up(tmp_path, kind, number)


def _turn_read_only(tmp_path, number):
    folder = tmp_path / str(number)
    folder.mkdir()
    image, disk = folder / "image", folder / "disk"
    with disks.of_file(disk, image):
        process = _Process(disk / "run", folder)
        process.wait_for(20)
        disks.turn_read_only(disk)
        process.wait_for(30)
        assert process.stop() == 1, process.text()
        _check(process.text())
        assert "Read-only file system" in process.text()
    with disks.of_file(disk, image):
        process = _Process(disk / "run", folder)
        process.wait_for(5)
        assert process.stop() == 143, process.text()
        assert "resuming after step" in process.text()
        _check_whole(disk / "run")


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_disk_that_turns_read_only_ends_in_a_line_and_the_run_goes_on_later(tmp_path, times):
    for number in range(times):
        _turn_read_only(tmp_path, number)
