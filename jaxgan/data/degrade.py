"""What makes a restorer's input of a clean image: noise, blur, fewer pixels, JPEG, holes, dark.

Each is `(key, images [B, H, W, C] in [-1, 1]) -> degraded`, a pure function for inside the compiled
step, for images of any size in one channel or three. An option is a number, the same for every
image, or a range `(low, high)` of which each image draws its own, uniformly: "blind" restoration.
Each random one has a deterministic twin whose amounts are given, one for each image: here, or in
`blur`, `jpeg`, `masks` and `poisson`.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxgan.data import blur, jpeg, masks, poisson, resize
from jaxgan.types import Array, Key, UserError

Range = float | tuple[float, float]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1


def gaussian_noise(key: Key, images: Array, *, sigma: Range = 25.0) -> Array:
    """Adds white Gaussian noise.

    See "Beyond a Gaussian Denoiser" by Zhang et al. (https://arxiv.org/abs/1608.03981): sigma 15,
    25 or 50, or for blind denoising 0 to 55. Like there the noise is on values that stay floats,
    neither rounded nor clipped.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      sigma: standard deviation on the scale 0..255, 0 or more.

    Returns:
      [B, H, W, C].

    Raises:
      UserError: an impossible sigma.
    """
    sigma_key, noise_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    return add_noise(images, noise, _amounts(sigma_key, images, sigma, "sigma"))


def add_noise(images: Array, noise: Array, sigma: Array) -> Array:
    """Adds given noise to each image.

    Args:
      images: [B, H, W, C] in [-1, 1].
      noise: [B, H, W, C] of variance 1.
      sigma: [B], standard deviation on the scale 0..255.

    Returns:
      [B, H, W, C].
    """
    return images + noise * _each(sigma / 127.5, images)


def poisson_noise(key: Key, images: Array, *, peak: Range = 30.0) -> Array:
    """Counts photons: the variance of a pixel is its brightness.

    See "Noise2Noise: Learning Image Restoration without Clean Data" by Lehtinen et al.
    (https://arxiv.org/abs/1803.04189), section 3.2, where the peak is 0 to 50.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      peak: photons that a white pixel counts in the mean, above 0; fewer are noisier.

    Returns:
      [B, H, W, C], -1 or more, not clipped.

    Raises:
      UserError: an impossible peak.
    """
    peak_key, count_key = jax.random.split(key)
    amount = _amounts(peak_key, images, peak, "peak", above=True)
    chance = jax.random.uniform(count_key, images.shape)
    mean = poisson.expected(images, amount)
    count = poisson.quantile(chance, mean, most=_largest(peak))
    return poisson.developed(count.astype(images.dtype), amount)


def gaussian_blur(key: Key, images: Array, *, sigma: Range = 1.6) -> Array:
    """Blurs as a lens out of focus does, roughly.

    Args:
      key: consumed, by a range.
      images: [B, H, W, C] in [-1, 1].
      sigma: standard deviation in pixels, 0 or more.

    Returns:
      [B, H, W, C].

    Raises:
      UserError: an impossible sigma.
    """
    amount = _amounts(key, images, sigma, "sigma")
    radius = int(4.0 * _largest(sigma) + 0.5)  # where SciPy's gaussian_filter ends too
    return blur.filtered(images, blur.gaussian_kernel(amount, radius))


def motion_blur(key: Key, images: Array, *, length: Range = 15.0) -> Array:
    """Blurs as a hand that moves evenly along a line does, in a direction of each image's own.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      length: of the line, in pixels, 1 (no blur) or more.

    Returns:
      [B, H, W, C].

    Raises:
      UserError: an impossible length.
    """
    length_key, angle_key = jax.random.split(key)
    amount = _amounts(length_key, images, length, "length", least=1.0)
    angle = jax.random.uniform(angle_key, images.shape[:1], maxval=math.pi)
    radius = math.ceil((_largest(length) + 1) / 2)
    return blur.filtered(images, blur.motion_kernel(amount, angle, radius))


def compression(key: Key, images: Array, *, quality: Range = (10, 75)) -> Array:
    """Compresses as JPEG and back; `jpeg.compress` is the deterministic twin.

    Args:
      key: consumed, by a range.
      images: [B, H, W, C] in [-1, 1], C of 1 or 3.
      quality: 1..100, whole numbers; of a range both ends may be drawn.

    Returns:
      [B, H, W, C] in [-1, 1], each value one of 256.

    Raises:
      UserError: an impossible quality.
    """
    low, high = _ends(quality, "quality", least=1, most=100)
    if low != int(low) or high != int(high):
        raise UserError(f"quality {quality} is not possible; use whole numbers")
    amount = jax.random.randint(key, images.shape[:1], int(low), int(high) + 1)
    return jpeg.compress(images, amount)


def holes(key: Key, images: Array, *, share: Range = 0.25, side: int = 8) -> Array:
    """Cuts square holes, and says where they are.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      share: of the pixels that are cut out, in [0, 1].
      side: of a hole in pixels; neighbours make larger ones.

    Returns:
      [B, H, W, C + 1], the last channel being the mask, as in `masks.punch`.

    Raises:
      UserError: an impossible share or side.
    """
    share_key, mask_key = jax.random.split(key)
    amount = _amounts(share_key, images, share, "share", most=1.0)
    return masks.punch(images, masks.squares(mask_key, images.shape, amount, side=side))


def grey(images: Array) -> Array:
    """Takes the colours away: the luma of ITU-R BT.601.

    Args:
      images: [B, H, W, C] in [-1, 1], C of 1 or 3; grey ones stay as they are.

    Returns:
      [B, H, W, 1] in [-1, 1].
    """
    chex.assert_shape(images, (None, None, None, {1, 3}))
    if images.shape[-1] == 1:
        return images
    red, green, blue = (w * images[..., i : i + 1] for i, w in enumerate(_LUMA))
    return red + green + blue


def darkness(
    key: Key, images: Array, *, gamma: Range = (2.0, 5.0), sigma: Range = (0.0, 25.0)
) -> Array:
    """Darkens, then adds Gaussian noise: a photo taken with too little light.

    See "LLNet: A Deep Autoencoder Approach to Natural Low-light Image Enhancement" by Lore et al.
    (https://arxiv.org/abs/1511.03995); there sigma is 25 times the root of a uniform
    number.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      gamma: exponent, 1 (no change) or more.
      sigma: of the noise, on the scale 0..255.

    Returns:
      [B, H, W, C], not clipped.

    Raises:
      UserError: an impossible gamma or sigma.
    """
    gamma_key, noise_key = jax.random.split(key)
    amount = _amounts(gamma_key, images, gamma, "gamma", least=1.0)
    return gaussian_noise(noise_key, darken(images, amount), sigma=sigma)


def darken(images: Array, gamma: Array) -> Array:
    """Raises the brightness of each image, in 0..1, to a power.

    Args:
      images: [B, H, W, C] in [-1, 1].
      gamma: [B], the power.

    Returns:
      [B, H, W, C] in [-1, 1].
    """
    bright = jnp.clip((images + 1.0) / 2.0, 0.0, 1.0)
    return 2.0 * bright ** _each(gamma, images) - 1.0


def _amounts(
    key: Key,
    images: Array,
    amount: Range,
    what: str,
    *,
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
) -> Array:
    """[B] of an option: the number for every image, or of its range one for each."""
    low, high = _ends(amount, what, least=least, most=most, above=above)
    if low == high:
        return jnp.full(images.shape[:1], low, jnp.float32)
    return jax.random.uniform(key, images.shape[:1], minval=low, maxval=high)


def _ends(
    amount: Range, what: str, *, least: float, most: float, above: bool = False
) -> tuple[float, float]:
    low, high = amount if isinstance(amount, tuple) else (amount, amount)
    fine = least <= low <= high <= most and math.isfinite(high) and not (above and low == least)
    if not fine:
        wanted = "above" if above else "at least"
        limit = "" if math.isinf(most) else f" and at most {most:g}"
        raise UserError(
            f"{what} {amount} is not possible; use a number {wanted} {least:g}{limit}, or a range"
            " of two, the lower first"
        )
    return low, high


def _largest(amount: Range) -> float:
    return max(amount) if isinstance(amount, tuple) else amount


def _each(amount: Array, images: Array) -> Array:
    return amount.reshape(-1, 1, 1, 1).astype(images.dtype)


def _keyless(degrade: Callable[..., Array]) -> Callable[..., Array]:
    """A deterministic one with the arguments of the others."""

    @functools.wraps(degrade)
    def with_key(key: Key, images: Array, **options) -> Array:
        del key
        return degrade(images, **options)

    return with_key


# Each is (key, images, *, options) -> degraded; `functools.partial` sets the options.
DEGRADATIONS: dict[str, Callable[..., Array]] = {
    "noise": gaussian_noise,
    "poisson": poisson_noise,
    "shrink": _keyless(resize.shrink),
    "blur": gaussian_blur,
    "motion": motion_blur,
    "jpeg": compression,
    "holes": holes,
    "grey": _keyless(grey),
    "dark": darkness,
}
