"""What the data decide of a run of `experiments.images`, where the flags leave it to them."""

import math
from typing import Any

from jaxgan.data.spec import Spec

AUTO = "auto"
FROM_DATA = -1.0  # of a flag that is a number
PIXELS = 32 * 32  # of the images that `GAMMA` is for
GAMMA = 1.0
FEW = 20_000  # examples, below which D sees them augmented
FEWEST_OF_A_CLASS = 20  # examples, below which labels take no part
STEPS = 4500  # of images of so many pixels, or fewer
FEWEST_STEPS = 2250  # of larger ones: 64 x 64 pixels take 27 minutes of one core with AVX-512


def settings(config: Any, spec: Spec) -> dict[str, Any]:
    """Finds what the flags leave open.

    Args:
      config: the flags of `experiments.images`.
      spec: of the data.

    Returns:
      A value for each field that asks for it: gamma in proportion to the images' pixels,
      augmentation where examples are few, labels where each class has examples enough, fewer steps
      where images are larger than 32 x 32.
    """
    height, width, _ = spec.shapes["image"]
    found: dict[str, Any] = {}
    if config.gamma == FROM_DATA:
        found["gamma"] = float(f"{GAMMA * height * width / PIXELS:.3g}")
    if config.augment == AUTO:
        found["augment"] = "diffaug" if spec.num_examples < FEW else "none"
    if config.condition == AUTO:
        enough = spec.num_classes > 1 and min(spec.label_counts or (0,)) >= FEWEST_OF_A_CLASS
        found["condition"] = "projection" if enough else "none"
    if config.num_steps == 0:
        affordable = STEPS * math.sqrt(PIXELS / (height * width))
        found["num_steps"] = round(min(STEPS, max(FEWEST_STEPS, affordable)))
    return found
