"""Few labels among many images: what a conditional GAN is trained on where most have none."""

import numpy as np

from jaxgan.data import arrays

DISC_LABEL = "disc_label"  # what D is told: the label, or `num_classes` where it is not known


def partly_labelled(
    source: arrays.ArraySource, labelled: np.ndarray, unlabelled: np.ndarray
) -> arrays.ArraySource:
    """Makes a source of labelled images, and of others as if nobody knew what they are.

    D learns for the latter whether an image is real, whatever its class: its label is one more than
    there are classes. G makes an image of some class for each, the classes taking turns. Labelled
    images are repeated, so that about half of every batch have a label.

    Args:
      source: images with labels, in memory.
      labelled: int [n], those whose labels are used.
      unlabelled: int [m], those whose labels are not looked at.

    Returns:
      A source of "image", "label" (what G makes) and `DISC_LABEL` (what D is told).
    """
    times = max(1, len(unlabelled) // max(1, len(labelled)))
    labelled = np.tile(labelled, times)
    label, classes = source.arrays["label"][labelled], source.num_classes
    turns = np.arange(len(unlabelled), dtype=np.int32) % classes
    unknown = np.full(len(unlabelled), classes, np.int32)
    return arrays.ArraySource(
        {
            "image": source.arrays["image"][np.concatenate([labelled, unlabelled])],
            "label": np.concatenate([label, turns]),
            DISC_LABEL: np.concatenate([label, unknown]),
        },
        name=f"{source.name} (partly labelled)",
        num_classes=classes,
        class_names=source.class_names,
    )
