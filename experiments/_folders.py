"""Folders that an experiment writes as a whole: they are there with all that is in them, or not."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from jaxgan.run import disk
from jaxgan.run.trouble import reason
from jaxgan.types import UserError


def new(text: str) -> pathlib.Path:
    """Checks --out, before time is spent on what goes into it.

    Args:
      text: the flag's value.

    Returns:
      The folder, which is not there, or empty.

    Raises:
      UserError: it holds something, or cannot be made.
    """
    if not text:
        raise UserError("--out is empty; name a folder to write")
    out = pathlib.Path(text).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out={text} holds something already; name a new folder")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out={text}: {out.parent} is not a folder that can be written")
    return out


@contextlib.contextmanager
def whole(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write into that takes the name of another one when it is complete.

    Args:
      out: of `new`.

    Yields:
      The folder to write into; it is removed where writing fails, and of a process that was killed
      by the next one.

    Raises:
      UserError: the disk is full, or fails.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        disk.sync_tree(unfinished)
        unfinished.replace(out)
        disk.sync_folder(out.parent)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
