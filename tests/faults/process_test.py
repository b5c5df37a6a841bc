"""Processes that are killed, fail, or wait for ever: what was saved is whole, and goes on."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from jaxgan.run import launch, rundir, saver, watchdog
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import command, runs, tiny

NUM_STEPS = 40
EVERY = 4
SETTINGS = {"num_steps": NUM_STEPS, "log_every": 1, "save_every": EVERY, "sample_every": 20}


def _run(workdir, meanwhile=None, **settings):
    argv = runs.flags(workdir, **{**SETTINGS, **settings})
    return command.run(runs.MODULE, *argv, meanwhile=meanwhile)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A process that nothing stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    result = _run(workdir)
    assert result.code == 0 and result.err == "", result
    return workdir, result.out


@pytest.mark.slow  # each start compiles; `kills_test` kills by default what computes nothing
@pytest.mark.parametrize("kills", [10, 200])
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(
    straight, tmp_path, kills
):
    seed = random.randrange(10**6)
    moments, left, number = random.Random(seed), kills, 0
    while left:
        workdir, earliest, finished = tmp_path / f"run{number}", 0, False
        while left and not finished:
            background = moments.random() < 0.5
            result = _run(workdir, command.stop(moments), async_saves=background)
            assert result.code in (0, -signal.SIGKILL), (seed, result)
            finished = result.code == 0
            left -= not finished
            lines = result.out.splitlines()
            begun = [x for x in lines if x.startswith(("resuming after step", "starting at step"))]
            if begun:
                start = int(begun[0].split(" step ")[1].split()[0])
                assert start >= earliest, (seed, earliest, start)
                seen = [int(x.split()[1].split("/")[0]) for x in lines if x.startswith("step ")]
                # A step being written in the background may be lost with the interval before it.
                lost = 2 * EVERY if background else EVERY
                earliest = max([start, *(x - lost for x in seen)])
            assert not any("damaged" in x or "manifest" in x for x in lines), (seed, lines)
        if not finished:
            result = _run(workdir)
            assert result.code == 0, (seed, result)
        assert runs.different(workdir, straight[0], NUM_STEPS) == [], seed
        assert _logged(workdir) == _logged(straight[0]), seed
        assert not list((workdir / "checkpoints").glob("*tmp*")), seed
        number += 1


def _logged(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "images_per_second": 0, "seconds": 0} for line in lines]


def test_a_finished_run_says_so_changes_nothing_and_exits_0(straight):
    workdir, out = straight
    assert f"finished: {workdir} is at step {NUM_STEPS}" in out
    before, record = command.tree(workdir / "checkpoints"), (workdir / "config.json").read_text()
    result = _run(workdir, num_steps=NUM_STEPS // 2)
    assert result.code == 0 and result.err == "", result
    assert result.out.startswith(f"finished: {workdir} is at step {NUM_STEPS}")
    assert command.tree(workdir / "checkpoints") == before
    assert (workdir / "config.json").read_text() == record


def test_what_an_interrupted_save_left_is_removed_and_reported(straight, tmp_path, capsys):
    left = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    (tmp_path / "checkpoints" / "mine.tmp").mkdir()
    with saver.Manager(tmp_path / "checkpoints", keep=lambda steps: steps):
        pass
    assert capsys.readouterr().out == f"removed {left}, which an interrupted save left\n"
    assert os.listdir(tmp_path / "checkpoints") == ["mine.tmp"]


def test_an_error_after_a_step_saves_that_step_and_is_shown(tmp_path, capsys):
    expected = small.train(tmp_path / "straight")
    with pytest.raises(ZeroDivisionError):
        small.train(tmp_path / "run", at={5: lambda: 1 / 0}, save_every=4)
    assert runs.steps_saved(tmp_path / "run") == [4, 5]
    assert "saved step 5 before the error that follows\n" in capsys.readouterr().out
    assert tiny.equal(small.train(tmp_path / "run"), expected)


def test_an_error_in_a_step_leaves_the_last_checkpoint(tmp_path):
    count = []

    def step(key, now, batch):
        count.append(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        small.train(tmp_path / "run", step=step)
    assert count and runs.steps_saved(tmp_path / "run") == []
    assert int(small.train(tmp_path / "run").step) == 6


def test_an_error_while_another_save_fails_is_the_one_that_is_raised(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saver.manifest, "write", lambda folder, **record: [][0])
    with pytest.raises(ZeroDivisionError):
        small.train(tmp_path / "run", at={3: lambda: 1 / 0}, save_every=2)
    said = capsys.readouterr().out
    assert "warning: step 2 was not saved" in said and "warning: the last step is not saved" in said


@pytest.mark.parametrize("text", ["RESOURCE_EXHAUSTED: Out of memory while trying", "MemoryError"])
def test_memory_that_does_not_suffice_is_one_line(tmp_path, text):
    error = MemoryError() if text == "MemoryError" else jax.errors.JaxRuntimeError(text)

    def step(key, now, batch):
        raise error

    with pytest.raises(launch.OutOfMemory, match="--batch_size=16 over 8 x cpu") as caught:
        small.train(tmp_path / "run", step=step)
    assert "--compute_dtype" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert int(small.train(tmp_path / "run").step) == 6


def test_other_errors_of_the_runtime_are_shown_as_they_are(tmp_path):
    def step(key, now, batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        small.train(tmp_path / "run", step=step)


HOLDER = """
import sys, time
from jaxgan.run import rundir
rundir._lock(__import__("pathlib").Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    argv = [sys.executable, "-W", "ignore", "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=command.ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
            rundir._lock(tmp_path)
        holder.kill()
    rundir._release(rundir._lock(tmp_path))


@pytest.mark.parametrize(
    ("holder", "held"),
    [
        ("", False),
        ("rubbish", False),
        (f"process {os.getpid()} on {socket.gethostname()}", True),
        (f"process 4194999 on {socket.gethostname()}", False),  # above the largest number
        ("process 7 on elsewhere", True),  # nobody here can know
    ],
    ids=["nobody", "rubbish", "this process", "a dead one", "elsewhere"],
)
def test_where_the_system_has_no_locks_the_file_says_who_holds_it(
    tmp_path, monkeypatch, holder, held
):
    def unsupported(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(rundir.fcntl, "flock", unsupported)
    (tmp_path / ".lock").write_text(holder + "\n")
    if held:
        with pytest.raises(UserError, match=f"in use by {holder}; wait"):
            rundir._lock(tmp_path)
    else:
        rundir._release(rundir._lock(tmp_path))


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot be written"):
        rundir._lock(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_newest_step_is_that_of_the_highest_number_whatever_the_clock_said(tmp_path):
    small.train(tmp_path / "run", num_steps=4)
    for step, when in ((4, 1.0), (2, 2e9)):
        for path in (tmp_path / "run" / "checkpoints" / str(step)).rglob("*"):
            os.utime(path, (when, when))
    assert int(small.train(tmp_path / "run", num_steps=4).step) == 4


def test_a_reader_that_hangs_ends_the_process_with_what_every_thread_does(tmp_path):
    program = (
        "import time\n"
        "from jaxgan.run import watchdog\n"
        "def stuck():\n"
        "    yield 1\n"
        "    time.sleep(60)\n"
        "with watchdog.Watchdog(limit=0.3, warn=0.1, tick=0.05) as dog:\n"
        "    for batch in dog.over(stuck()): print(batch, flush=True)\n"
    )
    argv = [sys.executable, "-c", program]
    result = subprocess.run(argv, cwd=command.ROOT, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert result.stdout.splitlines()[0] == "1" and "has waited" in result.stdout
    assert "--data_timeout=0.3" in result.stderr and "in stuck" in result.stderr


def test_a_process_that_was_stopped_for_long_has_not_waited_for_data(monkeypatch):
    clock, ended = [0.0], []
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock[0])
    dog = watchdog.Watchdog(limit=10, warn=5, tick=0.01, end=lambda: ended.append(clock[0]))

    def batches():
        for _ in range(3):
            clock[0] += 30.0  # SIGSTOP, SIGCONT
            time.sleep(0.05)
        yield 1

    with dog:
        assert list(dog.over(batches())) == [1]
    assert ended == []
