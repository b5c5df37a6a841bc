"""What adaptive discriminator augmentation draws: for each image, a map or amounts, with chance p.

See "Training Generative Adversarial Networks with Limited Data" by Karras et al.
(https://arxiv.org/abs/2006.06676), appendix B. Each transform happens to each image with
probability p, by itself; where none happens the map is exactly the identity. `ada` applies them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.augment import transforms
from jaxgan.types import Array, Key

# Power of natural images by band, lowest first: amplifying one dims the others accordingly.
_EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def blit(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Pixel blitting: mirrors, turns by 90 degrees, and moves by whole pixels.

    Mirrors left to right one time in two; turns by 0 to 3 quarters; moves by up to 1/8 of a side.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images, [B, H, W, C].

    Returns:
      [B, 3, 3], from places in the result to places in the image, for
      `transforms.move_pixels`.
    """
    flip_key, turn_key, move_key = jax.random.split(key, 3)
    flip = _draw(flip_key, p, shape, lambda k, s: jax.random.bernoulli(k, 0.5, s), 0)
    turns = _draw(turn_key, p, shape, lambda k, s: jax.random.randint(k, s, 0, 4), 0)
    cosine, sine = (jnp.array(t)[turns] for t in ((1.0, 0, -1, 0), (0.0, 1, 0, -1)))  # no rounding
    share = _draw(move_key, p, shape, _uniform(-0.125, 0.125), 0.0, size=2)
    moved = jnp.round(share * _sides(shape))
    mirror = _scaling(1.0 - 2.0 * flip, jnp.ones_like(cosine))
    return _product(mirror, _rotation(cosine, sine), _shift(moved))


