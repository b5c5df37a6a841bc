"""A write that never returns, as on a network disk that is gone: training does not wait long."""

import os
import re
import signal

import pytest

from tests.faults import small
from tests.helpers import runs, training


def _stuck(tmp_path, **settings):
    """A process whose log has become a pipe that nobody reads; the log is kept."""
    workdir = tmp_path / "run"
    process = training.Process(workdir, tmp_path, **settings)
    process.wait_for(11)  # a step was saved
    log, pipe = workdir / "metrics.jsonl", tmp_path / "pipe"
    os.mkfifo(pipe)
    os.link(log, tmp_path / "kept")
    os.rename(pipe, log)
    return process, workdir


def test_a_hook_that_blocks_ends_the_process_and_the_last_checkpoint_stays(tmp_path, capsys):
    process, workdir = _stuck(tmp_path, step_timeout=2)
    assert process.wait() == 1, process.text()
    saved, text = runs.steps_saved(workdir), process.err.read_text()
    told = r"error: training stands still: (logging|saving .*) after step \d+ for 2 s"
    assert re.match(rf"{told} \(--step_timeout=2\); stacks of all threads:", text), text
    assert "logfile.py" in text and saved
    os.rename(tmp_path / "kept", workdir / "metrics.jsonl")
    small.train(workdir, num_steps=saved[-1] + 1, sample_every=5, save_every=10)
    assert f"resuming after step {saved[-1]} in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_signal_ends_a_process_that_is_stuck(tmp_path):
    process, _ = _stuck(tmp_path)
    process.tell(signal.SIGTERM)
    process.wait_until(lambda: "again to exit at once" in process.text())
    process.tell(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
