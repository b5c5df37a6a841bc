"""Reports where training stands still, and ends the process after a limit.

A reader that hangs (a dead network mount, a deadlock in a decoder), a write to a disk that no
longer answers, a program that never returns would otherwise block the devices until somebody
notices. What counts is the time within one phase: a wait for data, a step, or one hook after it.
Work that takes long and knows how far it is (`progress`) begins anew each time.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from jaxgan.run.loop import Hook
from jaxgan.run.trouble import tell
from jaxgan.state import GANState
from jaxgan.types import Metrics

T = TypeVar("T")
_watching: list["Watchdog"] = []


class _Phase(NamedTuple):
    """What training does, and since which event."""

    name: str
    step: int | None  # None: it is not watched
    number: int


class Watchdog:
    """Measures in the background how long each phase of training takes; a context manager."""

    DATA = "waiting for data"
    STEP = "computing, or compiling"

    def __init__(
        self,
        *,
        limit: float,
        warn: float = 30.0,
        step_limit: float = 0.0,
        step_warn: float = 300.0,
        start: int = 0,
        tick: float = 1.0,
        end: Callable[[], None] = lambda: os._exit(1),
        end_step: Callable[[], None] = lambda: os._exit(1),
    ):
        """Prepares the background thread.

        Args:
          limit: seconds of waiting for data after which every thread's stack is printed and the
            process ends; 0 for no limit.
          warn: seconds of waiting for data after which a warning is printed.
          step_limit: the same limit of every other phase.
          step_warn: seconds after which a warning is printed in those.
          start: the step that training begins after.
          tick: seconds between checks. The pause of a process that was stopped and continued counts
            as two ticks at most.
          end: ends the process where there is no data; the main thread, which is blocked, cannot.
          end_step: ends it in any other phase, in which the state may not be whole.
        """
        self._data, self._other = (warn, limit), (step_warn, step_limit)
        self._tick, self._end, self._end_step = tick, end, end_step
        self._step = start
        self._phase = _Phase("", None, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        """Starts the thread."""
        _watching.append(self)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        """Stops the thread."""
        _watching.remove(self)
        self._done.set()
        self._thread.join()

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """Passes batches through: measures the wait for each, and the step that takes it.

        Args:
          batches: those of training.

        Yields:
          The same batches.
        """
        iterator = iter(batches)
        while True:
            self._enter(self.DATA)
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._enter("", watched=False)
            self._enter(self.STEP)
            try:
                yield batch
            finally:
                self._enter("", watched=False)

    def named(self, name: str, hook: Hook, *, watched: bool = True) -> Hook:
        """Makes a hook a phase of its own.

        Args:
          name: what it does.
          hook: called after a step.
          watched: whether it is watched, or may take as long as another process does.

        Returns:
          The hook.
        """

        def phase(step: int, state: GANState, metrics: Metrics) -> None:
            self._step = step
            self._enter(name, watched=watched)
            try:
                hook(step, state, metrics)
            finally:
                self._enter(self.STEP)

        return phase

    def again(self) -> None:
        """Begins the phase anew: there was progress in it."""
        self._phase = self._phase._replace(number=self._phase.number + 1)

    def _enter(self, name: str, *, watched: bool = True) -> None:
        self._phase = _Phase(name, self._step if watched else None, self._phase.number + 1)

    def _watch(self) -> None:
        seen, waited, last = self._phase, 0.0, time.monotonic()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            elapsed, last = min(now - last, 2 * self._tick), now
            phase = self._phase
            if phase.step is None or phase != seen:
                seen, waited = phase, 0.0
                continue
            warn, limit = self._data if phase.name == self.DATA else self._other
            warned, waited = waited >= warn, waited + elapsed
            if waited >= warn and not warned:
                tell(f"warning: {_told(phase, waited)}")
            if limit and waited >= limit:
                self._stop(phase, waited, limit)
                return

    def _stop(self, phase: _Phase, waited: float, limit: float) -> None:
        """Prints what every thread does, and ends the process."""
        if phase.name == self.DATA:
            text = f"no data for {waited:.0f} s (--data_timeout={limit:g})"
        else:
            text = f"{_told(phase, waited)} (--step_timeout={limit:g})"
        with contextlib.suppress(OSError, ValueError):  # stderr may be closed
            print(f"error: {text}; stacks of all threads:", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        (self._end if phase.name == self.DATA else self._end_step)()


def progress() -> None:
    """Says that work that takes long goes on; without a watchdog it does nothing."""
    for watchdog in _watching:
        watchdog.again()


def _told(phase: _Phase, waited: float) -> str:
    if phase.name == Watchdog.DATA:
        return f"training has waited {waited:.0f} s for data"
    return f"training stands still: {phase.name} after step {phase.step} for {waited:.0f} s"
