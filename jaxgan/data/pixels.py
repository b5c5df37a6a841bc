"""Images of any kind made uint8 [H, W, C] of one size: ranges, colour, alpha, rotation, size."""

import functools
import os
import pathlib
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from jaxgan.data import budget
from jaxgan.types import UserError

Size = int | tuple[int, int]  # side in pixels, or (height, width)

# Pillow itself refuses twice this number of pixels.
MAX_PIXELS = 89_478_485
# Decoded at the same time, by all threads of a process; a larger image waits to be alone.
AT_ONCE = budget.Budget(2**25)
STRIP = 256  # rows of a large image whose colours are converted at a time
EXIF_ORIENTATION = 0x0112
# Whatever the suffix says, a file of another kind is not opened: some run programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def as_uint8(images: np.ndarray, name: str) -> np.ndarray:
    """Brings images to uint8 [N, H, W, C].

    Args:
      images: [N, H, W] or [N, H, W, C], C of 1 or 3; uint8, other integers in 0..255, booleans
        (black and white), or floats in [0, 1] or [-1, 1] (taken for the latter when any value is
        negative).
      name: the file named in messages.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      UserError: another shape, values outside these ranges, or not a number.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{name}: images have shape {list(images.shape)}; need [N, H, W] or"
            " [N, H, W, C] with C of 1 or 3"
        )
    if images.size == 0:
        raise UserError(f"{name}: holds no images (shape {list(images.shape)})")
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool:
        return images.astype(np.uint8) * np.uint8(255)
    low, high = images.min(), images.max()
    if images.dtype.kind in "iu" and low >= 0 and high <= 255:
        return images.astype(np.uint8)
    if images.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
            raise UserError(
                f"{name}: image {bad[0]} holds NaN or infinite values ({bad.size} such images)"
            )
        slack = 1e-3
        if low >= -slack and high <= 1 + slack:
            return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
        if low >= -1 - slack and high <= 1 + slack:
            return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    raise UserError(
        f"{name}: {images.dtype} images range over {low:g}..{high:g}; need uint8 or"
        " integers in 0..255, or floats in 0..1 or -1..1"
    )


def conform(images: np.ndarray, *, image_size: Size = 0, channels: int = 0) -> np.ndarray:
    """Crops to the middle of the shape asked for, resizes, and converts between grey and RGB.

    Args:
      images: uint8 [N, H, W, C], C of 1 or 3.
      image_size: side in pixels, or (height, width); 0 leaves the size as it is.
      channels: 1 or 3; 0 leaves the colours as they are.

    Returns:
      uint8 [N, height, width, channels]; the same array when nothing changes.

    Raises:
      UserError: an impossible size or number of channels.
    """
    check_image_options(image_size, channels)
    if channels == 1 and images.shape[-1] == 3:
        # ITU-R 601 luma in Pillow's fixed-point form, so that arrays and files agree to the bit.
        luma = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        images = ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
    if image_size and images.shape[1:3] != shape_of(image_size):
        images = _resize(images, shape_of(image_size))
    if channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    return images


def _resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes the middle of uint8 [N, H, W, C]: two matrix products, for many at once."""
    top, left, height, width = middle(images.shape[1:3], size)
    rows, columns = _resize_weights(height, size[0]), _resize_weights(width, size[1])
    channels = images.shape[-1]
    result = np.empty((len(images), *size, channels), np.uint8)
    most = max(height, size[0]) * max(width, size[1])
    chunk = max(1, 2**23 // (most * channels))  # 32 MB of floats at a time
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk, top : top + height, left : left + width]
        part = part.transpose(0, 3, 1, 2).astype(np.float32)  # [n, C, height, width]
        part = (rows @ (part @ columns.T)).transpose(0, 2, 3, 1)
        result[start : start + chunk] = np.rint(np.clip(part, 0, 255))
    return result


@functools.lru_cache(maxsize=64)
def _resize_weights(old: int, new: int) -> np.ndarray:
    """Pillow's Lanczos filter as a matrix [new, old]: what it makes of the identity."""
    import PIL.Image

    identity = PIL.Image.fromarray(np.eye(old, dtype=np.float32))
    return np.asarray(identity.resize((old, new), PIL.Image.Resampling.LANCZOS))


