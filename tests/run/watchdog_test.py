"""The watchdog: a wait is reported once, and ends the process only past the limit.

What it prints as it ends a process is in tests/faults/process_test.py.
"""

import time

import pytest

from jaxgan.run import watchdog


def _slowly(seconds):
    yield 1
    time.sleep(seconds)
    yield 2
    yield 3


def test_batches_pass_in_order_and_errors_come_through(capsys):
    def broken():
        yield from (1, 2)
        raise KeyError("mine")

    with watchdog.Watchdog(limit=1) as dog:
        assert list(dog.over([1, 2, 3])) == [1, 2, 3]
        with pytest.raises(KeyError, match="mine"):
            list(dog.over(broken()))
    assert capsys.readouterr().out == ""


def test_a_long_wait_is_reported_once_and_not_ended_below_the_limit(capsys):
    ended = []
    dog = watchdog.Watchdog(limit=60, warn=0.1, tick=0.01, end=lambda: ended.append(1))
    with dog:
        assert list(dog.over(_slowly(0.4))) == [1, 2, 3]
    assert capsys.readouterr().out.count("warning: training has waited") == 1 and not ended


@pytest.mark.parametrize(("limit", "ends"), [(0.1, 1), (0, 0)])
def test_a_wait_past_the_limit_ends_the_process_unless_there_is_none(capfd, limit, ends):
    ended = []
    dog = watchdog.Watchdog(limit=limit, warn=60, tick=0.01, end=lambda: ended.append(1))
    with dog:
        list(dog.over(_slowly(0.3)))
    assert len(ended) == ends and capfd.readouterr().err.count("no data for") == ends
