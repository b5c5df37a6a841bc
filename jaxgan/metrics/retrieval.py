"""Retrieval: does a translation lie nearest to the target that belongs to its source?

It measures unpaired translation where a pairing is known that training never saw: a translator that
keeps the content lands near the right target, one that makes any image of the other look does not.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import distance

from jaxgan.types import UserError


def accuracy(
    made: np.ndarray, target: np.ndarray, *, top: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Share of translations among whose nearest targets is their own.

    Args:
      made: [N, D] features of the translations.
      target: [N, D] features of the targets; row i belongs to row i. Of equally near ones the own
        counts as the furthest.
      top: numbers of nearest targets looked at.

    Returns:
      {"top1": share, "top5": share} in [0, 1]; by chance k / N.

    Raises:
      UserError: the sets differ in shape.
    """
    if np.shape(made) != np.shape(target) or np.ndim(made) != 2:
        raise UserError(
            f"translations {list(np.shape(made))} and targets {list(np.shape(target))} must have "
            "one shape, [N, D]"
        )
    squared = distance.cdist(made, target, "sqeuclidean")
    own = np.diagonal(squared)
    rank = (squared <= own[:, None]).sum(1)  # 1 for the nearest
    return {f"top{k}": float((rank <= k).mean()) for k in top}


def thumbnails(images: np.ndarray, *, side: int = 16) -> np.ndarray:
    """Images as small ones, whose pixels are compared where there is no network to look through.

    Args:
      images: [N, H, W, C] uint8, or float in [-1, 1].
      side: of the small ones, at most that of the images.

    Returns:
      [N, side * side * C] float64 in [-1, 1], means over equal parts.
    """
    x = np.asarray(images)
    x = x / 127.5 - 1.0 if x.dtype == np.uint8 else x.astype(np.float64)
    for axis in (1, 2):
        edges = np.linspace(0, x.shape[axis], min(side, x.shape[axis]) + 1).round().astype(int)
        sums = np.add.reduceat(x, edges[:-1], axis)
        shape = [1] * x.ndim
        shape[axis] = len(edges) - 1
        x = sums / np.diff(edges).reshape(shape)
    return x.reshape(len(x), -1)
