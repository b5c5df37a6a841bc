"""StackedMNIST: three digits in the three colour channels, a thousand modes to be found or lost."""

import numpy as np

from jaxgan.data import arrays

NUM_EXAMPLES = 128_000


def stack(
    digits: arrays.ArraySource, *, num_examples: int = NUM_EXAMPLES, seed: int = 0
) -> arrays.ArraySource:
    """Draws three digits for every image, independently and once.

    See "PacGAN: The power of two samples in generative adversarial networks" by Lin et al.
    (https://arxiv.org/abs/1712.04086), section 4.2, which trains on 128,000 such images.

    Args:
      digits: grey images in ten classes.
      num_examples: how many images to make.
      seed: of the draw.

    Returns:
      A source of uint8 [H, W, 3] images with labels 100 a + 10 b + c in [0, 1000).
    """
    chosen = np.random.default_rng(seed).integers(0, len(digits), (num_examples, 3))
    image = np.concatenate([digits.arrays["image"][chosen[:, i]] for i in range(3)], axis=-1)
    a, b, c = digits.arrays["label"][chosen].T
    found = {"image": image, "label": 100 * a + 10 * b + c}
    return arrays.ArraySource(found, name="stacked_mnist", num_classes=1000)


def join(first: arrays.ArraySource, second: arrays.ArraySource) -> arrays.ArraySource:
    """Joins two sources of the same kind, such as the two splits of MNIST.

    Args:
      first: whose examples come first.
      second: with the same keys and image shape.

    Returns:
      One source with the examples of both.
    """
    both = {key: np.concatenate([x, second.arrays[key]]) for key, x in first.arrays.items()}
    return arrays.ArraySource(
        both, name=first.name, num_classes=first.num_classes, class_names=first.class_names
    )
