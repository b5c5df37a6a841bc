"""Signals that ask a run to save, or to save and end: acted on after the step under way."""

import os
import signal
from collections.abc import Callable

from jaxgan.state import GANState
from jaxgan.types import Metrics


class Interrupted(Exception):
    """A signal asked training to stop.

    Attributes:
      signum: the signal.
      state: the state after the last whole step.
    """

    def __init__(self, signum: int, state: GANState):
        """Keeps what is needed to save and exit."""
        super().__init__(signal.Signals(signum).name)
        self.signum, self.state = signum, state


class Interrupts:
    """Turns SIGTERM and Ctrl-C into `Interrupted` after the step under way; the second one kills.

    SIGUSR1 asks for a checkpoint and goes on. A context manager that is also a hook; the handlers
    before it come back when it ends.
    """

    def __init__(self, agree: Callable[[int], int] = lambda signum: signum):
        """Has seen no signal yet.

        Args:
          agree: the signal this process has seen, 0 for none -> the one that all processes act on
            after this step, as `parallel.Vote` finds it; called at every step by every process.
        """
        self.signum = 0
        self._agree = agree
        self._asked = False  # to save, this process
        self._due = False  # a save that all have agreed on
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        """Installs the handlers."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop}
        for signum, handler in {**handlers, signal.SIGUSR1: self._save}.items():
            self._before[signum] = signal.signal(signum, handler)
        return self

    def __exit__(self, *exception) -> None:
        """Puts the handlers of before back."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # pyright: ignore[reportArgumentType]

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Raises `Interrupted` if a signal to stop has come."""
        del step, metrics
        signum = self._agree(self.signum or (signal.SIGUSR1 if self._asked else 0))
        if signum == signal.SIGUSR1:
            self._asked, self._due = False, True
        elif signum:
            raise Interrupted(signum, state)

    def save_asked(self) -> bool:
        """Looks whether a checkpoint was asked for.

        Returns:
          True once for each time, after the step in which the signal came.
        """
        due, self._due = self._due, False
        return due

    def _save(self, signum: int, frame: object) -> None:
        del signum, frame
        self._asked = True
        _say_at_once("SIGUSR1: saving after the next step")

    def _stop(self, signum: int, frame: object) -> None:
        del frame
        if self.signum:  # asked twice: at once, and the last checkpoint is what there is
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self.signum = signum
        name = signal.Signals(signum).name
        _say_at_once(f"{name}: saving after this step; again to exit at once")


def _say_at_once(text: str) -> None:
    """Writes to stderr from a handler, which may have come in the middle of writing to it."""
    os.write(2, f"{text}\n".encode())
