"""TIFF files: read where Pillow cannot, at 16 bits a channel, and written with all their EXIF.

See "TIFF Revision 6.0" (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf).
"""

import io
import pathlib
import zlib
from typing import IO, Any

import numpy as np

SIGNATURES = (b"II*\0", b"MM\0*")
BIG = (b"II+\0", b"MM\0+")  # those of more than 4 GB
WIDTH, HEIGHT, BITS, PHOTOMETRIC, CHANNELS, ICC = 256, 257, 258, 262, 277, 34675
# Of tags, those that say how a file's pixels are stored: of another file, others.
STRUCTURE = (254, 255, WIDTH, HEIGHT, BITS, 259, PHOTOMETRIC, 263, 266, 273, CHANNELS, 278, 279)
STRUCTURE += (280, 281, 284, 317, 320, 322, 323, 324, 325, 330, 332, 338, 339, 347)
STRUCTURE += (529, 530, 531, 532, 700, ICC)
_PREFIX = b"Exif\0\0"
_STRIP = 2**20  # bytes compressed at a time


def tags(path: str | pathlib.Path) -> Any:
    """Reads what a file says of its first picture, also where Pillow cannot decode that.

    Args:
      path: the file.

    Returns:
      Its tags, as Pillow's EXIF.

    Raises:
      OSError: it is damaged; Pillow raises a few others.
    """
    import PIL.Image

    found = PIL.Image.Exif()
    found.load_from_fp(io.BytesIO(pathlib.Path(path).read_bytes()))
    return found


def decode(path: str | pathlib.Path) -> np.ndarray:
    """Decodes the first picture of a file of 16 bits a channel.

    Args:
      path: the file.

    Returns:
      uint16 [H, W, C]: grey, grey and alpha, RGB, or RGB and alpha, not premultiplied.

    Raises:
      OSError: it is damaged, or of another kind.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            kind = getattr(page.photometric, "name", "an unknown kind")
            extra = [int(x) for x in page.extrasamples]
            pixels = page.asarray()
            if page.planarconfig == 2 and pixels.ndim == 3:  # a plane for each channel
                pixels = np.moveaxis(pixels, 0, -1)
    except Exception as error:  # tifffile raises whatever the damage leads to
        raise OSError(f"TIFF of 16 bits: {error}") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3}.get(kind, 0)
    if pixels.dtype != np.uint16 or not colours or pixels.shape[-1] < colours:
        raise OSError(f"a TIFF of {kind}, {pixels.dtype}; save it as grey or RGB of 8 or 16 bits")
    if kind == "MINISWHITE":
        pixels = np.concatenate([65535 - pixels[..., :1], pixels[..., 1:]], -1)
    pixels = pixels[..., : colours + bool(extra)]
    if extra and extra[0] == 1:  # its colours are multiplied by alpha
        alpha = np.maximum(pixels[..., colours:], 1).astype(np.float32)
        colour = np.minimum(np.rint(pixels[..., :colours] * (65535 / alpha)), 65535)
        pixels = np.concatenate([colour.astype(np.uint16), pixels[..., colours:]], -1)
    return np.ascontiguousarray(pixels)


def encode(file: IO[bytes], pixels: np.ndarray, *, icc: bytes = b"", exif: bytes = b"") -> None:
    """Writes a file, compressed without loss.

    EXIF is itself a TIFF file without an image: here it is given one.

    Args:
      file: to write to.
      pixels: uint8 or uint16 [H, W, C]: grey, grey and alpha, RGB, or RGB and alpha.
      icc: colour profile; empty for none.
      exif: EXIF without its "Exif" prefix; empty for none.
    """
    import PIL.Image

    height, width, channels = pixels.shape
    made = PIL.Image.Exif()
    if exif:
        made.load(_PREFIX + exif)
    order = ">" if made.tobytes()[len(_PREFIX) :].startswith(b"MM") else "<"
    rows = max(1, _STRIP // (width * channels * pixels.itemsize))
    strips = [
        _compressed(pixels[top : top + rows], pixels.dtype.newbyteorder(order))
        for top in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]
    made[WIDTH], made[HEIGHT], made[BITS] = width, height, (8 * pixels.itemsize,) * channels
    made[259], made[317] = 8, 2  # deflate, of differences to the left
    made[PHOTOMETRIC], made[CHANNELS], made[278] = (2 if channels > 2 else 1), channels, rows
    if channels in (2, 4):
        made[338] = 2  # the last channel is alpha, and colours are not multiplied by it
    if icc:
        made[ICC] = icc
    # Pillow adds the length of the tags to where the strips begin.
    made[273] = tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))
    made[279] = tuple(lengths)
    file.write(made.tobytes()[len(_PREFIX) :])
    for strip in strips:
        file.write(strip)


def _compressed(rows: np.ndarray, dtype: np.dtype) -> bytes:
    """Rows as differences to the pixel on the left (section 14), deflated."""
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return zlib.compress(differences.astype(dtype).tobytes())
