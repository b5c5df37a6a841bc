"""What Orbax says of a failed save: one line of it is shown, and not its tracebacks."""

import errno
import functools
import logging
import os
import pathlib
import sys
import traceback
from typing import Any


def reason(error: BaseException) -> str:
    """Says why a save failed.

    Args:
      error: what was raised.

    Returns:
      "no space", or the first line of the error.
    """
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(cause) or "quota" in str(cause):
            return "no space"
        cause = cause.__cause__ or cause.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@functools.cache
def quiet_orbax() -> None:
    """Keeps Orbax from printing tracebacks of failures that are reported in one line.

    It logs the error and abandons the reads and writes of the other files, each of which prints
    one, too.
    """
    logging.getLogger("absl").addFilter(_not_of_orbax)
    logging.getLogger("asyncio").addFilter(_not_of_tensorstore)
    hook = sys.unraisablehook

    def without_orbax(what: Any) -> None:
        if "Event loop is closed" not in str(what.exc_value):
            hook(what)

    sys.unraisablehook = without_orbax


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in pathlib.Path(record.pathname).parts


def _not_of_tensorstore(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return True
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    told = " ".join([record.getMessage(), str(error), *files])
    return "tensorstore" not in told and "orbax" not in told
