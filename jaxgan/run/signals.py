"""Signals that make a run save, or save and end, after the current step."""

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from jaxgan.run import early
from jaxgan.state import GANState
from jaxgan.types import Metrics

T = TypeVar("T")


class Interrupted(Exception):
    """A signal asked training to stop.

    Attributes:
      signum: the signal.
      state: the state after the last complete step.
    """

    def __init__(self, signum: int, state: GANState):
        """Stores the signal, and the state to save before exiting."""
        super().__init__(signal.Signals(signum).name)
        self.signum, self.state = signum, state


class Interrupts:
    """Raises `Interrupted` after the current step on a signal to stop; a second one kills.

    These are SIGTERM, Ctrl-C, SIGHUP (a terminal that has gone) and SIGXCPU (the limit of CPU
    time). The last two may be sent repeatedly and never kill; SIGHUP that is ignored, as under
    nohup, stays so. SIGUSR1 requests a checkpoint, and training continues. A context manager that
    is also a hook; it restores the previous handlers at the end.
    """

    def __init__(self, agree: Callable[[int], int] = lambda signum: signum):
        """Starts without a signal.

        Args:
          agree: maps the signal of this process, 0 for none, to the one that all processes act on
            after this step, as `parallel.Vote` does; called at every step by every process.
        """
        self.signum = 0
        self._agree = agree
        self._asked = False  # to save, by a signal to this process
        self._stop_waiting: Callable[[int], object] | None = None  # while there is no batch
        self._due = False  # a save that all processes make
        self._ended = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        """Installs the handlers."""
        handlers = dict.fromkeys((*early.STOPPING, signal.SIGINT), self._stop)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            del handlers[signal.SIGHUP]
        for signum, handler in {**handlers, signal.SIGUSR1: self._save}.items():
            self._before[signum] = signal.signal(signum, handler)
        self._asked = early.take_asked()
        return self

    def __exit__(self, *exception) -> None:
        """Restores the previous handlers."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # pyright: ignore[reportArgumentType]

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Raises `Interrupted` if a signal to stop was received."""
        del step, metrics
        signum = self._agree(self.signum or (signal.SIGUSR1 if self._asked else 0))
        if signum == signal.SIGUSR1:
            self._asked, self._due = False, True
        elif signum:
            raise Interrupted(signum, state)

    def end(self) -> None:
        """Gives the signals to stop back: what follows has nothing to save, and ends at once.

        SIGUSR1 is answered with a line that says so.
        """
        self._ended = True
        for signum in set(self._before) - {signal.SIGUSR1}:
            signal.signal(signum, self._before.pop(signum))  # pyright: ignore[reportArgumentType]
        if self.signum:  # came while the last checkpoint was written
            signal.raise_signal(self.signum)

    def over(self, batches: Iterable[T], stop: Callable[[int], object]) -> Iterator[T]:
        """Passes batches through; a signal to stop does not wait for one, which may be for ever.

        Not for one process of several: the others would wait for its next step.

        Args:
          batches: those of training.
          stop: saves and ends training. It is called with the signal in the midst of the wait:
            readers that hang could not even be closed before.

        Yields:
          The same batches.
        """
        iterator = iter(batches)
        while True:
            self._stop_waiting = stop
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._stop_waiting = None
            yield batch

    def save_asked(self) -> bool:
        """Tells whether a checkpoint was requested.

        Returns:
          True once for each request, after the step in which the signal came.
        """
        due, self._due = self._due, False
        return due

    def _save(self, signum: int, frame: object) -> None:
        del signum, frame
        if self._ended:
            early.say_at_once("SIGUSR1: training has ended, there is nothing left to save")
            return
        self._asked = True
        early.say_at_once("SIGUSR1: saving after the next step")

    def _stop(self, signum: int, frame: object) -> None:
        del frame
        if self.signum and signum in (signal.SIGHUP, signal.SIGXCPU):
            return  # the system sends them again and again
        if self.signum:  # the second signal: exit at once, the last checkpoint remains
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self.signum = signum
        name = signal.Signals(signum).name
        early.say_at_once(f"{name}: saving after this step; again to exit at once")
        if self._stop_waiting:
            self._stop_waiting(signum)
