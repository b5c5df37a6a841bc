"""A folder of image files, with or without labels: in memory when small, streamed when large."""

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging

from jaxgan.data import arrays, labels, pixels, reader
from jaxgan.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# A folder below both limits is decoded once and kept.
MEMORY_BYTES = 2**30
MEMORY_FILES = 20_000
# So many headers, evenly spread, tell the sizes and colours of a folder.
SAMPLE = 2_000


def load(
    data_dir: str | os.PathLike,
    *,
    split: str = "train",
    image_size: pixels.Size = 0,
    channels: int = 0,
    max_bad_records: int = -1,
) -> "arrays.ArraySource | FolderSource":
    """Opens a folder of images: `folder/*.png`, or `folder/<class>/*.png` for labels.

    Folders nested in a class folder belong to that class. Labels may stand in a file instead,
    `dataset.json` or `labels.csv` beside the images, see `labels.find`. A folder whose only folders
    are `train` and `test` is taken for two splits. Hidden files and those that are no images by
    their suffix are ignored. Unreadable ones are skipped with a warning, up to `max_bad_records`.

    Args:
      data_dir: the folder.
      split: "train" or "test"; a folder without splits is all "train".
      image_size: side in pixels, or (height, width); 0 if all images are of one size, which they
        then keep.
      channels: 1 or 3; 0 for 1 if all images are grey and 3 otherwise.
      max_bad_records: unreadable files skipped before it is an error; -1 for 10 or 0.1 % of all,
        whichever is more. Worker processes each count their own.

    Returns:
      The source.

    Raises:
      MissingSplit: no test split.
      UserError: no such folder, no images, labels that do not fit, images of several sizes and no
        `image_size`, or too many unreadable files.
    """
    whole = pathlib.Path(os.path.expanduser(data_dir))
    root = split_root(whole, split)
    paths = scan(root)
    found = labels.find(root, paths, split="" if root == whole else split)
    shape = common_shape(str(root), sampled_headers(root, paths), image_size, channels)
    source = FolderSource(
        root,
        paths,
        found,
        image_shape=shape,
        resized=bool(image_size),
        max_bad_records=max_bad_records,
    )
    if len(paths) <= MEMORY_FILES and len(paths) * int(np.prod(shape)) <= MEMORY_BYTES:
        return source.in_memory()
    return source


def split_root(root: pathlib.Path, split: str) -> pathlib.Path:
    """Finds the folder of one split.

    Args:
      root: the folder given; its folders are splits if they are `train` and `test` and no others.
      split: "train" or "test"; a folder without splits is all "train".

    Returns:
      The folder with the images of that split.

    Raises:
      MissingSplit: no test split.
      UserError: no such folder.
    """
    if not os.path.exists(root):  # unlike pathlib's, false for a name that is too long as well
        raise UserError(f"{root}: no such folder; give a folder of images")
    if not os.path.isdir(root):
        raise UserError(f"{root}: is a file; give a folder of images")
    try:
        names = {
            entry.name for entry in os.scandir(root) if entry.name[0] != "." and entry.is_dir()
        }
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None
    if names == {"train", "test"}:
        return root / split
    if split == "test":
        raise arrays.MissingSplit(
            f"{root}: has no test split; put the images into folders train and test, keep some "
            "of them for it (--holdout=0.1), or compare with --reference_split=train"
        )
    return root


def scan(root: pathlib.Path) -> list[str]:
    """Lists the image files of a folder in an order that every machine agrees on.

    Links are followed, but for those that lead back to a folder they are in.

    Args:
      root: the folder.

    Returns:
      The paths below `root` with "/" between parts, sorted.

    Raises:
      UserError: no images, or a folder that may not be read.
    """
    paths = []
    above = {str(root): {os.path.realpath(root)}}  # of each folder, itself and those it is in
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
        inside, parents = pathlib.Path(folder).relative_to(root), above.pop(folder)
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = sorted(f for f in folders if f[0] not in "._" and real[f] not in parents)
        above |= {os.path.join(folder, name): parents | {real[name]} for name in folders}
        for name in files:
            if name[0] != "." and name.lower().endswith(SUFFIXES):
                paths.append((inside / name).as_posix())
    if not paths:
        raise UserError(f"{root}: no images in it ({' '.join(SUFFIXES)})")
    return sorted(paths)


def _unreadable(error: OSError) -> None:
    """Without this a class folder that may not be read would be left out silently."""
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})")


