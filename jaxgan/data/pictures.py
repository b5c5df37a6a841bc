"""Pictures of any size, each read once and kept in memory."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jaxgan.data import folder, pixels, reader, subsets
from jaxgan.types import UserError

MEMORY_BYTES = 2**33  # of pixels; a folder with more of them is refused


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures, each of its own size, all of them grey or all in colour.

    Attributes:
      name: of the folder.
      paths: of their files below it; of each picture one.
      images: uint8 [H, W, C] each.
    """

    name: str
    paths: tuple[str, ...]
    images: tuple[np.ndarray, ...]

    def __post_init__(self):
        """Raises a UserError where there are none."""
        if not self.images:
            raise UserError(f"{self.name}: holds no pictures")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.images[0].shape[-1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the pixels."""
        digest = hashlib.blake2b(digest_size=8)
        for image in self.images:
            digest.update(f"{image.shape} ".encode())
            digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.images)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Pictures":
        """Chooses some.

        Args:
          indices: [N], which, in which order.

        Returns:
          These.
        """
        paths, images = (
            tuple(self.paths[i] for i in indices),
            tuple(self.images[i] for i in indices),
        )
        return Pictures(self.name, paths, images)

    def at_scales(self, scales: Sequence[float]) -> "Pictures":
        """Resizes them, without aliasing.

        Args:
          scales: [S], shares of their own sizes, above 0; 1 leaves them as they are.

        Returns:
          Every picture at each of these sizes.
        """
        images = tuple(
            image if scale == 1 else _scaled(image, scale)
            for scale in scales
            for image in self.images
        )
        return Pictures(self.name, self.paths * len(scales), images)


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return pixels.conform(image[None], image_size=(height, width))[0]


def read(
    data_dir: str | os.PathLike,
    *,
    split: str = "train",
    channels: int = 0,
    max_bad_records: int = -1,
) -> Pictures:
    """Reads every image file of a folder and of the folders in it.

    Files of all kinds are read as `pixels.decode` does. Unreadable ones are skipped with a warning.

    Args:
      data_dir: the folder; if its only folders are `train` and `test`, these are the splits.
      split: "train" or "test"; a folder without splits is all "train".
      channels: 1 or 3; 0 for 1 if all pictures are grey and 3 otherwise.
      max_bad_records: unreadable files skipped before it is an error; -1 for 10 or 0.1 % of all,
        whichever is more.

    Returns:
      The pictures, in the order of their paths.

    Raises:
      MissingSplit: no test split.
      UserError: no such folder, no images, too many unreadable ones, or more than fit in memory.
    """
    pixels.check_image_options(0, channels)
    root = folder.split_root(pathlib.Path(os.path.expanduser(data_dir)), split)
    paths = folder.scan(root)
    headers = list(folder.sampled_headers(root, paths).values())
    grey = all(header.grey for header in headers)
    sizes = [header.size for header in headers]
    pixels.log_changes(str(root), sizes, colour=not grey, image_size=0, channels=channels)
    channels = channels or (1 if grey else 3)
    _check_memory(root, len(paths), float(np.prod(sizes, 1).mean()) * channels)
    files = reader.Reader(root, len(paths), max_bad_records=max_bad_records)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda path: files.read(path, channels=channels), paths))
    found = {path: x for path, x in zip(paths, images, strict=True) if x is not None}
    return Pictures(str(root), tuple(found), tuple(found.values()))


def hold_out(pictures: Pictures, *, share: float = 0.1, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Splits pictures at random into some to train on and some to test with.

    Args:
      pictures: two or more.
      share: of them held out, in (0, 1); at least one is, and one is not.
      seed: of the choice, 0 or more.

    Returns:
      The rest and the held-out ones.

    Raises:
      UserError: an impossible share, or a single picture.
    """
    if not 0 < share < 1:
        raise UserError(f"share {share:g} is not possible; it must be between 0 and 1")
    if len(pictures) < 2:
        raise UserError(f"{pictures.name}: one picture is too few to hold some out")
    num = min(max(1, round(share * len(pictures))), len(pictures) - 1)
    chosen = subsets.choose(pictures, num, seed=seed)
    rest = np.setdiff1d(np.arange(len(pictures)), chosen)
    return pictures.take(rest), pictures.take(chosen)


def _check_memory(root: pathlib.Path, num: int, mean_bytes: float) -> None:
    total = num * mean_bytes
    if total > MEMORY_BYTES:
        raise UserError(
            f"{root}: {num} pictures take about {total / 2**30:.1f} GiB in memory, where at most"
            f" {MEMORY_BYTES / 2**30:g} are kept; use fewer of them, or scale them down"
        )
