"""Signals within one process; `faults/signals_test.py` sends them to runs."""

import os
import signal
import sys

import pytest

from jaxgan.run import early, signals

STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU]


@pytest.mark.parametrize("signum", STOPPING)
def test_a_signal_stops_training_after_the_step_under_way(signum, capfd):
    before = signal.getsignal(signum)
    with signals.Interrupts() as interrupts:
        interrupts(1, "first", {})  # pyright: ignore[reportArgumentType]
        os.kill(os.getpid(), signum)
        with pytest.raises(signals.Interrupted) as caught:
            interrupts(2, "second", {})  # pyright: ignore[reportArgumentType]
    assert caught.value.signum == signum and caught.value.state == "second"
    assert signal.getsignal(signum) is before
    assert capfd.readouterr().err.count("saving after this step") == 1


def test_the_second_signal_ends_the_process_at_once(monkeypatch):
    raised = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    with signals.Interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        assert raised == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert raised == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_once_training_has_ended_a_signal_does_what_it_did_before_it(monkeypatch):
    raised = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    before = {signum: signal.getsignal(signum) for signum in STOPPING}
    with signals.Interrupts() as interrupts:
        interrupts.end()
        assert {signum: signal.getsignal(signum) for signum in STOPPING} == before
        assert raised == []
    with signals.Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)  # while the last step is saved
        interrupts.end()
    assert raised == [signal.SIGTERM]


def test_once_training_has_ended_a_request_to_save_is_told_that_nothing_is_left(capfd):
    with signals.Interrupts() as interrupts:
        interrupts.end()
        os.kill(os.getpid(), signal.SIGUSR1)
        interrupts(9, "state", {})  # pyright: ignore[reportArgumentType]
        assert not interrupts.save_asked()
    assert capfd.readouterr().err == (
        "SIGUSR1: training has ended, there is nothing left to save\n"
    )


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGXCPU])
def test_what_the_system_sends_again_and_again_does_not_end_the_process_at_once(signum, capfd):
    with signals.Interrupts() as interrupts:
        for _ in range(3):
            os.kill(os.getpid(), signum)
        assert interrupts.signum == signum
    assert capfd.readouterr().err.count("saving after this step") == 1


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.signum
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_does_not_wait_for_a_batch_but_for_all_other_work():
    def batches():
        yield 1
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the wait went on")

    with signals.Interrupts() as interrupts:
        passed = interrupts.over(batches(), stop=sys.exit)
        assert next(passed) == 1
        with pytest.raises(SystemExit) as caught:
            next(passed)
        assert caught.value.code == signal.SIGTERM
    with signals.Interrupts() as interrupts:
        for _ in interrupts.over([1], stop=sys.exit):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.signum == signal.SIGTERM


def test_a_save_asked_for_before_training_is_made_after_the_first_step(monkeypatch):
    monkeypatch.setattr(early, "_asked", True)
    with signals.Interrupts() as interrupts:
        assert not interrupts.save_asked()
        interrupts(1, "first", {})  # pyright: ignore[reportArgumentType]
        assert interrupts.save_asked() and not interrupts.save_asked()
    assert not early.take_asked()
