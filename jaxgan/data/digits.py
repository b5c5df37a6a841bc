"""The handwritten digits bundled with scikit-learn: real images without any download."""

import numpy as np

from jaxgan.data import arrays, pixels

NUM_TEST = 297


def load(*, split: str = "train") -> arrays.ArraySource:
    """Reads the digits and enlarges them from 8x8 to MNIST's 28x28.

    These are the 1,797 test images, by 13 writers, of "Optical Recognition of Handwritten Digits",
    Alpaydin and Kaynak (https://doi.org/10.24432/C50P49). The last 297 are held out.

    Args:
      split: "train" (1,500 images) or "test" (297).

    Returns:
      The source, images uint8 [28, 28, 1] in ten classes.
    """
    import sklearn.datasets

    image, label = sklearn.datasets.load_digits(return_X_y=True)
    part = slice(-NUM_TEST) if split == "train" else slice(-NUM_TEST, None)
    image = np.rint(image[part] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # was 0..16
    return arrays.ArraySource(
        {"image": pixels.conform(image, image_size=28), "label": label[part].astype(np.int32)},
        name="digits",
        num_classes=10,
        class_names=tuple("0123456789"),
    )
