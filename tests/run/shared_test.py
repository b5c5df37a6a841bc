"""The run directory that all processes must see; two processes are in many_processes_test."""

import threading

import pytest

from jaxgan.run import shared
from jaxgan.types import UserError


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".shared.0123", "shared.mine"):
        (tmp_path / name).touch()
    shared.check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["shared.mine"]


def test_a_file_that_another_host_sees_late_is_waited_for(tmp_path):
    threading.Timer(0.3, (tmp_path / "late").touch).start()
    shared._see(tmp_path, "late")


@pytest.mark.parametrize("folder", [".", "missing"])
def test_a_folder_without_it_is_refused_in_time(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(shared, "PATIENCE", 0.3)
    with pytest.raises(UserError, match="put --workdir on a disk that all hosts share"):
        shared._see(tmp_path / folder, "never")
