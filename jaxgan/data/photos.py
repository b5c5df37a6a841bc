"""Photos: image files with all that belongs to them, read, and written as they were.

What Pillow reads, and PNG and TIFF of 16 bits a channel in colour, which it does not. A photo keeps
its transparency, its 16 bits, its colour profile and its EXIF. The EXIF rotation is applied, and
reset. Of an animation or of a file of many pages, the first picture is read.
"""

import contextlib
import dataclasses
import os
import pathlib
import warnings

import numpy as np

from jaxgan import types
from jaxgan.data import pixels, png16, tiff
from jaxgan.types import UserError

# Written without loss but for JPEG, which has quality 95 and colours at full resolution.
_FORMATS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
SUFFIXES = tuple(_FORMATS)  # of files that can be written
_DEEP = ("PNG", "TIFF")  # kinds that hold 16 bits a channel
_OPAQUE = ("JPEG", "PPM", "BMP")  # kinds that hold no transparency, or that few programs read
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # pixels a side
# The EXIF of sizes, in IFD 0x8769.
_EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 0x8769, 0xA002, 0xA003
_PREFIX = b"Exif\0\0"
# By an EXIF orientation: whether the first axis is the width, and which are then mirrored.
_TURNS = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo.

    Attributes:
      pixels: uint8 or uint16 [H, W, C], C of 1 (grey) or 3 (RGB).
      alpha: [H, W, 1] of the same type, or None where all of it is opaque.
      icc: its colour profile; empty for none.
      exif: its EXIF without the "Exif" prefix, without orientation and thumbnail; empty for none.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes = b""
    exif: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def largest(self) -> int:
        """The value of white: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)


def read(path: str | os.PathLike) -> Photo:
    """Reads a photo.

    Palettes become RGB, CMYK too (without its profile), black and white becomes grey.

    Args:
      path: the file.

    Returns:
      The photo.

    Raises:
      UserError: it is no image, is damaged, has too many pixels, or of a kind that would lose much.
    """
    try:
        return _read(pathlib.Path(path))
    except Exception as error:  # Pillow raises many others than OSError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({types.one_line(reason)})") from error


def write(path: str | os.PathLike, photo: Photo) -> None:
    """Writes a photo; a reader never sees half of one.

    Args:
      path: where; its folder exists, and its suffix is one of `SUFFIXES`.
      photo: that `check` accepts for this path.

    Raises:
      OSError: the disk is full, or the folder may not be written.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            _encode(file, _FORMATS[path.suffix.lower()], photo)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name of a file without content
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def check(path: str | os.PathLike, photo: Photo, *, times: tuple[int, int] = (1, 1)) -> None:
    """Refuses files that could not hold what is made of a photo.

    Args:
      path: of the file to write.
      photo: the one it is made of.
      times: how many times as high and as wide it becomes.

    Raises:
      UserError: the kind of the file has no transparency, no 16 bits, or is not that large.
    """
    path = pathlib.Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: is none of {' '.join(SUFFIXES)}, the files that can be written")
    if photo.pixels.dtype == np.uint16 and kind not in _DEEP:
        raise UserError(f"{path}: {kind} has no 16 bits a channel as the photo has; use .png")
    if photo.alpha is not None and kind in _OPAQUE:
        raise UserError(f"{path}: {kind} has no transparency as the photo has; use .png")
    height, width = (side * n for side, n in zip(photo.size, times, strict=True))
    if max(height, width) > _LONGEST.get(kind, max(height, width)):
        raise UserError(f"{path}: {kind} cannot hold {height} x {width} pixels; use .png or .tif")


