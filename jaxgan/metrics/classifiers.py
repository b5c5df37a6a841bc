"""The networks of `experiments.classifier`, and how their parameters tell which network it is.

Both keep everything in their parameters, so that one file of arrays is the whole classifier.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan.nets import layers
from jaxgan.types import Array, PyTree, UserError

SOFTER = 9  # times smaller than its inputs' sums are `ColourClassifier`'s logits
MAPS = ("intermediates", "maps")  # where Flax puts the feature maps, for those who ask
STEM = 24  # channels of `ColourClassifier`'s first convolution: 12 patterns, and their negatives


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

        def convolved(x: Array, width: int, size: int, strides: int) -> Array:
            x = nn.relu(layers.Conv(width, size, strides=strides)(x))
            self.sow(*MAPS, x)
            return x

        x = convolved(images, self.width, 5, 2)  # [B, 14, 14, 32]
        x = convolved(x, 2 * self.width, 3, 2)  # [B, 7, 7, 64]
        x = convolved(x, 2 * self.width, 3, 1)  # [B, 7, 7, 64]
        for _ in range(self.halvings):
            x = convolved(x, 2 * self.width, 3, 2)
        x = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))  # [B, 128]
        return {"features": x, "logits": nn.Dense(self.num_classes)(x)}


class LinearClassifier(nn.Module):
    """Logistic regression on pixels.

    Attributes:
      num_classes: number of classes K.
    """

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        """Maps images [B, H, W, C] in [-1, 1] to `"features"` [B, H W C], `"logits"` [B, K]."""
        x = images.reshape(images.shape[0], -1)
        zeros = nn.initializers.zeros
        return {"features": x, "logits": nn.Dense(self.num_classes, kernel_init=zeros)(x)}


class ColourClassifier(nn.Module):
    """A small residual network, for photographs and other coloured images.

    See "Deep Residual Learning for Image Recognition" by He et al.
    (https://arxiv.org/abs/1512.03385); the first convolution is not learned, see `whitening`.

    Attributes:
      num_classes: number of classes K.
      widths: channels of each stage, which halves its images.
      halvings: how often the first convolution halves larger images; see `halvings_for`.
      folded: without the norms, which `folded` works into the convolutions after training.
    """

    num_classes: int = 10
    widths: Sequence[int] = (32, 128, 160)
    halvings: int = 0
    folded: bool = True

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> dict[str, Array]:
        """Maps images [B, H, W, C] in [-1, 1] to `"features"` [B, F], `"logits"` [B, K]."""

        def convolved(x: Array, width: int, *, halve: bool) -> Array:
            x = layers.Conv(width, 3, use_bias=self.folded, kernel_init=_identity)(x)
            x = _largest_of_four(x) if halve else x
            return nn.relu(x) if self.folded else layers.Norm(slope=0.0)(x, train)

        patch, stride = stem_window(self.halvings)
        x = nn.relu(layers.Conv(STEM, patch, strides=stride)(images))  # [B, 32, 32, 24]
        self.sow(*MAPS, x)
        for width in self.widths:
            x = convolved(x, width, halve=True)
            x = x + convolved(x, width, halve=False)  # [B, 16, 16, 32], [B, 8, 8, 128], ...
            self.sow(*MAPS, x)
        x = x.max((1, 2))
        return {"features": x, "logits": nn.Dense(self.num_classes, use_bias=False)(x) / SOFTER}


def stem_window(halvings: int) -> tuple[int, int]:
    """Says how the first convolution of `ColourClassifier` sees larger images.

    Args:
      halvings: as its field.

    Returns:
      Side of its patches and the steps between them, in pixels.
    """
    return 2 * 2**halvings, 2**halvings


def whitening(images: np.ndarray, halvings: int, *, epsilon: float = 5e-4) -> dict[str, np.ndarray]:
    """Makes the first convolution of `ColourClassifier`: the patterns of patches, all as strong.

    See "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" by Jordan
    (https://arxiv.org/abs/2404.00498), section 3.1: the eigenvectors of the patches' covariance,
    each divided by the root of its eigenvalue, and their negatives.

    Args:
      images: [N, H, W, C] uint8, some thousand.
      halvings: as the network's field.
      epsilon: added to the eigenvalues.

    Returns:
      The kernel [k, k, C, 24] and the bias [24], which subtracts the mean of the patches.
    """
    side, stride = stem_window(halvings)
    real = images.astype(np.float32) / 127.5 - 1
    windows = np.lib.stride_tricks.sliding_window_view(real, (side, side), (1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)  # [N, h, w, k, k, C]
    patches = windows.reshape(-1, math.prod(windows.shape[3:])).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    values, vectors = values[::-1][: STEM // 2], vectors[:, ::-1][:, : STEM // 2]
    patterns = vectors / np.sqrt(values + epsilon)
    kernel = np.zeros((patches.shape[1], STEM))  # grey patches of 2 x 2 have four patterns only
    kernel[:, : patterns.shape[1]] = patterns
    kernel[:, STEM // 2 : STEM // 2 + patterns.shape[1]] = -patterns
    return {
        "kernel": kernel.reshape(side, side, -1, STEM).astype(np.float32),
        "bias": (-patches.mean(0) @ kernel).astype(np.float32),
    }


def folded(variables: Mapping[str, Any], *, epsilon: float = 1e-5) -> PyTree:
    """Works the norms of a `ColourClassifier` into its convolutions, as their running averages say.

    Args:
      variables: "params" and "batch_stats" of a network that is not `folded`.
      epsilon: of its norms.

    Returns:
      Parameters for the network that is.
    """
    params, stats = jax.device_get((variables["params"], variables["batch_stats"]))
    folded = {name: params[name] for name in ("Conv_0", "Dense_0")}
    for name, norm in params.items():
        if name.startswith("Norm_"):
            number = int(name.removeprefix("Norm_"))
            gain = norm["scale"] / np.sqrt(stats[name]["var"] + epsilon)
            folded[f"Conv_{number + 1}"] = {
                "kernel": params[f"Conv_{number + 1}"]["kernel"] * gain,
                "bias": norm["bias"] - stats[name]["mean"] * gain,
            }
    return folded


def halvings_for(image_shape: Sequence[int]) -> int:
    """Says how many further halvings bring the longer side of images down to 32 pixels or less.

    Args:
      image_shape: height, width, ...

    Returns:
      `halvings` of either network: 0 up to 32 pixels, 1 up to 64, 2 up to 128.
    """
    return max(0, math.ceil(math.log2(max(image_shape[:2]) / 32)))


def network(params: PyTree) -> DigitClassifier | ColourClassifier | None:
    """Tells which network parameters are of, by the names and ranks of some of them.

    Args:
      params: nested dict of arrays.

    Returns:
      The network, with the fields that the parameters tell; None where they are of none.
    """
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    kernels = {
        name.removesuffix("/kernel"): np.shape(array)
        for name, array in flat.items()
        if name.endswith("/kernel")
    }
    convs = [kernels.get(f"Conv_{i}", ()) for i in range(len(kernels))]
    convs = [shape for shape in convs if len(shape) == 4]
    dense = [shape for name, shape in kernels.items() if name.startswith("Dense_")]
    if len(convs) < 3 or any(len(shape) != 2 for shape in dense):
        return None
    if {"Dense_0", "Dense_1"} <= kernels.keys():
        features, num_classes = kernels["Dense_1"]
        return DigitClassifier(num_classes, convs[0][3], features, len(convs) - 3)
    if "Dense_0" in kernels and len(convs) % 2 and convs[0][0] > 1:
        widths = tuple(shape[3] for shape in convs[1::2])
        return ColourClassifier(kernels["Dense_0"][1], widths, int(math.log2(convs[0][0])) - 1)
    return None


def image_shape(params: PyTree) -> tuple[int, int, int]:
    """Some shape of images that parameters fit, where they fit any.

    Args:
      params: of a network that `network` knows.

    Returns:
      Height, width and channels.
    """
    net, channels = network(params), np.shape(params["Conv_0"]["kernel"])[2]
    if isinstance(net, DigitClassifier):
        shrink, inputs = 4 * 2**net.halvings, np.shape(params["Dense_0"]["kernel"])[0]
        positions = max(1, inputs // (2 * net.width))
        side = math.isqrt(positions)
        rows = side if side * side == positions else positions
        return rows * shrink, positions // rows * shrink, channels
    side = 32 * 2 ** (net.halvings if net else 0)
    return side, side, channels


def misfit(params: PyTree, shape: Sequence[int]) -> str:
    """Compares parameters with those that their network has for images of a shape.

    Args:
      params: of a network that `network` knows.
      shape: height, width and channels.

    Returns:
      What does not fit, as the end of a sentence; empty where all fits.
    """
    net = network(params)
    if net is None or halvings_for(shape) != net.halvings:
        return "network is for images of another size"
    return _difference(params, net, shape)


def checked(params: PyTree) -> nn.Module:
    """Refuses parameters that fit images of no shape at all.

    Args:
      params: nested dict of arrays.

    Returns:
      Their network.

    Raises:
      UserError: an array is missing, or of the wrong shape.
    """
    net = network(params)
    if net is None:
        wrong = "layers are those of no network here"
    else:
        wrong = _difference(params, net, image_shape(params))
    if net is None or wrong:
        raise UserError(f"the classifier's {wrong}; train it again with experiments.classifier")
    return net


def _difference(params: PyTree, net: nn.Module, shape: Sequence[int]) -> str:
    """The first parameter that is not as the network has it for images of a shape."""
    blank = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    wanted = _shapes(jax.eval_shape(net.init, jax.random.key(0), blank)["params"])
    found = _shapes(params)
    for name, size in wanted.items():
        if found.get(name) != size:
            stored = f"has shape {list(found[name])}" if name in found else "is missing"
            return f"{name} {stored}, where the network has {list(size)}"
    return ""


def _shapes(params: PyTree) -> dict[str, tuple[int, ...]]:
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    return {name: tuple(np.shape(array)) for name, array in flat.items()}


def _largest_of_four(x: Array) -> Array:
    """Halves feature maps [B, h, w, C] by the maximum of each 2 x 2; an odd border repeats itself.

    XLA's own pooling is slow on CPU to differentiate.
    """
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def _identity(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Starts a convolution as the identity as far as its channels go, beyond that at random."""
    height, width, inputs, outputs = shape
    bound = 1 / math.sqrt(height * width * inputs)
    kernel = jax.random.uniform(key, shape, dtype, -bound, bound)
    each = jnp.arange(min(inputs, outputs))
    kernel = kernel.at[..., each].set(0)
    return kernel.at[height // 2, width // 2, each, each].set(1)
