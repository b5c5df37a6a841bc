"""What goes wrong beside training: said once, in one line, until it works again."""

import contextlib
import os


class Trouble:
    """Reports that something cannot be written, once until it can; training goes on.

    Attributes:
      told: whether it was reported, and could not be written since.
    """

    def __init__(self, what: str):
        """Starts without any.

        Args:
          what: cannot be written, in words that begin the line.
        """
        self._what = what
        self.told = False

    def failed(self, error: OSError, *, then: str = "training continues") -> None:
        """Prints a warning, unless it was printed already.

        Args:
          error: why it failed.
          then: what follows from that.
        """
        if not self.told:
            tell(f"warning: {self._what} cannot be written: {reason(error)}; {then}")
        self.told = True

    def worked(self) -> None:
        """Says that it is written again, where a warning was printed before."""
        if self.told:
            tell(f"note: {self._what}: written again")
        self.told = False


def reason(error: OSError) -> str:
    """Why the system refused something.

    Args:
      error: what it raised.

    Returns:
      "No space left on device", or the like.
    """
    if error.strerror:
        return error.strerror
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


def tell(text: str) -> None:
    """Prints a line, where the console can still be written.

    Args:
      text: the line.
    """
    with contextlib.suppress(OSError):  # it may be a file on the same full disk
        print(text, flush=True)