def shape_of(image_size: Size) -> tuple[int, int]:
    """The shape that a size asks for.

    Args:
      image_size: side in pixels, or (height, width).

    Returns:
      (height, width).
    """
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def middle(found: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest part in the middle of an image that has the shape asked for.

    Args:
      found: (height, width) of the image.
      wanted: (height, width), of which the ratio counts.

    Returns:
      (top, left, height, width), to the nearest pixel.
    """
    height = min(found[0], max(1, round(found[1] * wanted[0] / wanted[1])))
    width = min(found[1], max(1, round(found[0] * wanted[1] / wanted[0])))
    return (found[0] - height) // 2, (found[1] - width) // 2, height, width


def log_changes(
    name: str, sizes: Iterable[tuple[int, int]], *, colour: bool, image_size: Size, channels: int
) -> None:
    """Logs one line, once, if images will be cropped, scaled or made grey.

    It is a warning where something is lost that nobody asked for: a part of the images by cropping,
    or colours. Scaling alone, which `image_size` asks for, is information.

    Args:
      name: the file or dataset named in the message.
      sizes: (height, width) of the images; none if they differ and are not known.
      colour: whether any of them is in colour.
      image_size: side in pixels, or (height, width), of what is made of them; 0 if they keep
        their size.
      channels: 1 or 3; 0 if they keep their colours.
    """
    changes, level = [], logging.INFO
    kinds, wanted = sorted(set(sizes)), shape_of(image_size)
    scaled = f"scaled to {wanted[0]} x {wanted[1]}"
    form = "square" if wanted[0] == wanted[1] else "part"
    if image_size and not kinds:
        changes.append(f"the middle {form} of each image is {scaled}")
        level = logging.WARNING
    elif image_size and kinds != [wanted]:
        found = [f"{height} x {width}" for height, width in dict.fromkeys([kinds[0], kinds[-1]])]
        text = f"images are {' to '.join(found)} (height x width)"
        kept = sorted({middle(size, wanted)[2:] for size in kinds})
        if any(middle(size, wanted)[2:] != size for size in kinds):
            part = f" {kept[0][0]} x {kept[0][1]}" if len(kept) == 1 else f" {form} of each"
            text, level = f"{text}, cropped to the middle{part}", logging.WARNING
        if kept != [wanted]:
            text += f", {scaled}"
        changes.append(text)
    if colour and channels == 1:
        changes.append("images in colour are made grey, as channels is 1")
        level = logging.WARNING
    if changes:
        _log_once(level, f"{name}: {'; '.join(changes)}")


@functools.cache
def _log_once(level: int, text: str) -> None:
    logging.log(level, "%s", text)


def check_image_options(image_size: Size, channels: int) -> None:
    """Refuses impossible sizes and numbers of channels.

    Args:
      image_size: side in pixels, or (height, width); 0 for as it is.
      channels: 1, 3, or 0 for as they are.

    Returns:
      Nothing.

    Raises:
      UserError: one of them is impossible.
    """
    if isinstance(image_size, tuple):
        if not all(1 <= side <= 4096 for side in image_size):
            raise UserError(f"height and width {image_size} are not possible; use 1..4096 for each")
    elif not 0 <= image_size <= 4096:
        raise UserError(f"image_size {image_size} is not possible; use 1..4096, or 0 for as it is")
    if channels not in (0, 1, 3):
        raise UserError(
            f"channels {channels} is not possible; use 1 (grey), 3 (RGB) or 0 (as it is)"
        )


def is_grey(picture) -> bool:
    """Whether a Pillow image has no colour, judged by its mode.

    Args:
      picture: a Pillow image.

    Returns:
      True for black and white, grey, and grey with alpha, of any depth.
    """
    return picture.mode in ("1", "L", "LA", "La", "F") or picture.mode.startswith("I")


def decode(path: str | pathlib.Path, *, image_size: Size = 0, channels: int = 0) -> np.ndarray:
    """Reads one image file of any mode and size.

    The EXIF rotation is applied, transparent parts are laid over white, 16-bit greys keep their
    high byte, an animation gives its first frame. The central square is resized when a size is
    given.

    Args:
      path: the file.
      image_size: side in pixels, or (height, width); 0 leaves the size as it is.
      channels: 1 or 3; 0 for 1 if the file is grey and 3 otherwise.

    Returns:
      uint8 [H, W, C].

    Raises:
      OSError: the file is no image, is damaged, or has too many pixels; Pillow raises a few others.
    """
    import PIL.ImageOps

    with opened(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise OSError(f"{picture.width}x{picture.height} pixels are too many")
        channels = channels or (1 if is_grey(picture) else 3)
        if image_size:
            # Lets the JPEG decoder work at a half, a quarter or an eighth where that is enough.
            side = max(shape_of(image_size))  # before the EXIF rotation, either may be the height
            picture.draft(None, (2 * side, 2 * side))
        with AT_ONCE.of(picture.width * picture.height):
            picture.load()
            PIL.ImageOps.exif_transpose(picture, in_place=True)
            made = _finish(_flat(picture), image_size, channels)
            pixels = picture.width * picture.height
            picture.close()  # before another thread begins: leaving the outer block frees nothing
            if pixels > AT_ONCE.total:
                budget.give_back()
            return made


class Header(NamedTuple):
    """What an image file says of itself: (height, width) after the EXIF rotation, and its kind."""

    size: tuple[int, int]
    grey: bool
    transparent: bool


def header(path: str | pathlib.Path) -> Header | None:
    """Reads what an image file says of itself, without decoding it.

    Args:
      path: the file.

    Returns:
      Its size and kind; None if it cannot be read.
    """
    try:
        with opened(path) as picture:
            height, width = picture.height, picture.width
            # Pillow decodes a whole PNG in search of its rotation, which hardly any has.
            has_exif = picture.format != "PNG" or "exif" in picture.info
            if has_exif and picture.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
                height, width = width, height
            return Header((height, width), is_grey(picture), picture.has_transparency_data)
    except Exception:  # whoever decodes it says what is wrong
        return None


def opened(path: str | pathlib.Path) -> Any:
    """Opens an image file with Pillow, reading its header only.

    Args:
      path: the file.

    Returns:
      The Pillow image, not yet decoded.

    Raises:
      OSError: it is no image, or a pipe or another file that is not a regular one.
    """
    import PIL.Image

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("not a regular file")  # a pipe would be waited for without end
    return PIL.Image.open(path, formats=FORMATS)


def _flat(picture):
    """Returns the picture in mode L or RGB: no palette, alpha, CMYK or more than 8 bits."""
    import PIL.Image

    mode = "L" if is_grey(picture) else "RGB"
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise OSError(f"grey values range over {values.min()}..{values.max()}, not 16 bits")
        return PIL.Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise OSError("floating-point pixels have no known range")
    if picture.mode == mode and not picture.has_transparency_data:
        return picture
    flat = PIL.Image.new(mode, picture.size)
    for top in range(0, picture.height, STRIP):
        strip = picture.crop((0, top, picture.width, min(top + STRIP, picture.height)))
        if picture.has_transparency_data:
            strip = strip.convert("RGBA")
            white = PIL.Image.new("RGBA", strip.size, "white")
            strip = PIL.Image.alpha_composite(white, strip)
        flat.paste(strip.convert(mode), (0, top))
    return flat


def _finish(picture, image_size: Size, channels: int) -> np.ndarray:
    """Crops and resizes a picture in mode L or RGB, and returns uint8 [H, W, channels]."""
    import PIL.Image

    mode = "L" if channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    wanted, found = shape_of(image_size), (picture.height, picture.width)
    if image_size and found != wanted:
        top, left, height, width = middle(found, wanted)
        if found != (height, width):
            picture = picture.crop((left, top, left + width, top + height))
        picture = picture.resize((wanted[1], wanted[0]), PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)
