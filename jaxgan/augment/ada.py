"""Adaptive discriminator augmentation: a pipeline applied with probability p, and p's controller.

See "Training Generative Adversarial Networks with Limited Data" by Karras et al.
(https://arxiv.org/abs/2006.06676). Each transform of each image happens with probability p, which
grows while the discriminator overfits, and shrinks when it does not. Images are interpolated by
cubics where the paper doubles them first.

With a fixed p, `pipeline("blit,geometry,color", p=0.3)` is the `augment` argument of the steps.
With the controller, p is in `state.extra`; steps are cheap to build where the state is at hand,
inside the compiled program:

    def disc_step(key, state, batch):
        augment = ada.pipeline("blit,geometry,color", p=state.extra["ada"]["p"])
        step = steps.disc_step(gen, disc, tx, loss, latent_dim=64, augment=augment)
        state, metrics = step(key, state, batch)
        controller = ada.adapt(state.extra["ada"], metrics["disc/sign"], num_images=batch_size)
        return state.replace(extra={**state.extra, "ada": controller}), metrics
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import types
from jaxgan.augment import transforms
from jaxgan.types import Array, Augment, Key

Transform = Callable[[Key, Array, Array], Array]  # key, images, p -> images
Controller = dict[str, Array]  # {"p": [], "sign": [], "count": []}

# Power of natural images by band, lowest first: amplifying one dims the others accordingly.
_EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def pipeline(names: str, *, p: float | Array) -> Augment:
    """Makes an augmentation from the names of its stages.

    Args:
      names: from STAGES, separated by commas, in the order they are applied; the paper's best on
        small datasets is "blit,geometry,color".
      p: in [0, 1], probability of each transform for each image; may be traced.

    Returns:
      `(key, images [B, H, W, C]) -> images [B, H, W, C]`, for any number of channels; with p = 0
      the identity.

    Raises:
      UserError: a name is not in STAGES, or p is a number outside [0, 1].
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    stages = [types.lookup(STAGES, name, "augmentation") for name in chosen]
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise types.UserError(f"p {p} is not a probability; use a number from 0 to 1")
    chance = jnp.asarray(p, jnp.float32)

    def augment(key: Key, images: Array) -> Array:
        for number, stage in enumerate(stages):
            images = stage(jax.random.fold_in(key, number), images, chance)
        return images

    return augment


def blit(key: Key, images: Array, p: Array) -> Array:
    """Pixel blitting: mirrors, turns by 90 degrees, and moves by whole pixels.

    Mirrors left to right one time in two; turns by 0 to 3 quarters; moves by up to 1/8 of a side.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C].
    """
    return transforms.move_pixels(images, blit_matrix(key, p, images.shape))


