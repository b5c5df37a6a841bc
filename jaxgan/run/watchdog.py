"""Reports how long training waits for data, and ends the process after a limit.

A reader that hangs (a dead network mount, a deadlock in a decoder) would otherwise block the
devices until somebody notices.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Watchdog:
    """Measures in the background how long training waits for a batch; a context manager."""

    def __init__(
        self,
        *,
        limit: float,
        warn: float = 30.0,
        tick: float = 1.0,
        end: Callable[[], None] = lambda: os._exit(1),
    ):
        """Prepares the background thread.

        Args:
          limit: seconds after which every thread's stack is printed and the process ends; 0 for no
            limit.
          warn: seconds after which a warning is printed.
          tick: seconds between checks. The pause of a process that was stopped and continued counts
            as two ticks at most.
          end: ends the process; the main thread, which is blocked, cannot.
        """
        self._limit, self._warn, self._tick, self._end = limit, warn, tick, end
        self._waiting: int | None = None  # number of the batch being waited for, from 1
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        """Stops the thread."""
        self._done.set()
        self._thread.join()

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """Passes batches through and measures the wait for each.

        Args:
          batches: those of training.

        Yields:
          The same batches.
        """
        iterator, number = iter(batches), 0
        while True:
            number += 1
            self._waiting = number
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = None
            yield batch

    def _watch(self) -> None:
        seen, waited, last = None, 0.0, time.monotonic()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            elapsed, last = min(now - last, 2 * self._tick), now
            waiting = self._waiting
            if waiting is None or waiting != seen:
                seen, waited = waiting, 0.0
                continue
            warned, waited = waited >= self._warn, waited + elapsed
            if waited >= self._warn and not warned:
                print(f"warning: training has waited {waited:.0f} s for data", flush=True)
            if self._limit and waited >= self._limit:
                print(
                    f"error: no data for {waited:.0f} s (--data_timeout={self._limit:g}); stacks "
                    "of all threads:",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
                self._end()
                return
