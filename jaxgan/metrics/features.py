"""Features that scores are computed from: of a classifier, or of a user's function.

A *feature function* maps images [B, H, W, C] in [-1, 1] to a dict of arrays: `"features"` [B, D],
and `"probs"` [B, K] where there are classes. `classifier_features` makes one from the weights that
`python -m experiments.classifier` trains; `inception_features` from the Inception-v3 of
the FID; `user_features` from any function images -> features [B, D]. Those for data without labels
are in `unlabelled`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import auto as tqdm

from jaxgan import images as images_lib
from jaxgan.metrics import classifiers
from jaxgan.nets import inception
from jaxgan.types import Array, PyTree, UserError

FeatureFn = Callable[[Array], dict[str, Array]]  # [B, H, W, C] in [-1, 1] -> {"features": [B, D]}
# Puts a batch on the device, or spreads it over several; it may add rows so that they divide.
Place = Callable[[np.ndarray], Any]


def classifier_features(params: PyTree) -> FeatureFn:
    """Makes the feature function of a trained classifier.

    Args:
      params: its parameters, as `weights.load_classifier` returns them, trained on images of any
        size from 8 pixels.

    Returns:
      images [B, H, W, C] in [-1, 1] -> {"features": [B, F], "probs": [B, K]}, jitted.

    Raises:
      UserError: an array is missing or of the wrong shape; or, when called, on images that the
        classifier was not trained for.
    """
    net = classifiers.checked(params)
    apply = jax.jit(net.apply)

    def feature_fn(images: Array) -> dict[str, Array]:
        _check_fit(params, images)
        out = apply({"params": params}, images)
        return {"features": out["features"], "probs": jax.nn.softmax(out["logits"])}

    return feature_fn


def classifier_maps(params: PyTree) -> Callable[[Array], tuple[Array, ...]]:
    """Makes the function that `losses.perceptual_distance` looks through, of a trained classifier.

    Args:
      params: its parameters, as `weights.load_classifier` returns them.

    Returns:
      images [B, H, W, C] in [-1, 1] -> its feature maps [B, h, w, width], none negative, from the
      first layer to the last convolution; jitted, and differentiable in the images.

    Raises:
      UserError: an array is missing or of the wrong shape; or, when called, on images that the
        classifier was not trained for.
    """
    net = classifiers.checked(params)
    collection, name = classifiers.MAPS

    @jax.jit
    def apply(params: PyTree, images: Array) -> tuple[Array, ...]:
        seen: Any = net.apply({"params": params}, images, mutable=[collection])[1]
        return seen[collection][name]

    def maps_fn(images: Array) -> tuple[Array, ...]:
        _check_fit(params, images)
        return apply(params, images)

    return maps_fn


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


def _check_fit(params: PyTree, images: Array) -> None:
    if images.ndim != 4 or classifiers.misfit(params, images.shape[1:]):
        seen = ["B", *classifiers.image_shape(params)]
        raise UserError(
            f"images {list(images.shape)} do not fit the classifier, which sees"
            f" {str(seen).replace(chr(39), '')}; train one with experiments.classifier"
            " --image_size and --channels of these images"
        )
