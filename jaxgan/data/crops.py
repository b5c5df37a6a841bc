"""Random crops of pictures of any size, mirrored and turned, as a dataset of its own.

Crop number i is always the same: where it lies is a hash of i. So the order of `pipeline` makes a
batch a function of the seed and the step here too, and nothing random need be saved.
"""

import hashlib
import os

import numpy as np

from jaxgan.data import folder, pictures
from jaxgan.types import UserError

# Crops in an epoch: as many as an order is still quick to draw for.
EPOCH = 2**20


class CropSource:
    """A dataset of crops, cut out of pictures in memory when they are asked for.

    Every picture gives equally many, whatever its size.

    Attributes:
      name: of the pictures.
      num_classes: 0, as there are no labels.
      in_host_memory: True, so that nothing need be read ahead in other processes.
    """

    num_classes = 0
    in_host_memory = True

    def __init__(
        self,
        found: pictures.Pictures,
        *,
        crop: int,
        crops_each: int = 0,
        turned: bool = True,
        seed: int = 0,
    ):
        """Checks that the pictures are large enough.

        Args:
          found: the pictures.
          crop: side of a crop in pixels.
          crops_each: of every picture, before any of them comes again; 0 for a million in all.
          turned: whether crops are mirrored left to right, one time in two, and turned by 0 to 3
            quarters. Where up is up in all pictures to be restored, they need not be.
          seed: of the places, 0 or more.

        Raises:
          UserError: an impossible option, or a picture smaller than a crop.
        """
        if crop < 1:
            raise UserError(f"crop {crop} is not possible; use 1 pixel or more")
        if crops_each < 0 or seed < 0:
            raise UserError(f"crops_each {crops_each} and seed {seed} must be 0 or more")
        _check_sizes(found, crop)
        self.pictures, self.crop, self.turned, self.seed = found, crop, turned, seed
        self.crops_each = crops_each or max(1, EPOCH // len(found))
        self.name = found.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every crop."""
        return self.crop, self.crop, self.pictures.channels

    @property
    def distinct(self) -> int:
        """How many pictures there are: an epoch has a crop of each."""
        return len(self.pictures)

    @property
    def fingerprint(self) -> str:
        """Digest of the pictures and of what is cut out of them."""
        digest = hashlib.blake2b(self.pictures.fingerprint.encode(), digest_size=8)
        digest.update(f" {self.crop} {self.crops_each} {self.turned} {self.seed}".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.pictures) * self.crops_each

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        if np.ndim(index) == 0:
            return {"image": self[np.array([index])]["image"][0]}
        index = np.asarray(index)
        if ((index < -len(self)) | (index >= len(self))).any():
            raise IndexError(f"{self.name}: has crops 0..{len(self) - 1}, asked for {index}")
        index = index % len(self)
        image = np.empty((len(index), *self.image_shape), np.uint8)
        places = zip(index % len(self.pictures), draws(index, self.seed), strict=True)
        for row, (number, drawn) in enumerate(places):
            image[row] = self._cut(self.pictures.images[number], *drawn)
        return {"image": image}

    def _cut(self, image: np.ndarray, top: int, left: int, mirror: int, turns: int) -> np.ndarray:
        """Cuts out one crop; each of the four numbers is uniform, and far larger than needed."""
        height, width = image.shape[:2]
        top, left = top % (height - self.crop + 1), left % (width - self.crop + 1)
        part = image[top : top + self.crop, left : left + self.crop]
        if not self.turned:
            return part
        part = part[:, ::-1] if mirror % 2 else part
        return np.rot90(part, turns % 4)


def load(
    data_dir: str | os.PathLike,
    *,
    crop: int,
    split: str = "train",
    channels: int = 0,
    max_bad_records: int = -1,
) -> CropSource:
    """Opens a folder of pictures of any size as a dataset of random crops.

    Args:
      data_dir: the folder, see `pictures.read`.
      crop: side of a crop in pixels.
      split: "train" or "test"; a folder without splits is all "train".
      channels: 1 or 3; 0 for 1 if all pictures are grey and 3 otherwise.
      max_bad_records: unreadable files skipped before it is an error; -1 for 10 or 0.1 % of all,
        whichever is more.

    Returns:
      The source.

    Raises:
      MissingSplit: no test split.
      UserError: no such folder, no images, one that is smaller than a crop, too many unreadable
        ones, or more than fit in memory.
    """
    found = pictures.read(data_dir, split=split, channels=channels, max_bad_records=max_bad_records)
    return CropSource(found, crop=crop)


def _check_sizes(found: pictures.Pictures, crop: int) -> None:
    sides = [min(image.shape[:2]) for image in found]
    smallest = int(np.argmin(sides))
    if sides[smallest] < crop:
        num = sum(side < crop for side in sides)
        raise UserError(
            f"{os.path.join(found.name, found.paths[smallest])}: is"
            f" {folder.by(found.images[smallest].shape[:2])} (height x width), smaller than a crop"
            f" of {crop}{f' ({num} such pictures)' if num > 1 else ''}; remove"
            f" {'them' if num > 1 else 'it'}, or set crop to {sides[smallest]} or less"
        )


def draws(index: np.ndarray, seed: int) -> np.ndarray:
    """Draws four random numbers for each of some numbers, always the same.

    By the generator of "Fast splittable pseudorandom number generators" by Steele et al.
    (https://doi.org/10.1145/2714064.2660195), whose n-th number is a hash of n.

    Args:
      index: [N], 0 or more.
      seed: 0 or more.

    Returns:
      [N, 4] int64, uniform in 0..2^62.
    """
    start = _hashed(np.array([seed % 2**64], np.uint64))
    place = 4 * index[:, None].astype(np.uint64) + np.arange(4, dtype=np.uint64)
    return (_hashed(start + place) >> np.uint64(2)).astype(np.int64)


def _hashed(number: np.ndarray) -> np.ndarray:
    """What SplitMix64 gives from a state of so many steps; [...] uint64."""
    x = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
