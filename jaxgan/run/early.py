"""What comes before all else in a program: open streams, and signals that come before training.

It imports nothing that takes time: in the second in which JAX is imported a signal may come.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO, cast

# As SIGTERM: a terminal that has gone, and the limit of CPU time.
STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)
_LOST = (errno.EPIPE, errno.EIO, errno.EBADF)  # nobody reads this stream any more

_program = False  # whether `begin` was called: this process is ours to end
_asked = False  # to save, before there was anything to save


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C ended the program before training began.

    Attributes:
      exit_code: of the process.
    """

    def __init__(self, signum: int):
        """Names the signal."""
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def main() -> None:
    """The command `jaxgan`: what `command.main` does, ready for signals while that is imported."""
    prepare()
    from jaxgan.run import command

    command.main()


def prepare() -> None:
    """Opens the streams that are closed, and takes over the signals that would end the process.

    Call it before imports that take time: SIGUSR1 is kept until there is something to save; one
    that stops ends the process with a line. A signal that is ignored, as SIGHUP is under nohup,
    stays ignored.
    """
    for number in (0, 1, 2):
        _open(number)
    sys.stdout = sys.stdout or cast(TextIO, open(os.devnull, "w"))  # noqa: SIM115
    sys.stderr = sys.stderr or cast(TextIO, open(os.devnull, "w"))  # noqa: SIM115
    if threading.current_thread() is not threading.main_thread():
        return  # only that one may set handlers
    for signum in (*STOPPING, signal.SIGINT):
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _end)
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _keep)


def begin() -> None:
    """Does what `prepare` does; from now on a signal to stop raises, so that others are told."""
    global _program
    prepare()
    _program = True
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def take_asked() -> bool:
    """Tells whether SIGUSR1 came before training.

    Returns:
      True once after it.
    """
    global _asked
    asked, _asked = _asked, False
    return asked


def end_within(seconds: float, code: int) -> None:
    """Ends a program that was begun here even if a thread that hangs would keep it.

    Args:
      seconds: it has to end by itself.
      code: the exit code if it has not.
    """
    if _program:
        timer = threading.Timer(seconds, os._exit, (code,))
        timer.daemon = True
        timer.start()


def say_at_once(text: str) -> None:
    """Writes a line to stderr from a handler, which may have interrupted a write to it.

    Args:
      text: the line.
    """
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"{text}\n".encode())


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Goes on without a word where stdout or stderr cannot be written: `| head`, a full disk.

    Yields:
      Nothing.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Lasting:
    """A stream that drops what it cannot write."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._forgiven():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiven():
            self._stream.flush()

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass  # closed
        except OSError as error:
            if error.errno in _LOST:  # also for what is still in the buffer when Python ends
                with contextlib.suppress(OSError, ValueError):
                    _to_nothing(self._stream.fileno())


def _open(number: int) -> None:
    """Opens a stream that is closed: the next file to be opened would get what is printed."""
    try:
        os.fstat(number)
    except OSError:
        _to_nothing(number)


def _to_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
    os.set_inheritable(number, True)


def _keep(signum: int, frame: FrameType | None) -> None:
    global _asked
    del signum, frame
    _asked = True
    say_at_once("SIGUSR1: saving after the first step")


def _end(signum: int, frame: FrameType | None) -> None:
    del frame
    if _program:
        raise Stopped(signum)
    say_at_once(f"{signal.Signals(signum).name}: stopped; no training to save")
    os._exit(128 + signum)
