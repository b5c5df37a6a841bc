"""Two sets of images side by side, without a pairing: what unpaired translation learns from."""

import hashlib
from typing import Any

import numpy as np

from jaxgan.data import crops
from jaxgan.types import UserError

EPOCH = 2**20  # examples: as many as an order is still quick to draw for


class UnpairedSource:
    """An example of one set and one of another, each in an order of its own.

    Every example of the first set comes equally often; those of the second are drawn at random.
    Both are functions of the number asked for, so that a batch is one of seed and step.

    Attributes:
      name: of both sets.
      num_classes: 0, as there are no labels.
    """

    num_classes = 0

    def __init__(self, a: Any, b: Any):
        """Puts two sets together.

        Args:
          a: a source with the entry "image".
          b: another.

        Raises:
          UserError: both are the same.
        """
        if a.fingerprint == b.fingerprint:
            raise UserError(
                f"{a.name} and {b.name} hold the same images; name a folder of each look"
            )
        self.a, self.b, self.name = a, b, f"{a.name} and {b.name}"
        self._times = max(1, EPOCH // len(a))
        self.in_host_memory = all(getattr(each, "in_host_memory", True) for each in (a, b))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the first set's images."""
        return self.a.image_shape

    @property
    def distinct(self) -> int:
        """How many different examples the first set has: an epoch has each of them once."""
        return getattr(self.a, "distinct", len(self.a))

    @property
    def fingerprint(self) -> str:
        """Digest of both."""
        both = f"{self.a.fingerprint} {self.b.fingerprint}".encode()
        return hashlib.blake2b(both, digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self.a) * self._times

    def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
        if np.ndim(index) == 0:
            return {name: x[0] for name, x in self[np.array([index])].items()}
        index = np.asarray(index)
        if ((index < -len(self)) | (index >= len(self))).any():
            raise IndexError(f"{self.name}: has examples 0..{len(self) - 1}, asked for {index}")
        index = index % len(self)
        other = crops.draws(index, 0)[:, 0] % len(self.b)
        return {"a": self.a[index % len(self.a)]["image"], "b": self.b[other]["image"]}
