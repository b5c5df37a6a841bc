"""Retouching: what a translator makes of a photo, whatever its colours, depth and transparency.

A photo stays in bytes, and becomes floats piece by piece. What the network neither sees nor makes
stays: transparency, the colours of a photo under a network of greys, and what is known around a
hole. Where the picture grows, these are enlarged bicubically.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxgan import translate
from jaxgan.data.photos import Photo
from jaxgan.translate import Translator
from jaxgan.types import PyTree, UserError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, section 2.5.1
_MARGIN = 3  # pixels around a part that its bicubic enlargement depends on
_STRIP = 256  # rows that are enlarged at a time


def retouch(
    translator: Translator,
    variables: PyTree,
    photo: Photo,
    *,
    mask: np.ndarray | None = None,
    tile: int = 0,
    done: Callable[[int], None] = lambda pixels: None,
) -> Photo:
    """Applies a translator to a photo.

    A network of greys works on the luminance of a photo in colour, whose colour differences stay;
    one that makes colours of greys sees the luminance. A network of colours sees a grey photo as
    three equal channels, and the photo stays grey.

    Args:
      translator: what to apply.
      variables: of its generator.
      photo: of any size.
      mask: [H, W] bool, of a masked translator: True in holes, which alone are changed.
      tile: see `translate.translate`.
      done: is told of each piece how many pixels of the photo it was, to show progress.

    Returns:
      The photo made, `translator.scale` times as high and wide.

    Raises:
      UserError: see `check`.
    """
    check(translator, photo, mask)
    scale, channels = translator.scale, channels_made(translator, photo)
    luminance = on_luminance(translator, photo)
    filled = mask is not None and scale == 1  # what is known stays

    def read(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        here = np.ix_(rows, columns)
        seen = _floats(photo.pixels[here])
        seen = _grey(seen) if translator.source_channels == 1 else _coloured(seen)
        if mask is None:
            return seen
        return np.concatenate([seen, mask[here][..., None].astype(np.float32)], -1)

    def wanted(rows: slice, columns: slice) -> bool:
        return mask is None or not filled or bool(mask[rows, columns].any())

    made = np.empty((photo.size[0] * scale, photo.size[1] * scale, channels), photo.pixels.dtype)
    if filled:
        made[:] = photo.pixels
    parts = translate.pieces(translator, variables, read, photo.size, tile=tile, wanted=wanted)
    for top, left, part in parts:
        rows, columns = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
        if luminance:
            before = _enlarged(photo.pixels, rows, columns, scale)
            part = part + before - _grey(before)
        elif channels == 1:
            part = _grey(part)
        whole = _whole(part, made.dtype)
        if mask is not None and filled:
            whole = np.where(mask[rows, columns, None], whole, made[rows, columns])
        made[rows, columns] = whole
        done(part.shape[0] * part.shape[1] // scale**2)
    alpha = None if photo.alpha is None else enlarged(photo.alpha, scale)
    return dataclasses.replace(photo, pixels=made, alpha=alpha)


def check(translator: Translator, photo: Photo, mask: np.ndarray | None) -> None:
    """Refuses photos and masks that a translator cannot be applied to, before anything compiles.

    Args:
      translator: what is to be applied.
      photo: to what.
      mask: of its holes, or None.

    Raises:
      UserError: the photo is too small, or a mask lacks, is not needed, or has another size.
    """
    translate.check_size(translator, photo.size)
    if translator.masked != (mask is not None):
        raise UserError("the network needs a mask" if translator.masked else "it takes no mask")
    if mask is not None and mask.shape[:2] != photo.size:
        (high, wide), (height, width) = mask.shape[:2], photo.size
        raise UserError(
            f"the mask is {high} x {wide} pixels (height x width), the photo {height} x {width}; "
            "make them alike"
        )


def on_luminance(translator: Translator, photo: Photo) -> bool:
    """Whether a network of greys meets a photo in colour.

    Args:
      translator: what is applied.
      photo: to what.

    Returns:
      True if only the luminance is translated, and the colours are kept.
    """
    greys = translator.source_channels == translator.channels == 1
    return greys and photo.pixels.shape[-1] == 3


def channels_made(translator: Translator, photo: Photo) -> int:
    """Whether grey or in colour is what is made of a photo.

    Args:
      translator: what is applied.
      photo: to what.

    Returns:
      1 or 3.
    """
    if on_luminance(translator, photo):
        return 3
    stays_grey = photo.pixels.shape[-1] == 1 and translator.source_channels == 3
    return 1 if stays_grey else translator.channels


def beside(before: Photo, after: Photo) -> Photo:
    """Lays a photo beside what was made of it.

    Args:
      before: the photo; it is enlarged bicubically where the other one is larger.
      after: what was made of it, a whole number of times as large.

    Returns:
      One photo of twice the width.
    """
    scale = after.size[0] // before.size[0]
    pixels = [enlarged(before.pixels, scale), after.pixels]
    if pixels[0].shape[-1] != pixels[1].shape[-1]:
        pixels = [_coloured(part) for part in pixels]
    alpha = None
    if before.alpha is not None and after.alpha is not None:
        alpha = np.concatenate([enlarged(before.alpha, scale), after.alpha], 1)
    return dataclasses.replace(after, pixels=np.concatenate(pixels, 1), alpha=alpha)


def enlarged(values: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges a picture bicubically.

    Args:
      values: [H, W, C] uint8 or uint16.
      scale: how many times its sides grow.

    Returns:
      [H * scale, W * scale, C] of the same type; the picture itself where the scale is 1.
    """
    if scale == 1:
        return values
    height, width, channels = values.shape
    made = np.empty((height * scale, width * scale, channels), values.dtype)
    for top in range(0, len(made), _STRIP):
        rows = slice(top, min(top + _STRIP, len(made)))
        made[rows] = _whole(_enlarged(values, rows, slice(0, width * scale), scale), values.dtype)
    return made


