"""Random choices of examples: some for a score, or a share held out for testing."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgan.data import arrays
from jaxgan.types import UserError

SHARE = 0.1
# A share of a small set would be too few to measure anything with.
LEAST = 100


def choose(source: Any, num: int, *, seed: int = 0) -> np.ndarray:
    """Chooses examples at random, so that data sorted by class are not seen one class at a time.

    Args:
      source: anything with a length.
      num: how many, at most.
      seed: of the choice, 0 or more. With one seed a smaller choice is part of every larger one.

    Returns:
      int64 [num or fewer], distinct and ascending: `source[choose(source, 64)]` is a batch.

    Raises:
      UserError: a negative number.
    """
    if num < 0:
        raise UserError(f"num {num} must be 0 or more")
    return np.sort(np.random.default_rng(seed).permutation(len(source))[:num])


def hold_out(source: Any, *, share: float = SHARE, seed: int = 0) -> tuple[Any, Any]:
    """Splits a source at random into examples to train on and examples to test with.

    A set in memory stays in memory; any other is still read only when asked for.

    Args:
      source: any source (see `jaxgan.data`).
      share: of the examples held out, in (0, 1). At least 100 are, or half of them all where that
        is fewer.
      seed: of the choice, 0 or more. The same source, share and seed give the same split.

    Returns:
      The rest and the held-out examples: disjoint, together the source.

    Raises:
      UserError: an impossible share, or fewer than two examples.
    """
    if not 0 < share < 1:
        raise UserError(f"share {share:g} is not possible; it must be between 0 and 1")
    if len(source) < 2:
        raise UserError(f"{source.name}: {len(source)} example is too few to hold some out")
    num = max(round(share * len(source)), min(LEAST, len(source) // 2))
    num = min(num, len(source) - 1)
    held_out = choose(source, num, seed=seed)
    rest = np.setdiff1d(np.arange(len(source)), held_out)
    return subset(source, rest, "without held-out"), subset(source, held_out, "held-out")


def of_each_class(source: Any, num: int | Sequence[int], *, seed: int) -> list[np.ndarray]:
    """Chooses so many examples of each class at random.

    Args:
      source: any source whose `labels` are at hand.
      num: how many of each class, or of all the classes in turn; -1 for all that there are.
      seed: of the choice, 0 or more. With one seed a smaller choice is part of every larger one:
        the first of the class under `numpy.random.default_rng(seed).permutation`.

    Returns:
      int64 [n] for each class, in the order of that permutation.

    Raises:
      UserError: there are no labels, a class has no examples, or fewer than are asked for.
    """
    labels = getattr(source, "labels", None)
    if labels is None or not source.num_classes:
        raise UserError(f"{source.name}: has no labels to choose some examples of each class by")
    wanted = [num] * source.num_classes if isinstance(num, int) else list(num)
    order = np.random.default_rng(seed).permutation(len(source))
    chosen = []
    for label, most in enumerate(wanted):
        of_class = order[labels[order] == label]
        name = (getattr(source, "class_names", ()) or range(len(wanted)))[label]
        if not len(of_class):
            raise UserError(f"{source.name}: class {name} has no images; remove it, or add some")
        if most > len(of_class):
            raise UserError(
                f"{source.name}: class {name} has {len(of_class)} images, fewer than the {most}"
                " asked for; ask for fewer"
            )
        chosen.append(of_class if most < 0 else of_class[:most])
    return chosen


def evened(labels: np.ndarray) -> np.ndarray:
    """Repeats the examples of small classes until all classes have as many as the largest.

    Args:
      labels: int [N], the label of each example.

    Returns:
      int64 [M], numbers of examples, class by class; an example of a small class is there several
      times, all of a class within one as often.
    """
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(map(len, groups))
    return np.concatenate([np.resize(group, most) for group in groups])


def subset(source: Any, indices: np.ndarray, what: str) -> Any:
    """Makes a source of some of another's examples.

    Args:
      source: any source.
      indices: int [N], which examples, in which order.
      what: they are called in messages.

    Returns:
      A source in memory if `source` is, else a `Subset`.
    """
    if hasattr(source, "take"):
        return source.take(indices, f"{source.name} ({what})")
    if not isinstance(source, arrays.ArraySource):
        return Subset(source, indices, what)
    return arrays.ArraySource(
        source[indices],
        name=f"{source.name} ({what})",
        num_classes=source.num_classes,
        class_names=source.class_names,
    )


class Subset:
    """Some examples of a source, each read when it is asked for."""

    def __init__(self, source: Any, indices: np.ndarray, what: str):
        """Reads nothing.

        Args:
          source: any source.
          indices: int [N], which examples, in which order.
          what: they are called in messages.
        """
        self.source, self.indices = source, np.asarray(indices)
        self.name = f"{source.name} ({what})"
        self.num_classes = source.num_classes
        self.class_names = getattr(source, "class_names", ())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.source.image_shape

    @property
    def labels(self) -> np.ndarray | None:
        """The label of every example, int32 [N]; None where the source has none at hand."""
        labels = getattr(self.source, "labels", None)
        return None if labels is None else labels[self.indices]

    @property
    def fingerprint(self) -> str:
        """Digest of the source's fingerprint and the choice."""
        digest = hashlib.blake2b(self.source.fingerprint.encode(), digest_size=8)
        digest.update(self.indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        return self.source[self.indices[index]]
