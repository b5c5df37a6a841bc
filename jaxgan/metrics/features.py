"""Features that scores are computed from: of a classifier, or of a user's function.

A *feature function* maps images [B, H, W, C] in [-1, 1] to a dict of arrays: `"features"` [B, D],
and `"probs"` [B, K] where there are classes. `digit_features` makes one from the weights that
`python -m experiments.classifier` trains; `inception_features` from the Inception-v3 of
the FID; `user_features` from any function images -> features [B, D]. Those for data without labels
are in `unlabelled`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from tqdm import auto as tqdm

from jaxgan import images as images_lib
from jaxgan.nets import inception, layers
from jaxgan.types import Array, PyTree, UserError

FeatureFn = Callable[[Array], dict[str, Array]]  # [B, H, W, C] in [-1, 1] -> {"features": [B, D]}
# Puts a batch on the device, or spreads it over several; it may add rows so that they divide.
Place = Callable[[np.ndarray], Any]


class DigitClassifier(nn.Module):
    """A small convolutional classifier, for 28 x 28 digits and the like.

    Strides rather than pooling, and no normalisation: no state beside the parameters, and quick to
    train on a CPU.

    Attributes:
      num_classes: number of classes K.
      width: channels of the first convolution.
      features: units of the penultimate layer.
      halvings: further convolutions of stride 2, for larger images; see `halvings_for`.
    """

    num_classes: int = 10
    width: int = 32
    features: int = 128
    halvings: int = 0

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        """Maps images [B, H, W, C] in [-1, 1] to `"features"` [B, features], `"logits"` [B, K]."""
        x = nn.relu(layers.Conv(self.width, 5, strides=2)(images))  # [B, 14, 14, 32]
        x = nn.relu(layers.Conv(2 * self.width, 3, strides=2)(x))  # [B, 7, 7, 64]
        x = nn.relu(layers.Conv(2 * self.width, 3)(x))  # [B, 7, 7, 64]
        for _ in range(self.halvings):
            x = nn.relu(layers.Conv(2 * self.width, 3, strides=2)(x))
        x = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))  # [B, 128]
        return {"features": x, "logits": nn.Dense(self.num_classes)(x)}


def halvings_for(image_shape: Sequence[int]) -> int:
    """Says how many further halvings bring the longer side of images down to 8 pixels or less.

    Args:
      image_shape: height, width, ...

    Returns:
      `DigitClassifier.halvings`: 0 up to 32 pixels, 1 up to 64, 2 up to 128.
    """
    return max(0, math.ceil(math.log2(max(image_shape[:2]) / 32)))


def fits_classifier(params: PyTree, image_shape: Sequence[int]) -> bool:
    """Whether the parameters of a `DigitClassifier` are for such images, as far as they tell.

    Args:
      params: its parameters.
      image_shape: height, width and channels.

    Returns:
      Whether channels and the size of the last feature map agree.
    """
    height, width, channels = image_shape
    shrink = 4 * 2 ** _halvings(params)
    positions = -(-height // shrink) * -(-width // shrink)
    return (channels, positions) == (params["Conv_0"]["kernel"].shape[2], _positions(params))


def _halvings(params: PyTree) -> int:
    return sum(name.startswith("Conv_") for name in params) - 3


def _positions(params: PyTree) -> int:
    """Positions of the last feature map."""
    return params["Dense_0"]["kernel"].shape[0] // params["Conv_2"]["kernel"].shape[3]


def digit_features(params: PyTree) -> FeatureFn:
    """Makes the feature function of a trained `DigitClassifier`.

    Args:
      params: its parameters, as `weights.load_classifier` returns them, trained on images of any
        size from 8 pixels.

    Returns:
      images [B, H, W, C] in [-1, 1] -> {"features": [B, 128], "probs": [B, K]}, jitted.

    Raises:
      UserError: an array is missing or of the wrong shape; or, when called, on images that the
        classifier was not trained for.
    """
    _check_shapes(params)
    channels, width = params["Conv_0"]["kernel"].shape[2:]
    features, num_classes = params["Dense_1"]["kernel"].shape
    halvings = _halvings(params)
    net = DigitClassifier(num_classes, width, features, halvings)
    apply = jax.jit(net.apply)

    def feature_fn(images: Array) -> dict[str, Array]:
        if images.ndim != 4 or not fits_classifier(params, images.shape[1:]):
            side = round(_positions(params) ** 0.5) * 4 * 2**halvings
            raise UserError(
                f"images {list(images.shape)} do not fit the classifier, which sees"
                f" [B, {side}, {side}, {channels}]; train one with experiments.classifier"
                " --image_size and --channels of these images"
            )
        out = apply({"params": params}, images)
        return {"features": out["features"], "probs": jax.nn.softmax(out["logits"])}

    return feature_fn


def _check_shapes(params: PyTree) -> None:
    """Refuses parameters of another network, by the sizes that some of them have."""
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    found = {name: np.shape(array) for name, array in flat.items()}
    channels, width = found["Conv_0/kernel"][2:]
    units, num_classes = found["Dense_1/kernel"]
    positions = max(1, found["Dense_0/kernel"][0] // (2 * width))
    kernels = {
        "Conv_0": (5, 5, channels, width),
        "Conv_1": (3, 3, width, 2 * width),
        **{f"Conv_{2 + i}": (3, 3, 2 * width, 2 * width) for i in range(1 + _halvings(params))},
        "Dense_0": (positions * 2 * width, units),
        "Dense_1": (units, num_classes),
    }
    biases = {f"{name}/bias": shape[-1:] for name, shape in kernels.items()}
    for name, wanted in {**{f"{k}/kernel": v for k, v in kernels.items()}, **biases}.items():
        if found.get(name) != wanted:
            stored = f"has shape {list(found[name])}" if name in found else "is missing"
            raise UserError(
                f"the classifier's {name} {stored}, where the network has {list(wanted)};"
                " train it again with experiments.classifier"
            )


def inception_features(params: PyTree) -> FeatureFn:
    """Makes the feature function that the FID and the inception score are defined by.

    Args:
      params: as `weights.load_inception` returns them.

    Returns:
      images [B, H, W, 1 or 3] in [-1, 1] -> {"features": [B, 2048], "probs": [B, 1008]}.

    Raises:
      UserError: when called on images with neither one nor three channels.
    """
    apply = jax.jit(inception.Inception().apply)

    def feature_fn(images: Array) -> dict[str, Array]:
        out = apply({"params": params}, inception.preprocess(images))
        return {"features": out["pool3"], "probs": jax.nn.softmax(out["logits"])}

    return feature_fn


def user_features(function: Callable[[Array], Array]) -> FeatureFn:
    """Makes a feature function of any function from images to one vector an image.

    Args:
      function: images [B, H, W, C] in [-1, 1] -> [B, ...]; flattened to [B, D].

    Returns:
      images -> {"features": [B, D]}.
    """

    def feature_fn(images: Array) -> dict[str, Array]:
        out = jnp.asarray(function(images))
        if out.ndim < 2 or out.shape[0] != images.shape[0]:
            raise UserError(
                f"the feature function made {list(out.shape)} of images {list(images.shape)};"
                " it must return one vector for each image, [B, D]"
            )
        return {"features": out.reshape(out.shape[0], -1)}

    return feature_fn


def extract(
    feature_fn: FeatureFn,
    images: np.ndarray,
    *,
    batch_size: int = 500,
    place: Place = jnp.asarray,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Applies a feature function to many images, a batch of constant size at a time.

    Args:
      feature_fn: images [B, H, W, C] in [-1, 1] -> dict of [B, ...].
      images: [N, H, W, C], uint8 or float in [-1, 1].
      batch_size: images at a time; the last batch is filled up, so that there is one compilation.
      place: puts a batch on the device; a function that shards it uses several devices.
      progress: shows a progress bar.

    Returns:
      dict of [N, ...] float32, on the host.
    """
    batch_size = min(batch_size, len(images))
    parts: list[Mapping[str, np.ndarray]] = []
    for start in tqdm.trange(0, len(images), batch_size, disable=not progress, desc="features"):
        batch = images[start : start + batch_size]
        missing = batch_size - len(batch)
        batch = np.concatenate([batch, np.repeat(batch[-1:], missing, 0)]) if missing else batch
        placed = place(batch)
        if placed.dtype == np.uint8:
            placed = images_lib.from_uint8(placed)
        out = jax.device_get(feature_fn(placed))
        parts.append({name: value[: len(batch)] for name, value in out.items()})
    return {
        name: np.concatenate([part[name] for part in parts])[: len(images)].astype(np.float32)
        for name in parts[0]
    }
