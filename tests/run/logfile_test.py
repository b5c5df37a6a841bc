"""The log: a line is there whole or not at all, and one that cannot be written waits."""

import contextlib
import json
import os
import resource
import signal

import pytest

from jaxgan.run import logfile


@contextlib.contextmanager
def limited(size):
    """No file grows beyond so many bytes: writes take a part, then fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def _steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_line_that_does_not_fit_is_cut_off_and_written_with_the_next(path, capsys):
    log = logfile.LogFile(path)
    log.append(1, {"loss": 0.5})
    before = path.read_bytes()
    with limited(len(before) + 5):  # five bytes of the next line are taken
        log.append(2, {"loss": 0.25})
        log.append(3, {"loss": 0.125})
        assert path.read_bytes() == before
        assert [entry["step"] for entry in log.entries()] == [1, 2, 3]
    log.append(4, {"loss": 0.1})
    assert _steps(path) == [1, 2, 3, 4] and log.entries() == logfile.read(path)
    assert capsys.readouterr().out.splitlines() == [
        f"warning: {path} cannot be written: File too large; its lines wait in memory",
        f"note: {path}: written again",
    ]


def test_what_cannot_even_be_cut_off_is_cut_before_the_next_line(path, monkeypatch):
    log = logfile.LogFile(path)
    log.append(1, {})
    with monkeypatch.context() as patch, limited(path.stat().st_size + 5):
        patch.setattr(os, "truncate", lambda *args: os.stat("/no/such/file"))
        log.append(2, {})
    assert path.read_bytes().endswith(b'\n{"ste')
    assert [entry["step"] for entry in log.entries()] == [1, 2]
    log.append(3, {})
    assert _steps(path) == [1, 2, 3]


def test_so_many_lines_wait_and_no_more(path, monkeypatch, capsys):
    monkeypatch.setattr(logfile, "MOST_WAITING", 3)
    log = logfile.LogFile(path)
    path.mkdir()
    for step in range(1, 6):
        log.append(step, {})
    log.close()
    path.rmdir()
    log.append(6, {})
    assert _steps(path) == [4, 5, 6]
    said = capsys.readouterr().out
    assert said.count("too many lines wait; those from step 1 are lost") == 1
    assert f"{path}: 3 lines are lost" in said


def test_a_log_that_was_removed_begins_again_without_zeros(path):
    log = logfile.LogFile(path)
    log.append(1, {"loss": 0.5})
    with limited(path.stat().st_size + 5):
        log.append(2, {})
    path.unlink()
    log.append(3, {})
    assert _steps(path) == [2, 3]


def test_lines_beyond_a_step_go_without_needing_space(path):
    log = logfile.LogFile(path)
    for step in range(1, 6):
        log.append(step, {})
    inode = path.stat().st_ino
    assert [entry["step"] for entry in logfile.LogFile(path).cut(3)] == [1, 2, 3]
    assert _steps(path) == [1, 2, 3] and path.stat().st_ino == inode
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_lines_that_wait_are_those_of_the_run_after_a_rollback(path):
    log = logfile.LogFile(path)
    log.append(1, {})
    with limited(path.stat().st_size):
        for step in (2, 3, 4):
            log.append(step, {})
        assert [entry["step"] for entry in log.cut(2)] == [1, 2]
    log.append(3, {})
    assert _steps(path) == [1, 2, 3]


ZEROS = b"\0" * 5000


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"", [1, 2]),
        (ZEROS, [1, 2]),  # as a power cut leaves a file that had grown
        (b'{"step": 3, "lo' + ZEROS, [1, 2]),
        (ZEROS + b'{"step": 3}\n{"step": 4}\n', [1, 2, 4]),
        (b'{"step": -3}\n{"step": 1' + b"0" * 30 + b"}\n", [1, 2]),
    ],
    ids=["whole", "zeros", "cut and zeros", "zeros between", "no such step"],
)
def test_what_a_power_cut_left_is_dropped_and_said(path, tail, kept, capsys):
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + tail)
    assert [entry["step"] for entry in logfile.read(path)] == kept
    log = logfile.LogFile(path)
    assert [entry["step"] for entry in log.cut(9)] == kept
    log.append(9, {})
    assert _steps(path) == [*kept, 9]
    assert ("that cannot be read are left out" in capsys.readouterr().out) == bool(tail)


def test_a_log_is_synced_once_after_each_change(path, monkeypatch):
    synced = []
    monkeypatch.setattr(logfile.disk, "sync_file", synced.append)
    log = logfile.LogFile(path)
    log.sync()  # there is none yet
    log.append(1, {})
    log.sync()
    log.sync()
    log.append(2, {})
    log.sync()
    assert synced == [path, path]
