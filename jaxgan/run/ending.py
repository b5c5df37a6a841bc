"""How training ends before its last step: what is whole is saved, whatever ended it."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from jaxgan.parallel import processes, watch
from jaxgan.run import checkpoint, early, hooks, signals
from jaxgan.state import GANState
from jaxgan.types import UserError

T = TypeVar("T")
PATIENCE = 10.0  # seconds in which readers that hang have to end


class Ending:
    """Saves the last whole state where a signal, an error or a lack of data ends training.

    A context manager around the loop. In a run of several processes an error in one of them saves
    nothing: the others, in the middle of a step, could not join in.
    """

    def __init__(
        self,
        manager: Any,
        interrupts: signals.Interrupts,
        newest: hooks.Newest,
        flush: Callable[[], None],
    ):
        """Takes what there is to save, and what writes it.

        Args:
          manager: of the checkpoints.
          interrupts: the signals.
          newest: the hook that keeps the state.
          flush: called before each save: writes the log so far, and raises where the state is not
            worth saving.
        """
        self._manager, self._interrupts = manager, interrupts
        self._newest, self._flush = newest, flush
        self._lost: Exception | None = None  # of the batches
        self._stopping = False

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """Passes batches through, and tells their errors from others.

        Args:
          batches: those of training.

        Yields:
          The same batches.
        """
        several = processes.several()
        iterator = iter(batches if several else self._interrupts.over(batches, self._stop))
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                self._lost = None if self._stopping else error
                raise
            yield batch

    def without_data(self) -> None:
        """Saves and ends the process, from another thread: this one waits for a batch for ever."""
        self._save_whole(self._newest.take())
        if processes.several():
            watch.leave("has no data", 1)
        os._exit(1)

    def __enter__(self) -> "Ending":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Saves what is whole; a signal becomes `SystemExit`, another error stays what it is."""
        del kind, trace
        if isinstance(error, signals.Interrupted):
            self._stop(error.signum, error.state)
        elif isinstance(error, UserError) and error is not self._lost:
            return  # nothing to save, or nothing more
        elif isinstance(error, Exception):
            signum = self._interrupts.signum
            if signum and error is self._lost and not processes.several():
                self._stop(signum)  # what was told to stop took its readers along
            self._save_whole(self._newest.take())

    def _stop(self, signum: int, state: GANState | None = None) -> NoReturn:
        """Saves as a signal asks, and exits; a state is given where batches still come."""
        name, code, hung = signal.Signals(signum).name, 128 + signum, state is None
        self._stopping, state, told = True, state or self._newest.take(), "no step to save"
        if state is not None:
            self._flush()
            checkpoint.save(self._manager, state)
            self._manager.wait_until_finished()
            told = f"saved step {int(state.step)}"
        if processes.is_main():
            print(f"{name}: {told}; the same command resumes", flush=True)
        if hung:
            early.end_within(PATIENCE, code)
        raise SystemExit(code) from None

    def _save_whole(self, state: GANState | None) -> None:
        """Saves the state of the last whole step, where something after it has failed."""
        if state is None or processes.several():
            return
        try:
            self._flush()
            checkpoint.save(self._manager, state)
            self._manager.wait_until_finished()
        except Exception as error:  # not the one to tell: that which came first is raised
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"warning: the last step is not saved: {reason}", flush=True)
        else:
            print(f"saved step {int(state.step)} before the error that follows", flush=True)
