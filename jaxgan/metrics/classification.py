"""How well a classifier does: accuracy, recall of each class, and its confidence."""

from typing import Any

import numpy as np

from jaxgan.types import UserError

BINS = 15


def recalls(predicted: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Share of each class's examples that are found.

    Args:
      predicted: int [N] in [0, num_classes).
      label: int [N] in the same range.
      num_classes: number of classes K.

    Returns:
      float64 [K]; NaN for a class without examples.
    """
    count = np.bincount(label, minlength=num_classes)
    right = np.bincount(label[predicted == label], minlength=num_classes)
    return np.where(count > 0, right / np.maximum(count, 1), np.nan)


def calibration_error(probs: np.ndarray, label: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error: how far confidence is from accuracy.

    See "On Calibration of Modern Neural Networks" by Guo et al.
    (https://arxiv.org/abs/1706.04599), section 2: over bins of equal width of the confidence, the
    probability of the likeliest class,

      sum_b |b| / N |accuracy(b) - mean confidence(b)|

    Args:
      probs: [N, K], rows that add up to 1.
      label: int [N].
      bins: of confidence in (0, 1], each without its lower end.

    Returns:
      In [0, 1], 0 where confidence is right.
    """
    confidence, right = probs.max(1).astype(np.float64), probs.argmax(1) == label
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def report(probs: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """Measures a classifier.

    Args:
      probs: [N, K], its probabilities of each class.
      label: int [N], the right ones.

    Returns:
      {"accuracy", "balanced_accuracy": mean recall of the classes that occur,
      "calibration_error", "recall": [K], NaN for a class that does not occur}.

    Raises:
      UserError: no examples.
    """
    if not len(label):
        raise UserError("no examples: a classifier is tested with at least one")
    predicted = probs.argmax(1)
    recall = recalls(predicted, label, probs.shape[1])
    return {
        "accuracy": float((predicted == label).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
        "calibration_error": calibration_error(probs, label),
        "recall": recall.tolist(),
    }
