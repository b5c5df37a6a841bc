"""Signals that make a run save, or save and end, after the current step."""

import os
import signal
from collections.abc import Callable

from jaxgan.state import GANState
from jaxgan.types import Metrics


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
    """Raises `Interrupted` after the current step on SIGTERM or Ctrl-C; a second one kills.

    SIGUSR1 requests a checkpoint, and training continues. A context manager that is also a hook;
    it restores the previous handlers at the end.
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
        self._due = False  # a save that all processes make
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        """Installs the handlers."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop}
        for signum, handler in {**handlers, signal.SIGUSR1: self._save}.items():
            self._before[signum] = signal.signal(signum, handler)
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

    def save_asked(self) -> bool:
        """Tells whether a checkpoint was requested.

        Returns:
          True once for each request, after the step in which the signal came.
        """
        due, self._due = self._due, False
        return due

    def _save(self, signum: int, frame: object) -> None:
        del signum, frame
        self._asked = True
        _say_at_once("SIGUSR1: saving after the next step")

    def _stop(self, signum: int, frame: object) -> None:
        del frame
        if self.signum:  # the second signal: exit at once, the last checkpoint remains
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self.signum = signum
        name = signal.Signals(signum).name
        _say_at_once(f"{name}: saving after this step; again to exit at once")


def _say_at_once(text: str) -> None:
    """Writes to stderr from a handler, which may have interrupted a write to it."""
    os.write(2, f"{text}\n".encode())