def _read(path: pathlib.Path) -> Photo:
    if not path.is_file():
        raise OSError("not a regular file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        head = file.read(32)
    if found := png16.size(head):
        _check_size(found)
        with pixels.opened(path) as picture:  # for what it says beside its pixels
            values = png16.decode(path.read_bytes())
            return _photo(values, _exif(picture), picture.info.get("icc_profile"))
    if head.startswith(tiff.SIGNATURES):
        tags = tiff.tags(path)
        bits = tags.get(tiff.BITS, 1)
        bits = max(bits) if isinstance(bits, tuple) else bits
        if bits > 16:
            raise OSError(f"a TIFF of {bits} bits a channel; save it with 8 or 16")
        if bits == 16 and (tags.get(tiff.CHANNELS, 1), tags.get(tiff.PHOTOMETRIC)) != (1, 1):
            _check_size((tags.get(tiff.HEIGHT, 0), tags.get(tiff.WIDTH, 0)))
            return _photo(tiff.decode(path), tags, tags.get(tiff.ICC))
    if head.startswith(tiff.BIG):
        raise OSError("a BigTIFF; save it as an ordinary TIFF")
    if head[:2] in (b"P3", b"P6") and _ppm_depth(head) > 255:
        raise OSError("a PPM of more than 8 bits a channel; save it as PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on sizes and on damaged EXIF
        with pixels.opened(path) as picture:
            _check_size((picture.height, picture.width))
            picture.load()
            return _photo(_values(picture), _exif(picture), picture.info.get("icc_profile"))


def _values(picture) -> np.ndarray:
    """The values of a Pillow image, [H, W, C]: grey or RGB, with alpha where it has any."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise OSError(f"grey values range over {values.min()}..{values.max()}, not 16 bits")
        return values.astype(np.uint16)[..., None]
    if picture.mode == "F":
        raise OSError("floating-point pixels have no known range")
    mode = "L" if pixels.is_grey(picture) else "RGB"
    if picture.has_transparency_data:
        mode = "LA" if mode == "L" else "RGBA"
    if picture.mode != mode:
        picture = picture.convert(mode)
    values = np.asarray(picture)
    return values[..., None] if values.ndim == 2 else values


def _photo(values: np.ndarray, tags, icc: bytes | None) -> Photo:
    """A photo the right way up; tags are Pillow's EXIF."""
    swapped, mirrored = _TURNS.get(tags.get(pixels.EXIF_ORIENTATION, 1), (False, ()))
    values = np.flip(values.swapaxes(0, 1) if swapped else values, mirrored)
    colours = 1 if values.shape[-1] < 3 else 3
    transparent = values.shape[-1] > colours
    return Photo(
        np.ascontiguousarray(values[..., :colours]),
        np.ascontiguousarray(values[..., colours:]) if transparent else None,
        icc or b"",
        _kept(tags, (values.shape[0], values.shape[1])),
    )


def _kept(tags, size: tuple[int, int]) -> bytes:
    """The EXIF that goes with a photo of a new size, as bytes; what cannot be read is left out."""
    try:
        for tag in (*tiff.STRUCTURE, pixels.EXIF_ORIENTATION):
            tags.pop(tag, None)
        inner = tags.get_ifd(_EXIF_IFD)
        for tag, side in ((_EXIF_HEIGHT, size[0]), (_EXIF_WIDTH, size[1])):
            if tag in inner:
                inner[tag] = side
        return tags.tobytes()[len(_PREFIX) :] if len(tags) or inner else b""
    except Exception:  # damaged EXIF: a photo is worth more than its tags
        return b""


def _encode(file, kind: str, photo: Photo) -> None:
    import PIL.Image

    parts = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha]
    values = np.concatenate(parts, -1) if len(parts) > 1 else photo.pixels
    colours = {b"RGB ": 3, b"GRAY": 1}.get(photo.icc[16:20])
    icc = photo.icc if colours == photo.pixels.shape[-1] else b""  # of what it is now
    exif = _kept(_loaded(photo.exif), photo.size) if photo.exif else b""
    if kind == "TIFF":
        tiff.encode(file, values, icc=icc, exif=exif)
    elif values.dtype == np.uint16:
        png16.encode(file, values, icc=icc, exif=exif)
    else:
        options = {
            "JPEG": {"quality": 95, "subsampling": 0},
            "WEBP": {"lossless": True, "exact": True},
        }
        extra = {"icc_profile": icc or None, "exif": _PREFIX + exif if exif else b""}
        extra = extra if kind in ("PNG", "JPEG", "WEBP") else {}
        picture = PIL.Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
        picture.save(file, format=kind, **options.get(kind, {}), **extra)


def _loaded(exif: bytes):
    import PIL.Image

    tags = PIL.Image.Exif()
    tags.load(_PREFIX + exif)
    return tags


def _exif(picture):
    """The EXIF of a Pillow image, empty where it is damaged."""
    import PIL.Image

    try:
        return picture.getexif()
    except Exception:
        return PIL.Image.Exif()


def _ppm_depth(head: bytes) -> int:
    """The largest value of a PPM file, where its first bytes say it without comments."""
    words = head.split()
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > pixels.MAX_PIXELS:
        raise OSError(f"{size[1]}x{size[0]} pixels are too many")
