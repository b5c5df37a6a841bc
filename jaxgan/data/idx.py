"""The MNIST family from its own idx files, gzipped or not: 60,000 images in half a second."""

import gzip
import math
import os
import pathlib
import struct
import zlib

import numpy as np

from jaxgan.data import arrays
from jaxgan.types import UserError

MAX_BYTES = 4 * 2**30
PREFIXES = {"train": "train", "test": "t10k"}
PARTS = {"image": "images-idx3-ubyte", "label": "labels-idx1-ubyte"}


def find(data_dir: str | pathlib.Path, name: str) -> pathlib.Path | None:
    """Looks for idx files in a folder, and in the folder called `name` inside it.

    Args:
      data_dir: where to look.
      name: the dataset's name.

    Returns:
      The folder that holds at least one idx file, or None.
    """
    for folder in (pathlib.Path(data_dir) / name, pathlib.Path(data_dir)):
        names = [f"{prefix}-{part}" for prefix in PREFIXES.values() for part in PARTS.values()]
        if any(_existing(folder, stem) for stem in names):
            return folder
    return None


def load(
    folder: str | pathlib.Path, *, name: str, split: str = "train", num_classes: int = 10
) -> arrays.ArraySource:
    """Reads one split of an idx dataset.

    Args:
      folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, for the test split,
        the two `t10k-` files, with or without `.gz`.
      name: what to call the source.
      split: "train" or "test".
      num_classes: every label must lie below.

    Returns:
      The source.

    Raises:
      UserError: a file is missing or damaged, or images and labels do not belong together.
    """
    paths = {}
    for key, part in PARTS.items():
        stem = f"{PREFIXES[split]}-{part}"
        path = _existing(pathlib.Path(folder), stem)
        if path is None:
            raise UserError(f"{folder}: {stem}.gz is missing; put it there, gzipped or not")
        paths[key] = path
    image = read_idx(paths["image"], ndim=3)
    label = read_idx(paths["label"], ndim=1)
    if len(image) != len(label):
        raise UserError(
            f"{paths['image']} holds {len(image)} images but {paths['label'].name} {len(label)}"
            " labels"
        )
    label = arrays.checked_labels(label, num_classes, str(paths["label"]))
    return arrays.ArraySource(
        {"image": image[..., None], "label": label}, name=name, num_classes=num_classes
    )


def read_idx(path: str | pathlib.Path, *, ndim: int) -> np.ndarray:
    """Reads one idx file of unsigned bytes.

    See "The MNIST database of handwritten digits", LeCun, Cortes and Burges
    (http://yann.lecun.com/exdb/mnist): two zero bytes, the type (8), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values.

    Args:
      path: the file; gzip is recognised by its content.
      ndim: number of dimensions that it must have.

    Returns:
      uint8, of the shape in the header.

    Raises:
      UserError: missing, empty, truncated or damaged file, wrong magic number, or a header that
        claims more than the file can hold.
    """
    try:
        with open(path, "rb") as raw:
            start = raw.read(2)
            raw.seek(0)
            packed = start == b"\x1f\x8b"
            # Deflate reaches 1032:1 at most: a header cannot honestly claim more than this.
            size = raw.seek(0, 2)
            raw.seek(0)
            limit = min(MAX_BYTES, size * 1100 if packed else size)
            with gzip.open(raw) if packed else raw as stream:
                return _parse(stream, str(path), ndim=ndim, limit=limit)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); fetch it again") from None
    except EOFError:
        raise UserError(
            f"{path}: truncated in the middle of its gzip data; fetch it again"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _parse(stream, path: str, *, ndim: int, limit: int) -> np.ndarray:
    magic = stream.read(4)
    if not magic:
        raise UserError(f"{path}: the file is empty; fetch it again")
    if magic != bytes([0, 0, 8, ndim]):
        raise UserError(
            f"{path}: starts with {magic!r}, not with the magic number of an idx file of {ndim}"
            f" dimensions ({bytes([0, 0, 8, ndim])!r}); is it another file or a web page?"
        )
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise UserError(f"{path}: truncated in its header; fetch it again")
    shape = struct.unpack(f">{ndim}I", header)
    size = math.prod(shape)
    if size == 0:
        raise UserError(f"{path}: holds no examples (shape {list(shape)})")
    if size > limit:
        raise UserError(
            f"{path}: its header claims {size:,} bytes, more than the file can hold (truncated or"
            " damaged); fetch it again"
        )
    data = stream.read(size + 1)  # the one more makes gzip compare its checksum
    if len(data) != size:
        what = "truncated" if len(data) < size else "longer than its header says"
        raise UserError(f"{path}: {what} ({size:,} bytes of shape {list(shape)}); fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _existing(folder: pathlib.Path, stem: str) -> pathlib.Path | None:
    return next((p for p in (folder / stem, folder / f"{stem}.gz") if os.path.isfile(p)), None)
