"""Files that survive a power cut: their content, and the names of folders, are on the disk.

A write is in the memory of the system until it is synced, and so is a name (of a new, renamed or
removed file) until its folder is.
"""

import contextlib
import errno
import os
import pathlib
import shutil

# What file systems answer that cannot sync a folder: there is nothing to be done about it.
_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}


def sync_file(path: str | os.PathLike) -> None:
    """Waits until the content of a file is on the disk.

    Args:
      path: the file.

    Raises:
      OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | os.PathLike) -> None:
    """Waits until the names in a folder are on the disk; goes on where that cannot be asked for.

    Args:
      path: the folder.

    Raises:
      OSError: it is not there, or the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _CANNOT:
            return
        raise
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: str | os.PathLike) -> None:
    """Waits until all files and folders in a folder are on the disk, and their names.

    Args:
      folder: the folder; links in it are left alone.

    Raises:
      OSError: it is not there, or the disk fails.
    """
    pathlib.Path(folder).stat()  # a folder that is not there would be an empty walk
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and not os.path.islink(path):
                sync_file(path)
        sync_folder(parent)


def make_folder(path: str | os.PathLike) -> None:
    """Creates a folder with those above it, such that a power cut does not take them away.

    Args:
      path: the folder; it may exist.

    Raises:
      OSError: it cannot be created.
    """
    path = pathlib.Path(path)
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new or [path]:
        sync_folder(folder.parent)


def remove_tree(path: str | os.PathLike, *, removed: str = ".removed") -> None:
    """Removes a folder such that it is never seen half empty under its name.

    Args:
      path: the folder. It is renamed first; a killed removal leaves the renamed one.
      removed: what is appended to its name.

    Raises:
      OSError: it cannot be removed.
    """
    path = pathlib.Path(path)
    place = path.with_name(path.name + removed)
    if place.exists():
        shutil.rmtree(place)
    path.rename(place)
    sync_folder(path.parent)
    shutil.rmtree(place)


def free_bytes(directory: str | os.PathLike) -> int:
    """Returns the free space of a disk.

    Args:
      directory: a folder on it.

    Returns:
      Bytes.
    """
    return shutil.disk_usage(directory).free


def megabytes(number: int) -> str:
    """Formats a number of bytes.

    Args:
      number: of bytes.

    Returns:
      "1.2 MB".
    """
    return f"{number / 1e6:,.1f} MB"


def replace(path: str | os.PathLike, text: str) -> None:
    """Writes a whole file: after a kill or a power cut, it is the old one or the new one.

    Args:
      path: the file.
      text: its content.

    Raises:
      OSError: it cannot be written; then it is the old one, and nothing is left beside it.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _sync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
