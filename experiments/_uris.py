"""Pictures as data URIs for a page that holds all it shows, each of a limited size."""

import base64
import io
import pathlib
import warnings
from typing import NamedTuple

import numpy as np

from jaxgan import types
from jaxgan.types import UserError

SMALL = 20_000  # bytes up to which a picture stays without loss
QUALITIES = (85, 70)
LARGEST = 2**26  # pixels of a file
WIDEST = 1600  # pixels


class Picture(NamedTuple):
    """A picture for a page.

    Attributes:
      uri: its content.
      width: pixels, those that it is of as a rule: a smaller copy may stand for it.
      height: pixels.
    """

    uri: str
    width: int
    height: int


def of_file(path: pathlib.Path, *, most: int) -> Picture:
    """Reads a picture.

    Args:
      path: of the file, PNG.
      most: bytes that its data URI may have, about.

    Returns:
      The picture, smaller or with some loss where that is needed.

    Raises:
      UserError: it is no picture that can be read.
    """
    from PIL import Image  # slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > LARGEST:
                    raise UserError(f"{path} has {image.width} x {image.height} pixels: too many")
                image.load()
                return _encoded(image.convert("L" if image.mode in ("L", "1") else "RGB"), most)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path} cannot be read: {types.one_line(error, limit=120)}") from error


def of_array(image: np.ndarray, *, most: int) -> Picture:
    """Makes a picture of pixels.

    Args:
      image: [H, W, C] uint8, C of 1 or 3.
      most: bytes that its data URI may have, about.

    Returns:
      The picture, smaller or with some loss where that is needed.
    """
    from PIL import Image

    return _encoded(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), most)


def _encoded(image, most: int) -> Picture:
    """Without loss where that is small; then as WebP, and smaller until it fits."""
    width, height = image.size
    most = most * 3 // 4  # base64 takes four letters for three bytes
    content = _saved(image, "PNG", optimize=True) if width * height <= 2**20 else b""
    if content and len(content) <= min(SMALL, most):
        return Picture(_uri(content, "png"), width, height)
    if width > WIDEST:
        image = _scaled(image, WIDEST / width)
    lossy = b""
    while not lossy or (len(lossy) > most and min(image.size) > 64):
        if lossy:
            image = _scaled(image, 0.8)
        for quality in QUALITIES:
            lossy = _saved(image, "WEBP", quality=quality, method=4)
            if len(lossy) <= most:
                break
    if content and len(content) <= len(lossy):
        return Picture(_uri(content, "png"), width, height)
    return Picture(_uri(lossy, "webp"), width, height)


def _scaled(image, factor: float):
    return image.resize([max(1, round(side * factor)) for side in image.size])


def _saved(image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
