"""CIFAR-10 from its own files: the binary or the Python version, packed or unpacked.

See "Learning Multiple Layers of Features from Tiny Images" by Krizhevsky (2009). Both versions hold
a label and 3,072 bytes an image, red, green and blue one after the other. The Python version is
pickled; it is not unpickled, but its bytes and labels are found in it.
"""

import pathlib
import pickletools
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan import types
from jaxgan.data import arrays
from jaxgan.types import UserError

NAME = "cifar10"
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PIXELS = 3 * 32 * 32  # bytes an image
RECORDS = 10_000  # images a file
MAX_BYTES = 2**28  # of a file; the official ones have 31 MB


class Version(NamedTuple):
    """One of the two forms that the data are given away in."""

    folder: str
    archive: str
    files: dict[str, tuple[str, ...]]


BINARY = Version(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    {
        "train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
        "test": ("test_batch.bin",),
    },
)
PYTHON = Version(
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
)


class Place(NamedTuple):
    """Where the files are: a folder, or an archive with one in it."""

    path: pathlib.Path
    version: Version


def find(data_dir: str | pathlib.Path) -> Place | None:
    """Looks for the files in a folder, and in those that they are usually in.

    Args:
      data_dir: where to look: at the files themselves, at the folders they are packed with, at the
        archives, and in a folder called cifar10.

    Returns:
      Where they are, or None.
    """
    for above in (pathlib.Path(data_dir), pathlib.Path(data_dir) / NAME):
        for version in (BINARY, PYTHON):
            for folder in (above, above / version.folder):
                if any(
                    (folder / name).is_file() for part in version.files.values() for name in part
                ):
                    return Place(folder, version)
            if (above / version.archive).is_file():
                return Place(above / version.archive, version)
    return None


def load(place: Place, *, split: str = "train") -> arrays.ArraySource:
    """Reads one split.

    Args:
      place: from `find`.
      split: "train" or "test".

    Returns:
      The source, of images [N, 32, 32, 3].

    Raises:
      UserError: a file is missing, damaged, or has other images than the official one.
    """
    read = _read_binary if place.version is BINARY else _read_python
    parts = []
    for name, content in _contents(place, place.version.files[split]):
        pixels, label = read(content, name)
        if len(label) != RECORDS:
            raise UserError(
                f"{name}: {len(label):,} images, not {RECORDS:,}: truncated, or not the official "
                "file; images of your own go into a folder (--dataset=folder)"
            )
        parts.append((pixels, label))
    pixels, label = (np.concatenate(part) for part in zip(*parts, strict=True))
    image = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    label = arrays.checked_labels(label.astype(np.int32), len(CLASS_NAMES), str(place.path))
    return arrays.ArraySource(
        {"image": np.ascontiguousarray(image), "label": label},
        name=NAME,
        num_classes=len(CLASS_NAMES),
        class_names=CLASS_NAMES,
    )


def _contents(place: Place, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """The bytes of files, by their full names."""
    if place.path.is_dir():
        return [_file(place.path / name) for name in names]
    try:
        with tarfile.open(place.path) as archive:
            found = [_member(archive, place, name) for name in names]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        told = types.one_line(error, limit=200)
        raise UserError(f"{place.path}: cannot be unpacked ({told}); fetch it again") from None
    return found


def _file(path: pathlib.Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise UserError(f"{path} is missing; put it there, or the whole archive")
    _check_size(str(path), path.stat().st_size)
    return str(path), path.read_bytes()


def _member(archive: tarfile.TarFile, place: Place, name: str) -> tuple[str, bytes]:
    full = f"{place.version.folder}/{name}"
    try:
        member = archive.getmember(full)
    except KeyError:
        raise UserError(f"{place.path}: holds no {full}; fetch it again") from None
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        raise UserError(f"{place.path}: {full} is not a file; fetch it again")
    _check_size(f"{place.path}: {full}", member.size)
    return f"{place.path}: {full}", file.read()


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{name} has {size:,} bytes, too many for a file of CIFAR-10")


def _read_binary(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 3072] and labels [N] of records of a label and an image."""
    if not content or len(content) % (1 + PIXELS):
        raise UserError(
            f"{name}: {len(content):,} bytes are not whole records of {1 + PIXELS:,}: truncated, "
            "or not of CIFAR-10's binary version"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


def _read_python(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 3072] and labels [N] of a pickled dict, found among its opcodes: none is run."""
    try:
        opcodes = [
            (code.name, argument)
            for code, argument, _ in pickletools.genops(content)
            if code.name != "MEMOIZE" and not code.name.endswith("PUT")
        ]
    except Exception as error:  # a damaged pickle raises what its bytes happen to ask for
        told = types.one_line(error, limit=200)
        raise UserError(
            f"{name}: not a file of CIFAR-10's Python version ({told}); use the official one"
        ) from None
    label = _labels(opcodes)
    sizes = [len(a) if isinstance(a, str | bytes) else 0 for _, a in opcodes]
    at = int(np.argmax(sizes))
    data: Any = opcodes[at][1] if sizes[at] else b""
    if isinstance(data, str):  # bytes of Python 2; a text with other characters becomes too short
        data = data.encode("latin-1", "ignore")
    if not label or len(data) != len(label) * PIXELS:
        raise UserError(
            f"{name}: holds no images of 32 x 32 with a label each; use the official file, as it is"
        )
    order = "F" if opcodes[at - 1][0] == "NEWTRUE" else "C"  # what an array says before its bytes
    pixels = np.frombuffer(data, np.uint8).reshape(len(label), PIXELS, order=order)
    return pixels, np.array(label)


def _labels(opcodes: Sequence[tuple[str, Any]]) -> list[int]:
    """The whole numbers of the list that follows the word "labels"."""
    words = [argument for _, argument in opcodes]
    start = next((words.index(word) for word in ("labels", b"labels") if word in words), None)
    found = []
    for kind, number in opcodes[start + 1 :] if start is not None else ():
        if kind in ("BININT", "BININT1", "BININT2"):
            found.append(number)
        elif kind not in ("EMPTY_LIST", "MARK", "APPEND", "APPENDS"):
            break
    return found
