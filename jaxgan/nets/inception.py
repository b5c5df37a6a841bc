"""Inception-v3 as the FID uses it: TensorFlow's network of 2015-12-05, for inference only.

It differs from the published Inception-v3, and from others' weights, in ways that the score
depends on: a bilinear resize that does not align pixel centres, average pooling that leaves
padding out, max pooling in the last block, and 1,008 classes. Batch normalisation is folded into
the convolutions.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.nets import layers
from jaxgan.types import Array, PyTree, UserError

SIDE = 299
EPSILON = 1e-3  # of the batch normalisation that is folded in


class Inception(nn.Module):
    """The network; parameters come from `convert`, never from training."""

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        """Maps images to features.

        Args:
          images: [B, 299, 299, 3], in [-1, 1).

        Returns:
          {"pool3": [B, 2048], "logits": [B, 1008]}; the logits are without bias, as for the
          inception score.
        """
        x = _Conv(32, 3, strides=2, padding="VALID", name="Conv2d_1a_3x3")(images)  # 149
        x = _Conv(32, 3, padding="VALID", name="Conv2d_2a_3x3")(x)
        x = _Conv(64, 3, name="Conv2d_2b_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))  # 73
        x = _Conv(80, 1, name="Conv2d_3b_1x1")(x)
        x = _Conv(192, 3, padding="VALID", name="Conv2d_4a_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))  # [B, 35, 35, 192]
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = _BlockA(pooled, name=name)(x)
        x = _BlockB(name="Mixed_6a")(x)  # [B, 17, 17, 768]
        widths = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}
        for name, width in widths.items():
            x = _BlockC(width, name=name)(x)
        x = _BlockD(name="Mixed_7a")(x)  # [B, 8, 8, 1280]
        x = _BlockE(_mean_pool, name="Mixed_7b")(x)
        x = _BlockE(_max_pool, name="Mixed_7c")(x)  # [B, 8, 8, 2048]
        x = x.mean((1, 2))
        return {"pool3": x, "logits": nn.Dense(1008, use_bias=False, name="fc")(x)}


def preprocess(images: Array) -> Array:
    """Turns images into what the network sees, as the reference tools do.

    Args:
      images: [B, H, W, C] in [-1, 1], grey or RGB; rounded to the 256 levels of a file.

    Returns:
      [B, 299, 299, 3].

    Raises:
      UserError: images with neither one nor three channels.
    """
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UserError(f"images {list(images.shape)} must be [B, H, W, C] with C of 1 or 3")
    levels = jnp.clip(jnp.round((images + 1.0) * 127.5), 0.0, 255.0)
    levels = jnp.broadcast_to(levels, (*images.shape[:3], 3))
    return (resize(levels, SIDE) - 128.0) / 128.0


def resize(images: Array, side: int) -> Array:
    """Resizes bilinearly as TensorFlow 1 does: output pixel i sits at `i * input / output`.

    See "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" by Parmar et al.
    (https://arxiv.org/abs/2104.11222) for what this does to the FID.

    Args:
      images: [B, H, W, C].
      side: height and width of the result.

    Returns:
      [B, side, side, C].
    """
    for axis in (2, 1):
        size = images.shape[axis]
        place = np.arange(side, dtype=np.float32) * np.float32(size / side)
        low = place.astype(np.int32)
        shape = [1] * images.ndim
        shape[axis] = side
        share = (place - low).reshape(shape)
        before = jnp.take(images, low, axis=axis)
        after = jnp.take(images, np.minimum(low + 1, size - 1), axis=axis)
        images = before + (after - before) * share
    return images


def convert(state: Mapping[str, np.ndarray]) -> PyTree:
    """Turns the usual PyTorch state dict of this network into parameters of `Inception`.

    Args:
      state: names such as `Mixed_5b.branch1x1.conv.weight` and `.bn.running_var` -> arrays.

    Returns:
      The parameters, batch normalisation folded into kernels and biases.

    Raises:
      UserError: a tensor is missing or of the wrong shape: not the weights of this network.
    """
    blank = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"]

    def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in state or np.shape(state[name]) != shape:
            found = f"is {list(np.shape(state[name]))}" if name in state else "is missing"
            raise UserError(
                f"these are not Inception's weights of 2015-12-05: {name} {found},"
                f" and should be {list(shape)}"
            )
        return np.asarray(state[name], np.float64)

    def folded(name: str, node: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
        height, width, inputs, outputs = node["kernel"].shape
        kernel = array(f"{name}.conv.weight", (outputs, inputs, height, width))
        scale, bias, mean, var = (
            array(f"{name}.bn.{part}", (outputs,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(var + EPSILON)
        kernel = kernel.transpose(2, 3, 1, 0) * scale.reshape(1, 1, 1, -1)
        folded = {"kernel": kernel, "bias": bias - mean * scale}
        return {part: value.astype(np.float32) for part, value in folded.items()}

    def walk(name: str, node: Mapping[str, PyTree]) -> PyTree:
        if name == "fc":
            inputs, outputs = node["kernel"].shape
            return {"kernel": array("fc.weight", (outputs, inputs)).T.astype(np.float32)}
        if "Conv_0" in node:
            return {"Conv_0": folded(name, node["Conv_0"])}
        return {part: walk(f"{name}.{part}".lstrip("."), node[part]) for part in node}

    return walk("", shapes)


class _Conv(nn.Module):
    """Convolution, batch normalisation (folded in) and ReLU."""

    features: int
    kernel: int | tuple[int, int]
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = layers.Conv(self.features, self.kernel, strides=self.strides, padding=self.padding)
        return nn.relu(conv(x))


class _BlockA(nn.Module):
    pooled: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = _Conv(64, 1, name="branch1x1")(x)
        b = _Conv(48, 1, name="branch5x5_1")(x)
        b = _Conv(64, 5, name="branch5x5_2")(b)
        c = _Conv(64, 1, name="branch3x3dbl_1")(x)
        c = _Conv(96, 3, name="branch3x3dbl_2")(c)
        c = _Conv(96, 3, name="branch3x3dbl_3")(c)
        d = _Conv(self.pooled, 1, name="branch_pool")(_mean_pool(x))
        return jnp.concatenate([a, b, c, d], -1)


class _BlockB(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = _Conv(384, 3, strides=2, padding="VALID", name="branch3x3")(x)
        b = _Conv(64, 1, name="branch3x3dbl_1")(x)
        b = _Conv(96, 3, name="branch3x3dbl_2")(b)
        b = _Conv(96, 3, strides=2, padding="VALID", name="branch3x3dbl_3")(b)
        return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], -1)


class _BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = self.width
        a = _Conv(192, 1, name="branch1x1")(x)
        b = _Conv(width, 1, name="branch7x7_1")(x)
        b = _Conv(width, (1, 7), name="branch7x7_2")(b)
        b = _Conv(192, (7, 1), name="branch7x7_3")(b)
        c = _Conv(width, 1, name="branch7x7dbl_1")(x)
        c = _Conv(width, (7, 1), name="branch7x7dbl_2")(c)
        c = _Conv(width, (1, 7), name="branch7x7dbl_3")(c)
        c = _Conv(width, (7, 1), name="branch7x7dbl_4")(c)
        c = _Conv(192, (1, 7), name="branch7x7dbl_5")(c)
        d = _Conv(192, 1, name="branch_pool")(_mean_pool(x))
        return jnp.concatenate([a, b, c, d], -1)


class _BlockD(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = _Conv(192, 1, name="branch3x3_1")(x)
        a = _Conv(320, 3, strides=2, padding="VALID", name="branch3x3_2")(a)
        b = _Conv(192, 1, name="branch7x7x3_1")(x)
        b = _Conv(192, (1, 7), name="branch7x7x3_2")(b)
        b = _Conv(192, (7, 1), name="branch7x7x3_3")(b)
        b = _Conv(192, 3, strides=2, padding="VALID", name="branch7x7x3_4")(b)
        return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], -1)


class _BlockE(nn.Module):
    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = _Conv(320, 1, name="branch1x1")(x)
        b = _Conv(384, 1, name="branch3x3_1")(x)
        b = [_Conv(384, (1, 3), name="branch3x3_2a")(b), _Conv(384, (3, 1), name="branch3x3_2b")(b)]
        c = _Conv(448, 1, name="branch3x3dbl_1")(x)
        c = _Conv(384, 3, name="branch3x3dbl_2")(c)
        c = [
            _Conv(384, (1, 3), name="branch3x3dbl_3a")(c),
            _Conv(384, (3, 1), name="branch3x3dbl_3b")(c),
        ]
        d = _Conv(192, 1, name="branch_pool")(self.pool(x))
        return jnp.concatenate([a, *b, *c, d], -1)


def _mean_pool(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _max_pool(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")