def sampled_headers(root: pathlib.Path, paths: list[str]) -> dict[str, pixels.Header]:
    """Reads what image files say of themselves, of a large folder only some, evenly spread.

    Logs a warning where any of them is transparent.

    Args:
      root: the folder.
      paths: of the images, below it.

    Returns:
      The headers of those that can be read, by path.

    Raises:
      UserError: none can be read.
    """
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda path: pixels.header(root / path), sample))
    headers = {path: header for path, header in zip(sample, found, strict=True) if header}
    if not headers:
        raise UserError(f"{root}: not one of its {len(paths)} image files can be read")
    if clear := [path for path, header in headers.items() if header.transparent]:
        logging.warning(
            "%s: images with transparent parts (%s and others) are laid over white", root, clear[0]
        )
    return headers


def common_shape(
    name: str, headers: Mapping[str, pixels.Header], image_size: pixels.Size, channels: int
) -> tuple[int, int, int]:
    """Says which shape images will have; what it does not ask for is found in their headers.

    What is lost, by cropping, scaling or dropping colours, is logged once.

    Args:
      name: of the folder, for messages.
      headers: of some images, by path.
      image_size: side in pixels, or (height, width); 0 if all are of one size.
      channels: 1 or 3; 0 for 1 if all are grey and 3 otherwise.

    Returns:
      (height, width, channels).

    Raises:
      UserError: several sizes, and none asked for.
    """
    grey = all(header.grey for header in headers.values())
    channels = channels or (1 if grey else 3)
    sizes = {header.size for header in headers.values()}
    pixels.log_changes(name, sizes, colour=not grey, image_size=image_size, channels=channels)
    if image_size:
        return *pixels.shape_of(image_size), channels
    first, size = next((path, header.size) for path, header in headers.items())
    for path, header in headers.items():
        if header.size != size:
            raise UserError(
                f"{name}: images differ in size (height x width {by(size)} of {first},"
                f" {by(header.size)} of {path}); set image_size"
            )
    return *size, channels


def by(size: tuple[int, int]) -> str:
    """Writes a size for a message.

    Args:
      size: (height, width).

    Returns:
      Such as "30x40".
    """
    return "x".join(map(str, size))


class FolderSource:
    """A dataset of image files, each decoded when it is asked for."""

    def __init__(
        self,
        root: pathlib.Path,
        paths: list[str],
        found: labels.Labels = labels.NONE,
        *,
        image_shape: tuple[int, int, int],
        resized: bool = False,
        max_bad_records: int = -1,
    ):
        """Keeps the list of files; reads none.

        Args:
          root: the folder.
          paths: of the images, below it.
          found: their labels.
          image_shape: height, width and channels.
          resized: crops and resizes images to it; where not, those that are not to be square must
            have it already.
          max_bad_records: see `load`.
        """
        self.root, self.paths, self.labels = root, paths, found.label
        self.num_classes, self.class_names = found.num_classes, found.class_names
        self._label_file = found.file
        self.image_shape, self.name = image_shape, str(root)
        self.resized = resized
        self.reader = reader.Reader(root, len(paths), max_bad_records=max_bad_records)

    @property
    def fingerprint(self) -> str:
        """Digest of the files' names and sizes, and of labels that a file gives."""
        digest = hashlib.blake2b(digest_size=8)
        for path in self.paths:
            try:
                size = os.stat(self.root / path).st_size
            except OSError:  # a dangling link: whoever decodes it says so
                size = -1
            digest.update(f"{path}\0{size}\0".encode(errors="surrogateescape"))
        if self._label_file and self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        if np.ndim(index):
            examples = [self[i] for i in np.asarray(index)]
            return {key: np.stack([x[key] for x in examples]) for key in examples[0]}
        index = int(index) % len(self)
        image = self._read(index)
        while image is None:
            # The next readable file is used instead: the same one in every process and epoch.
            index = (index + 1) % len(self)
            image = self._read(index)
        if self.labels is None:
            return {"image": image}
        return {"image": image, "label": self.labels[index]}

    def in_memory(self) -> arrays.ArraySource:
        """Decodes every file, leaving the unreadable ones out.

        Returns:
          The same dataset as arrays.

        Raises:
          UserError: too many unreadable files.
        """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            images = list(pool.map(self._read, range(len(self))))
        good = np.array([image is not None for image in images])
        found = {"image": np.stack([image for image in images if image is not None])}
        del images  # halves the memory needed from here on
        if self.labels is not None:
            found["label"] = self.labels[good]
        return arrays.ArraySource(
            found, name=self.name, num_classes=self.num_classes, class_names=self.class_names
        )

    def _read(self, index: int) -> np.ndarray | None:
        """Decodes one file; None, and a warning the first time, for one that cannot be read."""
        path = self.paths[index]
        height, width, channels = self.image_shape
        size = (height, width) if self.resized or height == width else 0
        image = self.reader.read(path, image_size=size, channels=channels)
        if image is None:
            return None
        if image.shape != self.image_shape:
            raise UserError(
                f"{self.root / path}: is {list(image.shape)} where others are"
                f" {list(self.image_shape)}; set image_size"
            )
        return image
