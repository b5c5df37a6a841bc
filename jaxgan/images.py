"""Images: value ranges, grids, and PNG files."""

import contextlib
import io
import math
import os
import pathlib
import unicodedata
from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np

from jaxgan.types import Array


def from_uint8(images: Array) -> Array:
    """Maps bytes to the range that networks see.

    Args:
      images: [...] uint8.

    Returns:
      [...] float32 in [-1, 1].
    """
    chex.assert_type(images, np.uint8)
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def to_uint8(images: Array | np.ndarray) -> np.ndarray:
    """Maps what networks make back to bytes, clipped and rounded; exact inverse of `from_uint8`.

    Args:
      images: [...] float in [-1, 1].

    Returns:
      [...] uint8, on the host.
    """
    values = np.asarray(images, np.float32)
    return np.clip(np.rint((values + 1.0) * 127.5), 0, 255).astype(np.uint8)


def alike(images: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Makes images that can be shown beside others of a size: smaller ones are enlarged.

    Args:
      images: [..., h, w, c] uint8, or float in [-1, 1]; channels beyond those of the size, such as
        a mask, are left out.
      size: (H, W, C), multiples of h and w.

    Returns:
      [..., H, W, C] uint8.
    """
    x = images if images.dtype == np.uint8 else to_uint8(images)
    times = size[0] // x.shape[-3]
    x = np.repeat(np.repeat(x, times, -3), times, -2)[..., : size[-1]]
    return np.broadcast_to(x, (*x.shape[:-3], *size))


def grid(images: np.ndarray, *, columns: int = 0, pad: int = 2, fill: int = 255) -> np.ndarray:
    """Lays images out row by row in one picture.

    Args:
      images: [N, H, W, C] uint8.
      columns: images in a row; 0 for the squarest picture.
      pad: pixels between images and around them.
      fill: value of those pixels, and of places left over.

    Returns:
      [rows * (H + pad) + pad, columns * (W + pad) + pad, C] uint8.
    """
    chex.assert_rank(images, 4)
    num, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(num)))
    rows = -(-num // columns)
    cells = np.full((rows * columns, height + pad, width + pad, channels), fill, np.uint8)
    cells[:num, pad:, pad:] = images
    cells = cells.reshape(rows, columns, height + pad, width + pad, channels)
    picture = cells.transpose(0, 2, 1, 3, 4).reshape(rows * (height + pad), -1, channels)
    return np.pad(picture, ((0, pad), (0, pad), (0, 0)), constant_values=fill)


def by_class(
    images: np.ndarray, label: np.ndarray, names: Sequence[str], *, pad: int = 2
) -> np.ndarray:
    """Lays images out in a row for each class, which begins with the name of the class.

    Args:
      images: [N, H, W, C] uint8; those of a class keep their order.
      label: [N] integers, the class of each.
      names: of the classes, by label; those without images have no row. Accents are left out, of
        long names only the beginning is shown, and the label in place of names in other letters,
        which Pillow's font lacks.
      pad: pixels between images and around them.

    Returns:
      [h, w, C] uint8, with the names black on white.
    """
    from PIL import Image, ImageDraw, ImageFont  # slow to import, and only few need it

    chex.assert_rank(images, 4)
    _, height, width, channels = images.shape
    font = ImageFont.load_default(size=max(10, min(20, height // 2)))
    present = [int(number) for number in np.unique(label)]
    shown = {number: _plain(names[number]) or str(number) for number in present}
    boxes = [font.getbbox(name) for name in shown.values()]
    margin = max(math.ceil(right) for _, _, right, _ in boxes) + 2 * pad
    high = max(height, *(math.ceil(bottom) for *_, bottom in boxes))
    most = max(int(np.sum(label == number)) for number in present)
    picture = np.full(
        (len(present) * (high + pad) + pad, margin + most * (width + pad) + pad, channels),
        255,
        np.uint8,
    )
    written = Image.new("L", (margin, picture.shape[0]), 255)
    draw = ImageDraw.Draw(written)
    for row, number in enumerate(present):
        top = pad + row * (high + pad)
        middle = top + high / 2
        draw.text((margin - pad, middle), shown[number], fill=0, font=font, anchor="rm")
        for column, image in enumerate(images[label == number]):
            left = margin + pad + column * (width + pad)
            picture[top : top + height, left : left + width] = image
    picture[:, :margin] = np.asarray(written)[..., None]
    return picture


def _plain(name: str) -> str:
    """The beginning of a name without its accents; nothing of one that is not in Latin letters."""
    letters = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return plain[:20] if plain.isascii() and plain.isprintable() else ""


def save_png(path: str | os.PathLike, image: np.ndarray) -> bytes:
    """Writes one image as a PNG file; a reader never sees half of one.

    Args:
      path: where; its folder exists.
      image: [H, W, C] uint8, with 1 (grey), 3 (RGB) or 4 (RGBA) channels.

    Returns:
      The content of the file.
    """
    from PIL import Image  # slow to import, and only those who write files need it

    chex.assert_rank(image, 3)
    chex.assert_type(image, np.uint8)
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", optimize=True)
    try:
        unfinished.write_bytes(content.getvalue())
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)  # where it could not be written
    return content.getvalue()