def geometry(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """General geometric transforms: scales, turns, stretches, turns again, and moves.

    Scales by 2^N(0, 0.2^2), both sides alike and against each other; turns by any angle, before or
    after the stretch with probability p in all; moves by N(0, 1/8^2) of a side.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images, [B, H, W, C].

    Returns:
      [B, 3, 3], from places in the result to places in the image, for
      `transforms.warp`.
    """
    keys = jax.random.split(key, 5)
    scale = _draw(keys[0], p, shape, _power_of_two(0.2), 1.0)
    stretch = _draw(keys[1], p, shape, _power_of_two(0.2), 1.0)
    either = 1.0 - jnp.sqrt(1.0 - p)  # at least one of two turns then has probability p
    before, after = (
        _draw(k, either, shape, _uniform(-math.pi, math.pi), 0.0) for k in (keys[2], keys[3])
    )
    share = _draw(keys[4], p, shape, lambda k, s: 0.125 * jax.random.normal(k, s), 0.0, size=2)
    return _product(
        _scaling(1.0 / scale, 1.0 / scale),
        _rotation(jnp.cos(before), jnp.sin(before)),
        _scaling(1.0 / stretch, stretch),
        _rotation(jnp.cos(after), jnp.sin(after)),
        _shift(share * _sides(shape)),
    )


def color(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Colour transforms: brightness, contrast, luma flip, hue and saturation.

    Adds N(0, 0.2^2); scales by 2^N(0, 0.5^2); mirrors luma one time in two; turns hue by any angle
    (three channels only); scales what is not luma by 2^N(0, 1) (two channels or more).

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images, [B, H, W, C].

    Returns:
      [B, C, C + 1], the last column being added, for `transforms.mix_channels`.
    """
    keys, channels = jax.random.split(key, 5), shape[-1]
    added = _draw(keys[0], p, shape, lambda k, s: 0.2 * jax.random.normal(k, s), 0.0)
    factor = _draw(keys[1], p, shape, _power_of_two(0.5), 1.0)
    flip = _draw(keys[2], p, shape, lambda k, s: jax.random.bernoulli(k, 0.5, s), 0)
    angle = _draw(keys[3], p, shape, _uniform(-math.pi, math.pi), 0.0)
    vivid = _draw(keys[4], p, shape, _power_of_two(1.0), 1.0)

    eye = jnp.eye(channels)[None]
    luma = jnp.full((1, channels, channels), 1.0 / channels)  # projects on the grey axis
    added = jnp.broadcast_to(added[:, None, None], (shape[0], channels, 1))
    matrix = jnp.concatenate([jnp.broadcast_to(eye, (shape[0], channels, channels)), added], -1)
    matrix = factor[:, None, None] * matrix
    matrix = _times(eye - 2.0 * flip[:, None, None] * luma, matrix)
    if channels == 3:
        matrix = _times(_hue(angle), matrix)
    if channels > 1:  # as a difference, a factor of 1 is exact
        matrix = _times(eye + (vivid - 1.0)[:, None, None] * (eye - luma), matrix)
    return matrix


def bands(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Image-space filtering: amplifies each of four frequency bands by 2^N(0, 1), at equal power.

    Args:
      key: consumed.
      p: [] probability, of each band.
      shape: of the images, [B, H, W, C].

    Returns:
      [B, 4], from the lowest frequencies up, for `transforms.scale_bands`.
    """
    power = jnp.array(_EXPECTED_POWER)
    gains = jnp.ones((shape[0], transforms.NUM_BANDS))
    for band, band_key in enumerate(jax.random.split(key, transforms.NUM_BANDS)):
        one = _draw(band_key, p, shape, _power_of_two(1.0), 1.0)
        total = 1.0 + power[band] * (jnp.square(one) - 1.0)
        in_band = jnp.arange(transforms.NUM_BANDS)[None] == band
        gains = gains * jnp.where(in_band, one[:, None], 1.0) / jnp.sqrt(total)[:, None]
    return gains


def noise_size(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Standard deviation of additive noise: |N(0, 0.1^2)|.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images, [B, H, W, C].

    Returns:
      [B], 0 for none.
    """
    return _draw(key, p, shape, lambda k, s: 0.1 * jnp.abs(jax.random.normal(k, s)), 0.0)


def _draw(
    key: Key,
    p: Array,
    shape: tuple[int, ...],
    amount: Callable[[Key, tuple[int, ...]], Array],
    neutral: float,
    *,
    size: int = 0,
) -> Array:
    """[B] or [B, size] amounts, each image's with probability p and else the neutral one."""
    chosen_key, amount_key = jax.random.split(key)
    shape = (shape[0], size) if size else (shape[0],)
    chosen = jax.random.bernoulli(chosen_key, p, (shape[0],) + (1,) * (len(shape) - 1))
    return jnp.where(chosen, amount(amount_key, shape), neutral)


def _uniform(low: float, high: float):
    return lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high)


def _power_of_two(deviation: float):
    return lambda key, shape: jnp.exp2(deviation * jax.random.normal(key, shape))


def _sides(shape: tuple[int, ...]) -> Array:
    """[1, 2] width and height."""
    return jnp.array([[shape[2], shape[1]]], jnp.float32)


def _times(a: Array, b: Array) -> Array:
    return jnp.einsum("bij,bjk->bik", a, b, precision="highest")


def _product(*matrices: Array) -> Array:
    """The inverse of the maps of several steps done in turn, from the inverses of each."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = _times(result, matrix)
    return result


def _rows(*rows: tuple[Array, ...]) -> Array:
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _scaling(x: Array, y: Array) -> Array:
    zero, one = jnp.zeros_like(y), jnp.ones_like(y)
    return _rows((x, zero, zero), (zero, y, zero), (zero, zero, one))


def _rotation(cosine: Array, sine: Array) -> Array:
    zero, one = jnp.zeros_like(sine), jnp.ones_like(sine)
    return _rows((cosine, sine, zero), (-sine, cosine, zero), (zero, zero, one))


def _shift(moved: Array) -> Array:
    """Of pixels [B, 2] to the right and down: back from where they went."""
    zero, one = jnp.zeros_like(moved[:, 0]), jnp.ones_like(moved[:, 0])
    return _rows((one, zero, -moved[:, 0]), (zero, one, -moved[:, 1]), (zero, zero, one))


def _hue(angle: Array) -> Array:
    """[B, 3, 3] rotations about the grey axis, by Rodrigues' formula around the identity."""
    axis = np.array([[[0, -1, 1], [1, 0, -1], [-1, 1, 0]]]) / math.sqrt(3)
    sine, cosine = jnp.sin(angle)[:, None, None], jnp.cos(angle)[:, None, None]
    return jnp.eye(3)[None] + sine * jnp.float32(axis) + (1.0 - cosine) * jnp.float32(axis @ axis)
