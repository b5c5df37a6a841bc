"""Signals that come while JAX is being imported, and output that nobody reads."""

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jaxgan.run import cli, early
from tests.faults import small
from tests.helpers import command


def _is_caught(process, signum):
    """Whether a process has a handler for a signal."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signum - 1) & 1)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("module", ["experiments.mnist", "-c"])
def test_signals_during_imports_are_kept_or_end_in_one_line(module):
    entry = ["-c", "from jaxgan.run import early; early.main()", "mnist"]  # the command `jaxgan`
    argv = [sys.executable, *(entry if module == "-c" else ["-m", module])]
    process = subprocess.Popen(argv, cwd=command.ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not _is_caught(process, signal.SIGUSR1):
        time.sleep(0.001)
    for signum in (signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(signum)
        time.sleep(0.05)
    _, said = process.communicate(timeout=60)
    assert said.splitlines() == [
        "SIGUSR1: saving after the first step",
        "SIGTERM: stopped; no training to save",
    ]
    assert process.returncode == 143


def test_a_signal_between_imports_and_training_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(early, "_program", True)
    with pytest.raises(SystemExit) as caught:
        cli.or_one_line(lambda: early._end(signal.SIGHUP, None))
    assert caught.value.code == 129
    assert capsys.readouterr().err == "SIGHUP: stopped; no training to save\n"


def test_handlers_that_are_there_already_stay(monkeypatch):
    mine = [signal.signal(signum, lambda *_: None) for signum in early.STOPPING]
    try:
        set_by_us = [signal.getsignal(signum) for signum in early.STOPPING]
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)
        try:
            early.prepare()
            assert [signal.getsignal(signum) for signum in early.STOPPING] == set_by_us
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGUSR1, before[1])
    finally:
        for signum, handler in zip(early.STOPPING, mine, strict=True):
            signal.signal(signum, handler)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_printing_goes_on_without_a_word_where_the_reader_has_gone(monkeypatch, stream):
    reading, writing = os.pipe()
    with open(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        with early.lasting_output():
            print("one", file=getattr(sys, stream), flush=True)
            os.close(reading)
            for _ in range(3):
                print("two", file=getattr(sys, stream), flush=True)
        assert getattr(sys, stream) is pipe
        os.fstat(writing)  # leads to nothing now, so that what is left in the buffer goes there


def test_a_full_disk_costs_lines_and_closed_streams_nothing(monkeypatch):
    class Full:
        written = ""
        full = True

        def write(self, text):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written += text

        def flush(self):
            pass

    disk = Full()
    monkeypatch.setattr(sys, "stdout", disk)
    with early.lasting_output():
        print("lost")
        disk.full = False
        print("kept")
    assert "kept" in disk.written and "lost" not in disk.written
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with early.lasting_output():
        print("nothing", flush=True)


def test_a_run_goes_on_where_nobody_reads_what_it_says(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        state = small.train(tmp_path / "run")
    assert state is not None and int(state.step) == 6


def test_no_file_takes_the_place_of_a_stream_that_is_closed(tmp_path):
    program = (
        "import os, sys\n"
        "from jaxgan.run import early\n"
        "early.prepare()\n"
        "number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "print('out', file=sys.stdout); print('err', file=sys.stderr)\n"
        "os.write(1, b'out'); os.write(2, b'err')\n"
        "sys.exit(number <= 2)\n"
    )
    path = tmp_path / "data"
    with contextlib.chdir(command.ROOT):
        argv = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *argv], check=False)
    assert done.returncode == 0 and path.read_bytes() == b""
