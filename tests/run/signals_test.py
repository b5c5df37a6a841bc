"""Signals within one process; `faults/signals_test.py` sends them to runs."""

import os
import signal

import pytest

from jaxgan.run import signals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
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
