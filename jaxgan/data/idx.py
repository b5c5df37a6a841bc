"""The MNIST family from its own idx files, gzipped or not."""

import gzip
import hashlib
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
CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
# The files of these sets have the same names and sizes, so one is easily taken for another. sha256
# of the labels of the training and test split; of KMNIST, of the file as TFDS registers it.
LABEL_DIGESTS = {
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13": "mnist",
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5": "mnist",
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": "fashion_mnist",
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": "fashion_mnist",
    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17": "kmnist",
    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c": "kmnist",
}


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
      UserError: a file is missing or damaged, images and labels do not belong together, or they
        are those of another well-known set than `name`.
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
    _check_set(label, paths["label"], name)
    label = arrays.checked_labels(label, num_classes, str(paths["label"]))
    class_names = CLASS_NAMES.get(name, ())
    return arrays.ArraySource(
        {"image": image[..., None], "label": label},
        name=name,
        num_classes=num_classes,
        class_names=class_names if len(class_names) == num_classes else (),
    )


def _check_set(label: np.ndarray, path: pathlib.Path, name: str) -> None:
    """Refuses the files of one well-known dataset given as another; unknown files are accepted."""
    digests = [hashlib.sha256(content).hexdigest() for content in (label.data, path.read_bytes())]
    found = next((LABEL_DIGESTS[digest] for digest in digests if digest in LABEL_DIGESTS), name)
    if name in CLASS_NAMES and found != name:
        raise UserError(
            f"{path}: holds the labels of {found}, not of {name}; use --dataset={found}, or give"
            f" the folder of {name} as --data_dir"
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
