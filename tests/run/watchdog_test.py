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


def _train(dog, hooks, steps=2):
    for step, _ in zip(range(1, steps + 1), dog.over([0] * steps), strict=True):
        for hook in hooks:
            hook(step, None, {})


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


def _blocking(seconds, at=2):
    def hook(step, state, metrics):
        if step == at:
            time.sleep(seconds)

    return hook


def test_a_hook_that_blocks_is_named_with_its_step_and_ends_the_process(capfd):
    ended, data = [], []
    dog = watchdog.Watchdog(
        limit=0.01, step_limit=0.1, step_warn=0.05, start=7, tick=0.01,
        end=lambda: data.append(1), end_step=lambda: ended.append(1),
    )  # fmt: skip
    with dog:
        _train(dog, [dog.named("saving samples", _blocking(0.4))])
    said = capfd.readouterr()
    assert (len(ended), data) == (1, [])  # no lack of data, for which there is another end
    assert "warning: training stands still: saving samples after step 2 for 0 s" in said.out
    assert "saving samples after step 2 for 0 s (--step_timeout=0.1); stacks" in said.err
    assert "in hook" in said.err


def test_a_step_that_never_returns_is_named_too(capsys):
    dog = watchdog.Watchdog(limit=60, step_warn=0.05, start=7, tick=0.01)
    with dog:
        for _ in dog.over([1]):
            time.sleep(0.3)
    told = "warning: training stands still: computing, or compiling after step 7 for 0 s"
    assert capsys.readouterr().out.splitlines() == [told]


def test_what_goes_on_has_not_stood_still(capfd):
    ended = []

    def in_pieces(step, state, metrics):
        for _ in range(8):
            time.sleep(0.05)
            watchdog.progress()

    watchdog.progress()  # nobody watches
    dog = watchdog.Watchdog(limit=60, step_limit=0.3, tick=0.01, end_step=lambda: ended.append(1))
    with dog:
        hooks = [dog.named("scoring", in_pieces)]
        hooks += [dog.named(f"hook {n}", _blocking(0.15)) for n in range(3)]
        hooks += [dog.named("waiting for another", _blocking(0.5), watched=False)]
        _train(dog, hooks)
    assert ended == [] and capfd.readouterr().err == ""
