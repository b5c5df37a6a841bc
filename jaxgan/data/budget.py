"""A share of memory for each thread, so that many large images are not decoded at once."""

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class Budget:
    """Units that threads take and give back; whoever finds too few waits."""

    def __init__(self, total: int):
        """Starts with all of them."""
        self.total = self._free = total
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, units: int) -> Iterator[None]:
        """Takes units while the block runs.

        Args:
          units: how many; more than there are count as all of them.

        Yields:
          Nothing.
        """
        taken = min(units, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


def give_back() -> None:
    """Returns freed memory to the system: GNU's malloc keeps that of each thread for itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
