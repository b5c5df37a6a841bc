"""What the tasks of `experiments.restore` are: their degradations, networks and losses."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan import losses
from jaxgan.data import degrade, resize
from jaxgan.metrics import features, weights
from jaxgan.nets import dncnn, patch, srresnet, unet
from jaxgan.run import cli
from jaxgan.steps.game import Round, Term
from jaxgan.types import Array, Key, UserError, lookup

Degrade = Callable[[Key, Array], Array]  # key, images [B, H, W, C] in [-1, 1] -> what G sees


class Task(NamedTuple):
    """One of the tasks.

    Attributes:
      degrade: config -> what makes the input of clean images; None where the data have both.
      net: the network it is usually given.
      sees_source: whether D sees beside an image what it was made from.
      upright: whether up is up, so that crops are mirrored but not turned.
    """

    degrade: Callable[[Any], Degrade] | None
    net: str = "unet"
    sees_source: bool = False
    upright: bool = False


def _noise(config: Any) -> Degrade:
    if config.photons:
        return functools.partial(degrade.poisson_noise, peak=cli.span(config, "photons"))
    return functools.partial(degrade.gaussian_noise, sigma=cli.span(config, "noise"))


def _blur(config: Any) -> Degrade:
    if config.motion:
        blur = functools.partial(degrade.motion_blur, length=cli.span(config, "motion"))
    else:
        blur = functools.partial(degrade.gaussian_blur, sigma=cli.span(config, "blur"))
    noise = functools.partial(degrade.gaussian_noise, sigma=cli.span(config, "noise"))

    def degraded(key: Key, images: Array) -> Array:
        blur_key, noise_key = jax.random.split(key)
        return as_bytes(noise(noise_key, blur(blur_key, images)))

    return degraded


def _shrink(config: Any) -> Degrade:
    return lambda key, images: as_bytes(resize.shrink(images, factor=config.scale))


def _holes(config: Any) -> Degrade:
    share = cli.span(config, "holes")
    return functools.partial(degrade.holes, share=share, side=config.hole_side)


def _jpeg(config: Any) -> Degrade:
    return functools.partial(degrade.compression, quality=cli.span(config, "quality"))


def _dark(config: Any) -> Degrade:
    gamma, sigma = cli.span(config, "darkness"), cli.span(config, "noise")
    return lambda key, images: as_bytes(degrade.darkness(key, images, gamma=gamma, sigma=sigma))


TASKS: dict[str, Task] = {
    "denoise": Task(_noise),
    "deblur": Task(_blur),
    "superres": Task(_shrink, net="srresnet"),
    "inpaint": Task(_holes, sees_source=True, upright=True),
    "colorize": Task(
        lambda config: lambda key, images: as_bytes(degrade.grey(images)),
        sees_source=True,
        upright=True,
    ),
    "dejpeg": Task(_jpeg),
    "lowlight": Task(_dark),
    "pairs": Task(None, net="pix2pix", sees_source=True, upright=True),
}
NOISE = {"denoise": "25", "lowlight": "0,25"}  # where none is asked for; of other tasks 0


def as_bytes(x: Array) -> Array:
    """The nearest of the 256 values that a file of a picture holds; [...] in [-1, 1]."""
    return jnp.clip(jnp.rint((x + 1.0) * 127.5), 0, 255) / 127.5 - 1.0


def generator(config: Any, channels: int) -> nn.Module:
    """Makes the network that restores.

    Args:
      config: the flags.
      channels: of the image that it makes.

    Returns:
      The generator.
    """
    widths, dtype = cli.integers(config, "widths"), jnp.dtype(config.compute_dtype)
    shared: dict[str, Any] = {"channels": channels, "dtype": dtype}
    if config.net == "srresnet":
        return srresnet.Generator(
            scale=config.scale,
            width=widths[0],
            blocks=config.blocks,
            direct=config.direct,
            remat=config.remat,
            **shared,
        )
    if config.net == "dncnn":
        return dncnn.Restorer(width=widths[0], depth=config.blocks, fold=config.fold, **shared)
    if config.net == "unet":
        return unet.Restorer(
            widths=widths, blocks=config.blocks, fold=config.fold, remat=config.remat, **shared
        )
    return unet.Generator(
        widths=widths,
        up=config.up,
        norm=config.norm,
        axis_name=config.axis_name,
        remat=config.remat,
        **shared,
    )


def discriminator(config: Any, *, with_features: bool) -> nn.Module:
    """Makes the network that judges patches, or with `--disc=unet` the whole and each pixel.

    Args:
      config: the flags.
      with_features: whether it also tells its activations.

    Returns:
      The discriminator.
    """
    widths, dtype = cli.integers(config, "disc_widths"), jnp.dtype(config.compute_dtype)
    shared: dict[str, Any] = {
        "widths": widths,
        "with_features": with_features,
        "remat": config.remat,
        "dtype": dtype,
    }
    if config.disc == "unet":
        return patch.UNetDiscriminator(**shared)
    usual = (2,) * (len(widths) - 1) + (1,)
    strides = cli.integers(config, "disc_strides") if config.disc_strides else usual
    return patch.Discriminator(
        strides=strides,
        norm=config.disc_norm,
        spectral=config.spectral,
        axis_name=config.axis_name,
        **shared,
    )


def terms(text: str, weights_file: str = "") -> tuple[dict[str, Term], dict[str, Term]]:
    """Reads what is compared with the truth: "l1", or "l1,frequency:0.1,features:10".

    Args:
      text: names of `losses.RECONSTRUCTION`, "total_variation", "features" or "perceptual", with
        weights.
      weights_file: of the classifier that perceptual distances look through.

    Returns:
      The terms by name, and those of them that look at D's activations.

    Raises:
      UserError: an unknown name, or a weight that is no number above 0.
    """
    known = {name: _compared(loss) for name, loss in losses.RECONSTRUCTION.items()}
    known["total_variation"] = lambda seen: losses.total_variation(seen.fake["image"])
    known["features"] = lambda seen: losses.feature_matching(
        seen.real_out["features"], seen.fake_out["features"]
    )
    known["perceptual"] = _perceptual(weights_file)
    found: dict[str, Term] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        term = lookup(known, name, "--content: loss")
        try:
            weight = float(number or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise UserError(f"--content={text}: the weight of {name} must be a number above 0")
        found[name] = functools.partial(_weighted, term, weight)
    of_disc = {name: term for name, term in found.items() if name == "features"}
    rest = {name: term for name, term in found.items() if name not in of_disc}
    if not rest:
        raise UserError(f"--content={text} compares nothing with the truth; add a loss such as l1")
    return rest, of_disc


def _perceptual(path: str) -> Term:
    """The distance by a classifier's feature maps, which is opened when it is first asked for."""

    @functools.cache
    def maps() -> Callable[[Array], tuple[Array, ...]]:
        if not path:
            raise UserError(
                "--content=perceptual looks through a classifier: name the file of its weights, "
                "--perceptual_weights=FILE (experiments.classifier trains one)"
            )
        return features.classifier_maps(weights.load(path)[0])

    return lambda seen: losses.perceptual_distance(maps(), seen.fake["image"], seen.batch["image"])


def _compared(loss: Callable[[Array, Array], Array]) -> Term:
    return lambda seen: loss(seen.fake["image"], seen.batch["image"])


def _weighted(term: Term, weight: float, seen: Round) -> Array:
    return weight * term(seen)
