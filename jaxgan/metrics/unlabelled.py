"""Features for images without labels: an autoencoder's code, or a random network's output.

Both are images [B, H, W, C] -> vectors, for images of any size and colour. They see shapes and
strokes, not what is in the image, and their numbers compare only with numbers of the same features.
"""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from tqdm import auto as tqdm

from jaxgan import images as images_lib
from jaxgan.metrics import features
from jaxgan.metrics.features import FeatureFn
from jaxgan.nets import layers
from jaxgan.types import Array, PyTree, UserError

SMALLEST = 7  # feature maps are halved down to this side or less
MOST_CHANNELS = 128


class Encoder(nn.Module):
    """Convolutions of stride 2 down to 7 pixels or less, and one dense layer.

    Attributes:
      features: length of the vector.
      width: channels of the first convolution; each further one has twice as many, 128 at most.
    """

    features: int = 64
    width: int = 32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, C] in [-1, 1] to vectors [B, features]."""
        x = images
        for channels in self.channels(images.shape[1:3]):
            x = nn.relu(layers.Conv(channels, 3, strides=2)(x))  # [B, 14, 14, 32], [B, 7, 7, 64]
        return nn.Dense(self.features)(x.reshape(x.shape[0], -1))

    def channels(self, size: tuple[int, ...]) -> list[int]:
        """Channels of each convolution for images of a size.

        Args:
          size: height and width.

        Returns:
          One number a convolution; at least one.
        """
        halvings = max(1, len(sides(min(size))) - 1)
        return [min(self.width * 2**i, MOST_CHANNELS) for i in range(halvings)]


class Autoencoder(nn.Module):
    """An `Encoder`, and its mirror image, for images of one size.

    Attributes:
      features: length of the code.
      width: channels nearest to the image.
    """

    features: int = 64
    width: int = 32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, C] in [-1, 1] to themselves as far as the code tells."""
        encoder = Encoder(self.features, self.width, name="encoder")
        height, width, image_channels = images.shape[1:]
        channels = encoder.channels((height, width))
        sizes = [(-(-height // 2**i), -(-width // 2**i)) for i in range(len(channels) + 1)]
        rows, columns = sizes[-1]
        x = nn.relu(nn.Dense(rows * columns * channels[-1])(encoder(images)))
        x = x.reshape(-1, rows, columns, channels[-1])
        for size, outputs in zip(sizes[-2::-1], [*channels[-2::-1], image_channels], strict=True):
            x = layers.ConvTranspose(outputs, 4, strides=2)(x)[:, : size[0], : size[1]]
            x = nn.relu(x) if size != (height, width) else x
        return x


def sides(side: int) -> list[int]:
    """Sides of the feature maps of an image, halved until they are small.

    Args:
      side: the shorter side of the image.

    Returns:
      The sides, the image's first.
    """
    found = [side]
    while found[-1] > SMALLEST:
        found.append(-(-found[-1] // 2))
    return found


def train_autoencoder(
    images: np.ndarray,
    *,
    seed: int = 0,
    num_steps: int = 800,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    progress: bool = False,
) -> PyTree:
    """Trains an autoencoder on images: Adam on the squared error, the rate falling to zero.

    Takes about a minute for 28 x 28 pixels on two CPU cores, whatever the number of images.

    Args:
      images: [N, H, W, C] uint8.
      seed: of the parameters and the batches.
      num_steps: of training.
      batch_size: images a step.
      learning_rate: the highest.
      progress: shows a progress bar.

    Returns:
      Parameters for `encoder_features`. Over the training images, the code has mean 0 and a mean
      variance of 1.

    Raises:
      UserError: the training diverged.
    """
    net = Autoencoder()
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    shape = images.shape[1:]
    params = jax.jit(net.init)(jax.random.key(seed), jnp.zeros((1, *shape)))["params"]

    def loss_fn(params: PyTree, batch: Array) -> Array:
        real = images_lib.from_uint8(batch)
        made: Array = net.apply({"params": params}, real)  # pyright: ignore[reportAssignmentType]
        return jnp.square(made - real).mean()

    @jax.jit
    def step(params: PyTree, opt_state: PyTree, batch: Array) -> tuple[PyTree, PyTree]:
        grads = jax.grad(loss_fn)(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state, rng = tx.init(params), np.random.default_rng(seed)
    for _ in tqdm.trange(num_steps, disable=not progress, desc="autoencoder"):
        batch = images[rng.integers(0, len(images), batch_size)]
        params, opt_state = step(params, opt_state, batch)
    encoder = jax.device_get(params["encoder"])
    code = features.extract(encoder_features(encoder, image_shape=shape), images)["features"]
    return _standardised(encoder, code)


def _standardised(encoder: PyTree, code: np.ndarray) -> PyTree:
    """Shifts and scales the code through the last layer: mean 0, and a mean variance of 1."""
    mean, scale = code.mean(0, dtype=np.float64), np.sqrt(code.var(0, dtype=np.float64).mean())
    if not np.isfinite(scale):
        raise UserError("the autoencoder of the features diverged; score with other features")
    last, scale = encoder["Dense_0"], max(scale, 1e-6)
    changed = {"kernel": last["kernel"] / scale, "bias": (last["bias"] - mean) / scale}
    return {
        **encoder,
        "Dense_0": {name: value.astype(np.float32) for name, value in changed.items()},
    }


def encoder_features(params: PyTree, *, image_shape: tuple[int, ...]) -> FeatureFn:
    """Makes the feature function of an encoder's parameters.

    Args:
      params: from `train_autoencoder` or `random_encoder`.
      image_shape: height, width and channels that they are for.

    Returns:
      images [B, H, W, C] in [-1, 1] -> {"features": [B, D]}, jitted.

    Raises:
      UserError: when called on images of another size or colour.
    """
    net = Encoder(features=len(params["Dense_0"]["bias"]), width=len(params["Conv_0"]["bias"]))
    apply = jax.jit(net.apply)

    def feature_fn(images: Array) -> dict[str, Array]:
        if images.shape[1:] != tuple(image_shape):
            raise UserError(
                f"images {list(images.shape)} do not fit the features, which are made for"
                f" {['B', *image_shape]}"
            )
        return {"features": apply({"params": params}, images)}

    return feature_fn


def random_encoder(
    image_shape: tuple[int, ...], *, seed: int = 0, width: int = 64, features: int = 128
) -> PyTree:
    """Draws the parameters of an encoder that is never trained.

    See "Reliable Fidelity and Diversity Metrics for Generative Models" by Naeem et al.
    (https://arxiv.org/abs/2002.09797), section 5: where images are unlike those that a network was
    trained on, a random network may compare them more faithfully. The scale is that of
    "Delving Deep into Rectifiers" by He et al. (https://arxiv.org/abs/1502.01852), eq. 10.

    Args:
      image_shape: height, width and channels.
      seed: of the draw; NumPy's, so that the numbers are the same on every device.
      width: channels of the first convolution.
      features: length of the vector.

    Returns:
      Parameters for `encoder_features`.
    """
    net, rng = Encoder(features=features, width=width), np.random.default_rng(seed)
    blank = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), blank)["params"]
    params = {}
    for name, leaf in sorted(traverse_util.flatten_dict(shapes, sep="/").items()):
        deviation = 0.0 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        params[name] = (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)
    return traverse_util.unflatten_dict(params, sep="/")


def digest(params: PyTree) -> str:
    """Returns the digest of parameters, the same wherever they are kept.

    Args:
      params: nested dict of arrays.

    Returns:
      64 hexadecimal digits of sha256.
    """
    content = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(params, sep="/").items()):
        array = np.ascontiguousarray(value)
        content.update(f"{name} {array.dtype} {array.shape} ".encode())
        content.update(array.tobytes())
    return content.hexdigest()
