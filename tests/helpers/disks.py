"""Small disks that can be filled up or break, where this process may mount them."""

import contextlib
import os
import subprocess

import pytest


def _mount(*argv):
    result = subprocess.run(["mount", *argv], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"may not mount: {result.stderr.strip()[:80]}")


@contextlib.contextmanager
def in_memory(folder, *, size="6m", inodes=1500):
    """Mounts a file system of so many bytes and files at a new folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def of_file(folder, image):
    """Mounts the file system in a file, made if there is none, at a folder."""
    folder.mkdir(exist_ok=True)
    if not image.exists():
        image.write_bytes(b"")
        os.truncate(image, 12 * 2**20)
        made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True)
        if made.returncode:
            pytest.skip("no mkfs.ext4 here")
    _mount("-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def turn_read_only(folder):
    """Does what a file system does that has found an error, with files open as they are."""
    _mount("-o", "remount,abort", str(folder))


def fill(folder):
    """Leaves no byte free; returns what to remove again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 2**9, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return [ballast]


def fill_names(folder):
    """Leaves no file to be made; returns what to remove again."""
    (folder / "names").mkdir()
    made = []
    with contextlib.suppress(OSError):
        while True:
            made.append(folder / "names" / str(len(made)))
            made[-1].touch()
    return made[:-1]
