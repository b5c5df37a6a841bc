"""Adaptive discriminator augmentation: a pipeline applied with probability p, and p's controller.

See "Training Generative Adversarial Networks with Limited Data" by Karras et al.
(https://arxiv.org/abs/2006.06676). Each transform of each image happens with probability p, which
grows while the discriminator overfits, and shrinks when it does not; `draws` has what is drawn, and
how much of it. Where the paper doubles images before it warps them and halves them after, ours are
low-passed as far as they shrink, and interpolated by cubics.

With a fixed p, `pipeline("blit,geometry,color", p=0.3)` is the `augment` argument of the steps.
With the controller, p is in `state.extra`, and follows training by `steps.with_ada`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan import types
from jaxgan.augment import draws, transforms
from jaxgan.types import Array, Augment, Key

Transform = Callable[[Key, Array, Array], Array]  # key, images, p -> images
Controller = dict[str, Array]  # {"p": [], "sign": [], "count": []}


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


def noise(key: Key, images: Array, p: Array) -> Array:
    """Adds independent noise to every value; its size is drawn for each image.

    Args:
      key: consumed.
      images: [B, H, W, C].
      p: [] probability.

    Returns:
      [B, H, W, C].
    """
    size_key, noise_key = jax.random.split(key)
    size = draws.noise_size(size_key, p, images.shape)
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


def _drawn(
    draw: Callable[[Key, Array, tuple[int, ...]], Array], apply: Callable[[Array, Array], Array]
) -> Transform:
    """A stage that draws its map or amounts, and applies them."""
    return lambda key, images, p: apply(images, draw(key, p, images.shape))


STAGES: dict[str, Transform] = {
    "blit": _drawn(draws.blit, transforms.move_pixels),
    "geometry": _drawn(draws.geometry, transforms.warp),
    "color": _drawn(draws.color, transforms.mix_channels),
    "filter": _drawn(draws.bands, transforms.scale_bands),
    "noise": noise,
    "cutout": cutout,
}
