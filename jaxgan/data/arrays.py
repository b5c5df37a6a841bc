"""Sources held in memory as arrays, and the reader of `.npz` files."""

import hashlib
import math
import os
import pathlib
import sys
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from jaxgan import types
from jaxgan.data import pixels
from jaxgan.types import UserError

# A file is refused above this size: a larger set belongs in a folder of images, which is streamed.
MAX_BYTES = 16 * 2**30
# Each costs an embedding and an output of the networks; ImageNet's 21,841 are the most in use.
MAX_CLASSES = 2**20
# The key of each array in a file, most specific first ("x_train" is what Keras writes).
IMAGE_KEYS = {"train": ("image", "images", "x_train", "x"), "test": ("test_image", "x_test")}
LABEL_KEYS = {"train": ("label", "labels", "y_train", "y"), "test": ("test_label", "y_test")}


CLASS_NAMES = "class_names"


class MissingSplit(UserError):
    """The data are there, but not that part of them."""


class ArraySource:
    """A dataset in memory: indexing with an int gives one example, with an array a whole batch."""

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        name: str,
        num_classes: int = 0,
        class_names: Sequence[str] = (),
    ):
        """Checks that the arrays belong together.

        Args:
          arrays: `"image"` uint8 [N, H, W, C] and, where there are labels, `"label"` [N] in
            [0, num_classes).
          name: what the data is called in messages and in the run's configuration.
          num_classes: number of classes, 0 without labels.
          class_names: one name a class, by label; empty where there are none.

        Raises:
          UserError: empty, of unequal lengths, a label outside its range, or another number of
            names than of classes.
        """
        image = arrays["image"]
        if image.dtype != np.uint8 or image.ndim != 4:
            raise UserError(
                f"{name}: images are {image.dtype} {list(image.shape)}; need uint8 [N, H, W, C]"
            )
        if 0 in image.shape:
            raise UserError(f"{name}: holds no images (shape {list(image.shape)})")
        for key, array in arrays.items():
            count = len(array) if array.ndim else 0
            if count != len(image):
                raise UserError(
                    f'{name}: {len(image)} images but {count} of "{key}"; need one for each'
                )
        self.arrays = dict(arrays)
        if "label" in arrays:
            self.arrays["label"] = checked_labels(arrays["label"], num_classes, name)
        if len(class_names) not in (0, num_classes):
            raise UserError(f"{name}: {len(class_names)} class names for {num_classes} classes")
        self.name = name
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self._fingerprint = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.arrays["image"].shape[1:]

    @property
    def labels(self) -> np.ndarray | None:
        """The label of every example, int32 [N]; None without labels."""
        return self.arrays.get("label")

    @property
    def fingerprint(self) -> str:
        """Digest of the arrays' names, shapes and bytes."""
        if not self._fingerprint:
            self._fingerprint = digest(self.arrays)
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        return {key: array[index] for key, array in self.arrays.items()}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Makes a short text that changes with any array.

    Args:
      arrays: by name.

    Returns:
      Digest of their names, shapes and bytes.
    """
    found = hashlib.blake2b(digest_size=8)
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        found.update(f"{key} {array.dtype} {array.shape} ".encode())
        found.update(array.data)
    return found.hexdigest()


def checked_labels(label: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    """Returns labels as int32 after checking their kind and range.

    Args:
      label: [N] integers.
      num_classes: number of classes; every label must lie in [0, num_classes).
      name: the file or dataset named in the message.

    Returns:
      [N] int32.

    Raises:
      UserError: one-hot or fractional labels, or one outside its range.
    """
    if label.ndim != 1 or label.dtype.kind not in "iu":
        raise UserError(
            f"{name}: labels are {label.dtype} {list(label.shape)}; need class numbers, ints [N]"
            + (" (take argmax of one-hot labels)" if label.ndim == 2 else "")
        )
    wrong = np.flatnonzero((label < 0) | (label >= num_classes))
    if wrong.size:
        raise UserError(
            f"{name}: label {label[wrong[0]]} of example {wrong[0]} is outside 0..{num_classes - 1}"
            f" ({wrong.size} such labels)"
        )
    return label.astype(np.int32)


def load_npz(path: str | pathlib.Path, *, split: str = "train") -> ArraySource:
    """Reads a dataset from one `.npz` file, without pickle.

    The images may be uint8, other integers in 0..255, or floats in [0, 1] or [-1, 1]. An array
    `num_classes` gives the number of classes and one of texts, `class_names`, their names; without
    either the number is the largest label plus one.

    Args:
      path: the file; see `IMAGE_KEYS` and `LABEL_KEYS` for the names of its arrays.
      split: "train" or "test".

    Returns:
      The source.

    Raises:
      MissingSplit: no images of that split in it.
      UserError: missing or unreadable file, values or labels out of range.
    """
    path = pathlib.Path(path)
    arrays = read_npz(path)
    image_key = next((key for key in IMAGE_KEYS[split] if key in arrays), None)
    if image_key is None:
        found = types.one_line(", ".join(sorted(arrays)[:20]) or "nothing")
        raise MissingSplit(
            f"{path}: no array named {' or '.join(IMAGE_KEYS[split])} for split {split};"
            f" found {found}"
        )
    images = {"image": pixels.as_uint8(arrays[image_key], str(path))}
    label_key = next((key for key in LABEL_KEYS[split] if key in arrays), None)
    if label_key is None:
        return ArraySource(images, name=str(path))
    label = arrays[label_key]
    class_names = _class_names(arrays.get(CLASS_NAMES), path)
    stated = arrays.get("num_classes", np.array(len(class_names)) if class_names else None)
    return ArraySource(
        {**images, "label": label},
        name=str(path),
        num_classes=_count_classes(stated, label, path),
        class_names=class_names,
    )


def _class_names(stated: np.ndarray | None, path: pathlib.Path) -> tuple[str, ...]:
    if stated is None:
        return ()
    if stated.ndim != 1 or stated.dtype.kind != "U" or not 0 < stated.size <= MAX_CLASSES:
        raise UserError(
            f"{path}: {CLASS_NAMES} is {stated.dtype} {list(stated.shape)}; need one text a class"
        )
    native = stated.astype(stated.dtype.newbyteorder("="))
    if native.view(np.uint32).max() > sys.maxunicode:
        raise UserError(f"{path}: {CLASS_NAMES} holds no text, or is damaged")
    return tuple(types.one_line(text, limit=80) for text in native.tolist())


def _count_classes(stated: np.ndarray | None, label: np.ndarray, path: pathlib.Path) -> int:
    if stated is not None:
        if stated.size != 1 or stated.dtype.kind not in "iu":
            raise UserError(f"{path}: num_classes must be one positive integer")
        if not 1 <= stated.item() <= MAX_CLASSES:
            raise UserError(
                f"{path}: num_classes is {stated.item()}; it must be one positive integer, at most"
                f" {MAX_CLASSES}"
            )
        return int(stated.item())
    if label.dtype.kind not in "iu" or label.size == 0:
        return 1  # ArraySource says what is wrong with them
    largest = int(label.max())
    # A stray value would otherwise become the size of an embedding table.
    if largest >= max(2, label.size):
        raise UserError(
            f"{path}: label {largest} among only {label.size} examples; correct it, or store the"
            " number of classes as num_classes"
        )
    return largest + 1


def check_place(path: str | os.PathLike) -> None:
    """Refuses what waits without end where it is opened, or never ends where it is read.

    Args:
      path: of data; nothing need be there.

    Raises:
      UserError: a pipe, a device or a socket is there.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path}: is not a file or a folder; give one that holds the data")