def _enlarged(values: np.ndarray, rows: slice, columns: slice, scale: int) -> np.ndarray:
    """Rows and columns of the enlargement of a picture, as floats in [-1, 1], not clipped."""
    if scale == 1:
        return _floats(values[rows, columns])
    import PIL.Image

    places, cut = [], []
    for wanted, side in zip((rows, columns), values.shape, strict=False):
        first, last = wanted.start // scale - _MARGIN, -(-wanted.stop // scale) + _MARGIN
        mirrored = np.concatenate([np.arange(side), np.arange(side)[::-1]])  # beyond the edge
        places.append(mirrored[np.arange(first, last) % (2 * side)])
        cut.append(slice(wanted.start - first * scale, wanted.stop - first * scale))
    part = _floats(values[np.ix_(*places)])
    size = (part.shape[1] * scale, part.shape[0] * scale)
    bicubic = PIL.Image.Resampling.BICUBIC
    bands = [PIL.Image.fromarray(part[..., i]).resize(size, bicubic) for i in range(part.shape[-1])]
    return np.stack([np.asarray(band)[*cut] for band in bands], -1)


def _floats(values: np.ndarray) -> np.ndarray:
    """From whole numbers to [-1, 1]."""
    half = np.float32(np.iinfo(values.dtype).max / 2)
    return values.astype(np.float32) / half - np.float32(1)


def _whole(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Back to whole numbers, rounded and clipped: of what `_floats` gives, the same ones."""
    largest = np.iinfo(dtype).max
    return np.clip(np.rint((values + 1) * np.float32(largest / 2)), 0, largest).astype(dtype)


def _grey(values: np.ndarray) -> np.ndarray:
    """The luma [h, w, 1] of greys or colours."""
    if values.shape[-1] == 1:
        return values
    return (values @ _LUMA)[..., None]


def _coloured(values: np.ndarray) -> np.ndarray:
    """Three channels of greys or colours."""
    return values if values.shape[-1] == 3 else np.repeat(values, 3, -1)