def blit_matrix(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Draws the map of `blit`.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images.

    Returns:
      [B, 3, 3], from places in the result to places in the image (`transforms.warp`).
    """
    flip_key, turn_key, move_key = jax.random.split(key, 3)
    flip = _draw(flip_key, p, shape, lambda k, s: jax.random.bernoulli(k, 0.5, s), 0)
    turns = _draw(turn_key, p, shape, lambda k, s: jax.random.randint(k, s, 0, 4), 0)
    cosine, sine = (jnp.array(t)[turns] for t in ((1.0, 0, -1, 0), (0.0, 1, 0, -1)))  # no rounding
    share = _draw(move_key, p, shape, _uniform(-0.125, 0.125), 0.0, size=2)
    moved = jnp.round(share * _sides(shape))
    mirror = _scaling(1.0 - 2.0 * flip, jnp.ones_like(cosine))
    return _product(mirror, _rotation(cosine, sine), _shift(moved))


def geometry(key: Key, images: Array, p: Array) -> Array:
    """General geometric transforms: scales, turns, stretches, turns again, and moves.

    Scales by 2^N(0, 0.2^2), both sides alike and against each other; turns by any angle, before or
    after the stretch with probability p in all; moves by N(0, 1/8^2) of a side.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C].
    """
    return transforms.warp(images, geometry_matrix(key, p, images.shape))


def geometry_matrix(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Draws the map of `geometry`.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images.

    Returns:
      [B, 3, 3], from places in the result to places in the image (`transforms.warp`).
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


def color(key: Key, images: Array, p: Array) -> Array:
    """Colour transforms: brightness, contrast, luma flip, hue and saturation.

    Adds N(0, 0.2^2); scales by 2^N(0, 0.5^2); mirrors luma one time in two; turns hue by any angle
    (three channels only); scales what is not luma by 2^N(0, 1) (two channels or more).

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C], not clipped.
    """
    return transforms.mix_channels(images, color_matrix(key, p, images.shape))


def color_matrix(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Draws the map of `color`.

    Args:
      key: consumed.
      p: [] probability.
      shape: of the images.

    Returns:
      [B, C, C + 1], the last column being added (`transforms.mix_channels`).
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


def bands(key: Key, images: Array, p: Array) -> Array:
    """Image-space filtering: amplifies each of four frequency bands by 2^N(0, 1), at equal power.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability, of each band.

    Returns:
      [B, H, W, C].
    """
    return transforms.scale_bands(images, band_gains(key, p, images.shape))


def band_gains(key: Key, p: Array, shape: tuple[int, ...]) -> Array:
    """Draws the gains of `bands`.

    Args:
      key: consumed.
      p: [] probability, of each band.
      shape: of the images.

    Returns:
      [B, 4], from the lowest frequencies up (`transforms.scale_bands`).
    """
    power = jnp.array(_EXPECTED_POWER)
    gains = jnp.ones((shape[0], transforms.NUM_BANDS))
    for band, band_key in enumerate(jax.random.split(key, transforms.NUM_BANDS)):
        one = _draw(band_key, p, shape, _power_of_two(1.0), 1.0)
        total = 1.0 + power[band] * (jnp.square(one) - 1.0)
        in_band = jnp.arange(transforms.NUM_BANDS)[None] == band
        gains = gains * jnp.where(in_band, one[:, None], 1.0) / jnp.sqrt(total)[:, None]
    return gains


def noise(key: Key, images: Array, p: Array) -> Array:
    """Adds independent noise to every value; its deviation |N(0, 0.1^2)| is drawn for each image.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C].
    """
    size_key, noise_key = jax.random.split(key)
    size = _draw(
        size_key, p, images.shape, lambda k, s: 0.1 * jnp.abs(jax.random.normal(k, s)), 0.0
    )
    values = size[:, None, None, None] * jax.random.normal(noise_key, images.shape)
    return images + values.astype(images.dtype)


def cutout(key: Key, images: Array, p: Array) -> Array:
    """Sets a rectangle of half the sides to zero, its centre anywhere in the image.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C].
    """
    chosen_key, centre_key = jax.random.split(key)
    centre = jax.random.uniform(centre_key, (images.shape[0], 2))
    chosen = jax.random.bernoulli(chosen_key, p, images.shape[:1])
    near = [
        jnp.abs((jnp.arange(side)[None] + 0.5) / side - centre[:, axis : axis + 1]) < 0.25
        for axis, side in enumerate(images.shape[1:3])
    ]
    hole = chosen[:, None, None, None] & near[0][:, :, None, None] & near[1][:, None, :, None]
    return jnp.where(hole, jnp.zeros((), images.dtype), images)


def init_controller(*, p: float = 0.0) -> Controller:
    """The controller before the first step, to put into `state.extra`.

    Args:
      p: the probability to start from, in [0, 1].

    Returns:
      {"p": [], "sign": [] sum of signs since p last moved, "count": [] int32 how many}.
    """
    return {"p": jnp.float32(p), "sign": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}


def adapt(
    controller: Controller,
    sign: Array,
    *,
    num_images: int,
    target: float = 0.6,
    ramp: float = 500_000,
    interval: int = 4,
) -> Controller:
    """Moves p by the overfitting heuristic of the paper's section 3.

      r_t = E[sign(D(x))] of real images;    p <- p + sign(r_t - target) images / ramp, in [0, 1]

    Args:
      controller: of `init_controller`.
      sign: [] mean sign of this step's real logits, over all devices: the metric "disc/sign".
      num_images: real images a step, over all devices.
      target: the r_t to keep, between 0 (no overfitting) and 1 (complete).
      ramp: images, not steps, in which p goes from 0 to 1.
      interval: steps between moves of p, over which r_t is averaged.

    Returns:
      The controller after this step.
    """
    total, count = controller["sign"] + sign, controller["count"] + 1
    due = count >= interval
    move = jnp.sign(total / count - target) * (interval * num_images / ramp)
    return {
        "p": jnp.where(due, jnp.clip(controller["p"] + move, 0.0, 1.0), controller["p"]),
        "sign": jnp.where(due, 0.0, total),
        "count": jnp.where(due, 0, count),
    }


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


STAGES: dict[str, Transform] = {
    "blit": blit,
    "geometry": geometry,
    "color": color,
    "filter": bands,
    "noise": noise,
    "cutout": cutout,
}