def read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads every array of an `.npz` file, after checking every size that it states.

    Args:
      path: the file.

    Returns:
      The arrays by name.

    Raises:
      UserError: the file is missing, is not an npz file, is damaged, holds pickled objects, or
        claims more than it holds.
    """
    check_place(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            _check_sizes(members, path, held=os.path.getsize(path))
            return {info.filename[:-4]: _read_member(archive, info, path) for info in members}
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an .npz file") from None
    except zipfile.BadZipFile as error:
        reason = types.one_line(error, limit=100)
        raise UserError(f"{path}: not an npz file, or a damaged one ({reason})") from None
    except Exception as error:
        # zipfile, zlib and numpy raise some fifteen kinds of error on damaged input.
        reason = types.one_line(f"{type(error).__name__}: {error}", limit=100)
        raise UserError(f"{path}: cannot be read ({reason})") from None


def _check_sizes(members: list[zipfile.ZipInfo], path: str | pathlib.Path, *, held: int) -> None:
    """Refuses what cannot be true, before anything is allocated for it; the file holds `held`."""
    total = sum(info.file_size for info in members)
    if total > MAX_BYTES:
        raise UserError(
            f"{path}: claims {total / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB are read into"
            " memory, so use a folder of images"
        )
    for info in members:
        name = types.one_line(info.filename, limit=80)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # NumPy writes no other, and the rest unpack into any number of bytes at once.
            raise UserError(f"{path}: {name} is packed in another way than NumPy's; save it again")
        # Deflate reaches 1032:1 at most, so such a size is a lie.
        if info.file_size > 1100 * info.compress_size + 1024 or info.compress_size > held:
            raise UserError(f"{path}: {name} claims more bytes than it can hold")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path) -> np.ndarray:
    name = types.one_line(info.filename, limit=80)
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
        else:
            raise UserError(f"{path}: {name} has the unknown npy version {version}")
        if dtype.kind not in ("biufU" if name == f"{CLASS_NAMES}.npy" else "biuf"):
            raise UserError(
                f"{path}: {name} holds {dtype} values; only plain numbers are read"
                " (pickled objects never)"
            )
        size = math.prod(shape) * dtype.itemsize
        if size < 0 or size != info.file_size - member.tell():
            raise UserError(
                f"{path}: {name} claims shape {list(shape)}, {size} bytes, but holds"
                f" {info.file_size - member.tell()}"
            )
        # One byte more than there is: reaching the end makes zipfile compare the checksum.
        data = member.read(size + 1)
    if len(data) != size:
        raise UserError(f"{path}: {name} is truncated ({len(data)} of {size} bytes)")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
