"""What a run directory notes of who trained in it: starts, ends, and why."""

import os

import pytest

from jaxgan.run import history, rundir
from jaxgan.types import UserError


class Folder:
    """Takes notes."""

    def __init__(self):
        self.lines = []

    def note(self, event, **values):
        self.lines.append({"event": event, **values})


def test_a_start_tells_what_the_run_trains_on():
    folder = Folder()
    with history.session(folder, 5):
        pass
    start, end = folder.lines
    assert start["event"] == "start" and start["step"] == 5
    assert {"jaxgan", "python", "jax", "flax", "optax"} <= set(start["versions"])
    assert start["devices"].endswith(" x cpu") and start["processes"] == 1
    assert end["event"] == "end" and end["why"] == "finished"
    assert end["host_bytes"] > 2**20 and end["seconds"] >= 0


@pytest.mark.parametrize(
    "error, why",
    [
        (SystemExit(143), "stopped by SIGTERM"),
        (SystemExit(None), "SystemExit: None"),
        (UserError("step 3: NaN\nin it"), "UserError: step 3: NaN in it"),
    ],
)
def test_an_end_tells_why_and_lets_the_error_through(error, why):
    folder = Folder()
    with pytest.raises(type(error)), history.session(folder, 0):
        raise error
    assert folder.lines[-1]["why"] == why


def test_a_directory_without_a_history_has_none(tmp_path):
    assert history.read(tmp_path) == []


def test_a_directory_in_use_names_a_process_that_lives(tmp_path):
    assert not rundir.in_use(tmp_path)
    here = os.uname().nodename
    for text, used in (
        ("", False),
        (f"process {os.getpid()} on {here}\n", True),
        (f"process {2**22 + 1} on {here}\n", False),
        ("process 1 on somewhere-else\n", True),
    ):
        (tmp_path / ".lock").write_text(text)
        assert rundir.in_use(tmp_path) is used
