"""Runs that are told to stop, or lose their data, while worker processes read: all is saved."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.data import stream_test
from tests.faults import streamed
from tests.helpers import command, runs


class Run:
    """A process with workers, in a process group of its own."""

    def __init__(self, workdir, **settings):
        self.workdir, self.data = workdir, pathlib.Path(f"{workdir}.data")
        self.data.mkdir(exist_ok=True)
        self.out, self.err = workdir.with_suffix(".out"), workdir.with_suffix(".err")
        argv = [sys.executable, "-W", "ignore", "-m", "tests.faults.streamed", str(workdir)]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*argv, json.dumps(settings)],
                cwd=command.ROOT,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait_for(self, text, seconds=120):
        deadline = time.monotonic() + seconds
        while text not in self.out.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.told()
            time.sleep(0.02)

    def do(self, what, value=""):
        (self.data / what).write_text(str(value))

    def told(self):
        return self.out.read_text(), self.err.read_text()

    def end(self):
        """The exit code, the last line, and stderr; no process is left."""
        code = self.process.wait(90)
        assert stream_test.group_is_gone(self.process.pid), "a worker is left"
        out, err = self.told()
        return code, out.splitlines()[-1], err.splitlines()


# A process with workers of its own, which import all again. By default `signals_test` sends
# signals to a process without, and `stream_test` ends programs that have workers.
@pytest.mark.slow
def test_a_signal_to_the_whole_group_saves_while_workers_read(tmp_path):
    run = Run(tmp_path / "run")
    run.wait_for("step 2/")
    run.do("slow", 0.5)  # training waits for batches nearly always
    time.sleep(1)
    os.killpg(run.process.pid, signal.SIGTERM)
    code, last, err = run.end()
    (saved,) = runs.steps_saved(run.workdir)
    assert (code, last) == (143, f"SIGTERM: saved step {saved}; the same command resumes")
    assert err == ["SIGTERM: saving after this step; again to exit at once"]


@pytest.mark.slow  # three processes with workers of their own
def test_data_that_hang_are_saved_before_the_end_whoever_brings_it(tmp_path):
    for ends, code in (("--data_timeout", 1), ("a signal", 129), ("an outage", 2)):
        run = Run(tmp_path / f"run{code}", data_timeout=20 if code == 1 else 600)
        run.wait_for("step 2/")
        run.do("gone" if code == 2 else "hung")
        if code == 129:
            time.sleep(2)
            os.killpg(run.process.pid, signal.SIGHUP)
        begun = time.monotonic()
        found, last, err = run.end()
        (saved,) = runs.steps_saved(run.workdir)
        assert found == code and saved > 1 and time.monotonic() - begun < 40, ends
        assert f"saved step {saved}" in last, ends
        assert sum("Traceback" in line for line in err) == 0, ends
        assert (code == 1) == any("--data_timeout=20" in line for line in err)
        assert runs.steps_logged(run.workdir)[-1] == saved, ends
        for name in ("gone", "hung"):
            (run.data / name).unlink(missing_ok=True)
        assert Run(run.workdir, num_steps=saved + 2).end()[:2] == (
            0,
            f"finished: {run.workdir} is at step {saved + 2}; see its samples/",
        )


@pytest.mark.parametrize("steps_per_call", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_outage_saves_the_last_whole_step(tmp_path, monkeypatch, capsys, steps_per_call):
    reads = []

    def images():
        reads.append(1)
        if len(reads) == 8:
            raise streamed.UserError("no such folder")
        return {"image": real()["image"]}

    real = runs.images
    monkeypatch.setattr(runs, "images", images)
    monkeypatch.setattr(streamed.Source, "arrays", {}, raising=False)  # read in this process
    every = {"steps_per_call": steps_per_call, "log_every": steps_per_call}
    with pytest.raises(streamed.UserError, match="no such folder"):
        streamed.train(tmp_path / "run", **every)
    (saved,) = runs.steps_saved(tmp_path / "run")
    assert saved % steps_per_call == 0 and saved > 1
    assert f"saved step {saved} before the error that follows" in capsys.readouterr().out
    done = streamed.train(tmp_path / "run", **every, num_steps=saved + 2)
    assert int(done.step) == saved + 2
