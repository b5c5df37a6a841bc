"""Which images were used where: a number for each image, and one digest for a set of them."""

import hashlib
from collections.abc import Mapping

import numpy as np

from jaxgan.types import UserError


def of_images(images: np.ndarray) -> np.ndarray:
    """Makes a number of each image, the same for the same shape and pixels.

    Args:
      images: [N, H, W, C] uint8.

    Returns:
      uint64 [N], the first eight bytes of the SHA-256 of shape and pixels.
    """
    shape = str(images.shape[1:]).encode()
    rows = np.ascontiguousarray(images)
    found = [hashlib.sha256(shape + row.tobytes()).digest()[:8] for row in rows]
    return np.frombuffer(b"".join(found), "<u8").astype(np.uint64)


def of_set(numbers: np.ndarray) -> str:
    """Makes one digest of a set of images, whatever their order and however often each occurs.

    Args:
      numbers: uint64 [N], of `of_images`.

    Returns:
      64 hexadecimal digits.
    """
    return hashlib.sha256(np.unique(numbers).astype("<u8").tobytes()).hexdigest()


class Ledger:
    """Which real images each phase of an experiment has used, and that none was held out."""

    def __init__(self, held_out: np.ndarray, *, phase: str = "test"):
        """Begins with the images that no other phase may see.

        Args:
          held_out: uint64 [N], of `of_images`.
          phase: what they are for.
        """
        self._held_out, self._phase = held_out, phase
        self._used = {phase: held_out}

    def use(self, phase: str, numbers: np.ndarray) -> None:
        """Notes images that a phase uses, before it does.

        Args:
          phase: its name; may be noted several times.
          numbers: uint64 [N], of `of_images`.

        Raises:
          UserError: one of them is held out.
        """
        leaked = int(np.isin(numbers, self._held_out).sum())
        if leaked and phase != self._phase:
            raise UserError(
                f"{leaked} of {len(numbers)} images of the phase {phase} are {self._phase} images;"
                " nothing measured with them would count"
            )
        before = self._used.get(phase, np.zeros(0, np.uint64))
        self._used = {**self._used, phase: np.union1d(before, numbers)}

    def record(self) -> Mapping[str, Mapping[str, int | str]]:
        """Says which images each phase has used.

        Returns:
          {phase: {"images": how many different ones, "sha256": `of_set`}}.
        """
        return {
            phase: {"images": len(np.unique(numbers)), "sha256": of_set(numbers)}
            for phase, numbers in self._used.items()
        }
