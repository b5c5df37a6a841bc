"""Signals: each saves what it should, once, whenever it comes, and the exit code says which."""

import json
import os
import random
import signal
import threading
import time

import pytest

from jaxgan.run import checkpoint, experiment, manifest, signals
from tests.faults import small
from tests.helpers import command, runs, tiny


def _send(signum):
    return lambda: os.kill(os.getpid(), signum)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_under_way_and_the_code_names_it(tmp_path, capsys, signum, code):
    expected = small.train(tmp_path / "straight")
    with pytest.raises(SystemExit) as caught:
        small.train(tmp_path / "run", at={3: _send(signum)})
    assert caught.value.code == code and runs.steps_saved(tmp_path / "run") == [2, 3]
    assert f"{signum.name}: saved step 3; the same command resumes" in capsys.readouterr().out
    assert tiny.equal(small.train(tmp_path / "run"), expected)


def test_sigusr1_saves_once_and_goes_on(tmp_path, capfd):
    before = signal.getsignal(signal.SIGUSR1)
    state = small.train(tmp_path / "run", at={2: _send(signal.SIGUSR1)}, save_every=100)
    assert int(state.step) == 6 and runs.steps_saved(tmp_path / "run") == [3, 6]
    assert capfd.readouterr().err.count("SIGUSR1: saving after the next step") == 1
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.parametrize("at", [4, 5])  # at the step that is being written, and at the one after
def test_sigterm_during_a_save_waits_for_it_and_saves_no_step_twice(tmp_path, monkeypatch, at):
    written, write = [], manifest.write

    def slowly(folder, **record):
        time.sleep(0.5)
        written.append(int(folder.name.split(".")[0]))
        write(folder, **record)

    monkeypatch.setattr(manifest, "write", slowly)
    with pytest.raises(SystemExit) as caught:
        small.train(tmp_path / "run", at={at: _send(signal.SIGTERM)}, save_every=4)
    assert caught.value.code == 143
    assert written == sorted({4, at}) == runs.steps_saved(tmp_path / "run")


def test_ctrl_c_during_the_score_after_training_ends_it_at_once(tmp_path):
    def measure(entries):
        _send(signal.SIGINT)()
        return {"modes": 1.0}

    score = experiment.Score("test", 4, measure, floor={}, best="modes")
    with pytest.raises(KeyboardInterrupt):
        small.train(tmp_path / "run", score=score)
    assert runs.steps_saved(tmp_path / "run")[-1] == 6
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_signal_whose_save_fails_says_so_and_does_not_pretend(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "write", lambda folder, **record: 1 / 0)
    with pytest.raises(checkpoint.saver.SaveFailed, match="step 3 was not saved"):
        small.train(tmp_path / "run", at={3: _send(signal.SIGTERM)}, save_every=100)
    assert "saved step" not in capsys.readouterr().out


def test_processes_act_on_the_signal_they_agree_on():
    told = []

    def agree(signum):
        told.append(signum)
        return signal.SIGTERM if len(told) == 3 else signal.SIGUSR1 if len(told) == 2 else 0

    with signals.Interrupts(agree) as interrupts:
        interrupts(1, small.state(), {})
        assert not interrupts.save_asked()
        interrupts(2, small.state(), {})  # another process was asked to save
        assert interrupts.save_asked() and not interrupts.save_asked()
        with pytest.raises(signals.Interrupted) as caught:
            interrupts(3, small.state(), {})
    assert caught.value.signum == signal.SIGTERM and told == [0, 0, 0]


SETTINGS = {"num_steps": 9000, "log_every": 1, "save_every": 4, "sample_every": 1000}


def _run(workdir, meanwhile=None, **settings):
    """A process that trains, and is sent signals meanwhile."""
    settings = {**SETTINGS, **settings, "data_dir": str(runs.data_file())}
    return command.run(
        "tests.faults.small", str(workdir), json.dumps(settings), meanwhile=meanwhile
    )


def _terminated(workdir, moments):
    """Sends SIGTERM a moment after some step was printed; the result, and that step."""
    extra, delay, seen = moments.randrange(1, 9), 0.3 * moments.random(), []

    def meanwhile(child, out):
        start = None
        for _ in range(10_000):
            steps = [x for x in out.read_text().splitlines() if x.startswith("step ")]
            start = len(steps) if start is None and steps else start
            if start is not None and len(steps) >= start + extra:
                break
            time.sleep(0.01)
        time.sleep(delay)
        seen.append(len(steps))
        os.kill(child, signal.SIGTERM)

    result = _run(workdir, meanwhile)
    return result, seen[0]


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_sigterm_at_random_moments_always_saves(tmp_path, times):
    seed, saved = random.randrange(10**6), 0
    moments = random.Random(seed)
    for _ in range(times):
        result, seen = _terminated(tmp_path / "run", moments)
        assert result.code == 143 and "Traceback" not in result.err, (seed, result)
        last = result.out.splitlines()[-1]
        assert last.startswith("SIGTERM: saved step "), (seed, last)
        before, saved = saved, int(last.split()[3].strip(";"))
        assert saved >= before + seen and runs.steps_saved(tmp_path / "run")[-1] == saved, seed
    assert runs.steps_logged(tmp_path / "run") == list(range(1, saved + 1)), seed


def test_a_second_signal_ends_the_process_at_once_and_the_checkpoint_before_is_whole(tmp_path):
    workdir, done = tmp_path / "run", threading.Event()

    def meanwhile(child, out):
        for _ in range(10_000):
            if "step 5/" in out.read_text():
                break
            time.sleep(0.01)
        os.kill(child, signal.SIGSTOP)  # both are there when it goes on
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGCONT)
        done.set()

    result = _run(workdir, meanwhile)
    assert done.is_set() and result.code in (-signal.SIGTERM, -signal.SIGINT), result
    assert "saved step" not in result.out and result.err.count("again to exit at once") == 1
    resumed = _run(workdir, num_steps=4)
    assert resumed.code == 0 and resumed.out.splitlines()[-1].startswith("finished: "), resumed
