"""How many modes of a known distribution a generator makes, how evenly, and the benchmark's row."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgan.metrics import features, intervals
from jaxgan.metrics.features import FeatureFn, Place
from jaxgan.types import Array, UserError


def modes_and_kl(labels: Array | np.ndarray, num_modes: int) -> tuple[int, float]:
    """Counts the modes hit, and measures how unevenly.

    See "VEEGAN" by Srivastava et al. (https://arxiv.org/abs/1705.07761), section 4: with p the
    share of samples in each mode and q uniform, `KL(p || q) = sum p ln(p / q)`, in nats.

    Args:
      labels: [N] int in [0, num_modes), the mode of each sample.
      num_modes: how many modes there are.

    Returns:
      Modes with at least one sample, and the divergence: 0 for even, ln(num_modes) for one mode.

    Raises:
      UserError: no labels, or one out of range.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or labels.min() < 0 or labels.max() >= num_modes:
        raise UserError(f"labels {list(labels.shape)} must be [N], N > 0, each in [0, {num_modes})")
    counts = np.bincount(labels, minlength=num_modes)
    p = counts[counts > 0] / len(labels)
    return len(p), float((p * np.log(p * num_modes)).sum())


def mixture_modes(
    samples: Array | np.ndarray, centres: Array | np.ndarray, sigma: float
) -> dict[str, float]:
    """Scores samples of a mixture of round Gaussians.

    See "VEEGAN" by Srivastava et al. (https://arxiv.org/abs/1705.07761), section 4.1: a sample is
    of high quality within three standard deviations of its nearest mode.

    Args:
      samples: [N, D].
      centres: [K, D], the modes.
      sigma: their standard deviation.

    Returns:
      {"high_quality": share of samples, "modes": modes nearest to at least one of high quality,
      "kl": divergence of all samples' nearest modes from uniform}.

    Raises:
      UserError: samples that are not finite, or not of the centres' dimension.
    """
    if not np.isfinite(np.asarray(samples)).all():
        raise UserError("samples are not finite (NaN or infinity); the generator diverged")
    samples, centres = (np.asarray(x, np.float32) for x in (samples, centres))
    if samples.ndim != 2 or samples.shape[1:] != centres.shape[1:]:
        raise UserError(f"samples {list(samples.shape)} do not match centres {list(centres.shape)}")
    squared = np.square(samples[:, None] - centres[None]).sum(-1)
    nearest, good = squared.argmin(1), squared.min(1) <= (3 * sigma) ** 2
    return {
        "high_quality": float(good.mean()),
        "modes": float(len(np.unique(nearest[good]))),
        "kl": modes_and_kl(nearest, len(centres))[1],
    }


def stacked_labels(
    feature_fn: FeatureFn, images: np.ndarray, *, place: Place = jnp.asarray
) -> np.ndarray:
    """Names the mode of StackedMNIST images: `100 a + 10 b + c` for digits a, b, c in the channels.

    Args:
      feature_fn: with the digit classifier's `"probs"` [B, 10] of images [B, H, W, 1].
      images: [N, H, W, 3], uint8 or float in [-1, 1].
      place: puts a batch on the device.

    Returns:
      [N] int in [0, 1000), for `modes_and_kl`.

    Raises:
      UserError: images without three channels.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"images {list(images.shape)} must be [N, H, W, 3], a digit a channel")
    digits = [
        features.extract(feature_fn, images[..., c : c + 1], place=place)["probs"].argmax(1)
        for c in range(3)
    ]
    return 100 * digits[0] + 10 * digits[1] + digits[2]


def kl_floor(num_modes: int, num_samples: int) -> float:
    """The divergence that a perfect sampler of even modes is expected to show, to first order.

    `(K - 1) / (2 N)`: N samples never fall on K modes quite evenly.

    Args:
      num_modes: K.
      num_samples: N, several times K.

    Returns:
      Nats.
    """
    return (num_modes - 1) / (2 * num_samples)


# Decimals and unit of what a table shows, in its order; also of others' numbers: "input_psnr".
_WRITTEN = {
    "modes": (1, ""),
    "high_quality": (2, " %"),
    "kl": (4, ""),
    "psnr": (2, " dB"),
    "ssim": (4, ""),
    "texture": (2, ""),
    "frechet": (2, ""),
    "top1": (3, ""),
    "top5": (3, ""),
    "cycle": (2, ""),
    "difference": (2, ""),
    "edges": (3, ""),
    "kept": (3, ""),
    "oracle": (3, ""),
    "nll": (3, ""),
    "perplexity": (2, ""),
    "bits": (3, ""),
    **{f"bleu{n}": (3, "") for n in (2, 3, 4, 5)},
    "correct": (3, ""),
    "new": (3, ""),
    "copied": (3, ""),
    "agreement": (3, ""),
}


def table_row(results: Mapping[str, Any]) -> str:
    """Writes results as a row of a Markdown table, with the floor beside each number.

    Args:
      results: {"protocol", "seeds", "modes": [...], "kl": [...], "floor": {...}, "seconds"}, or
        other numbers by name; lists with one number a seed.

    Returns:
      `| ring | modes 8.0 +- 0.0 (perfect 8.0) | ... | 10 seeds | 180 s |`.
    """
    cells = [str(results["protocol"])]
    own = [name for name in _WRITTEN if name in results]
    others = [name for name in results if name not in own and name.rpartition("_")[2] in _WRITTEN]
    for name in (*own, *others):
        places, unit = _WRITTEN[name if name in own else name.rpartition("_")[2]]
        mean, half = intervals.interval(results[name])
        spread = "" if math.isnan(half) else f" +- {half:.{places}f}"
        floor = results["floor"].get(name)
        perfect = "" if floor is None else f" (perfect {floor:.{places}f}{unit})"
        cells.append(f"{name.replace('_', ' ')} {mean:.{places}f}{spread}{unit}{perfect}")
    num = int(results["seeds"])
    cells += [f"{num} seed{'s' * (num > 1)}", f"{results['seconds']:.0f} s"]
    return "| " + " | ".join(cells) + " |"


def save_results(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Writes results as JSON; a reader never sees half of them.

    Args:
      path: of the file; its folder exists.
      results: as `table_row` takes them, and whatever else is to be remembered.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)  # where it could not be written
