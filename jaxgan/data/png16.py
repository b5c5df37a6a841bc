"""PNG files of 16 bits a channel, which Pillow reads as 8.

See "Portable Network Graphics (PNG) Specification" (https://www.w3.org/TR/png-3/).
"""

import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_COLOUR_TYPES = {channels: kind for kind, channels in _CHANNELS.items()}
_ROWS = 256  # compressed at a time


def size(head: bytes) -> tuple[int, int] | None:
    """The size of a PNG file of 16 bits.

    Args:
      head: its first 25 bytes or more.

    Returns:
      Height and width; None if it is another file.
    """
    if len(head) < 25 or head[:8] != SIGNATURE or head[12:16] != b"IHDR" or head[24] != 16:
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def decode(content: bytes) -> np.ndarray:
    """Decodes a file.

    Args:
      content: of the file, whose `size` was found.

    Returns:
      uint16 [H, W, C]: grey, grey and alpha, RGB, or RGB and alpha; alpha also where the file
      declares one colour transparent.

    Raises:
      OSError: it is damaged, or interlaced.
    """
    packed, clear, channels, height, width = [], None, 0, 0, 0
    for kind, data in _chunks(content):
        if kind == b"IHDR":
            width, height, _, colours, _, _, interlaced = struct.unpack(">IIBBBBB", data)
            if interlaced or colours not in _CHANNELS:
                raise OSError("an interlaced PNG of 16 bits; save it without interlacing")
            channels = _CHANNELS[colours]
        elif kind == b"tRNS":
            clear = np.frombuffer(data, ">u2")
        elif kind == b"IDAT":
            packed.append(data)
    stride = width * channels * 2
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(b"".join(packed), height * (stride + 1))
    except zlib.error as error:
        raise OSError(f"damaged PNG: {error}") from error
    if len(rows) < height * (stride + 1):
        raise OSError("damaged PNG: it ends too early")
    rows = np.frombuffer(rows, np.uint8).reshape(height, stride + 1)
    if rows[:, 0].max() > 4:
        raise OSError("damaged PNG: an unknown filter")
    filtered = rows[:, 1:].reshape(height, width, channels * 2)
    pixels = _unfiltered(rows[:, 0], filtered).view(">u2").astype(np.uint16)
    if clear is None or len(clear) != channels:
        return pixels
    alpha = np.where((pixels == clear.reshape(1, 1, -1)).all(-1, keepdims=True), 0, 65535)
    return np.concatenate([pixels, alpha.astype(np.uint16)], -1)


def encode(file: IO[bytes], pixels: np.ndarray, *, icc: bytes = b"", exif: bytes = b"") -> None:
    """Writes a file.

    Args:
      file: to write to.
      pixels: uint16 [H, W, C] as `decode` returns them.
      icc: colour profile; empty for none.
      exif: EXIF without its "Exif" prefix; empty for none.
    """
    height, width, channels = pixels.shape
    file.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    _write(file, b"IHDR", header)
    if icc:
        _write(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        _write(file, b"eXIf", exif)
    deflate = zlib.compressobj()
    for top in range(0, height, _ROWS):
        part = pixels[top : top + _ROWS].astype(">u2").view(np.uint8)  # [rows, W, 2 C]
        part = part.reshape(len(part), width, channels * 2)
        filtered = part.copy()
        filtered[:, 1:] -= part[:, :-1]  # "Sub": the difference to the pixel on the left
        lines = filtered.reshape(len(part), -1)
        content = np.concatenate([np.ones((len(part), 1), np.uint8), lines], 1)
        _write(file, b"IDAT", deflate.compress(content.tobytes()))
    _write(file, b"IDAT", deflate.flush())
    _write(file, b"IEND", b"")


def _unfiltered(kinds: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Adds to each byte what its row's filter says of those left, above, and left above it.

    A byte needs its neighbours first, so that only those on a diagonal can be done at once.

    Args:
      kinds: [H] uint8, section 9.2: none, left, above, mean, Paeth.
      filtered: [H, W, bytes of a pixel] uint8.

    Returns:
      [H, W, bytes of a pixel] uint8.
    """
    height, width, depth = filtered.shape
    if kinds.max() <= 1:
        summed = np.cumsum(filtered, axis=1, dtype=np.uint8)
        return np.where(kinds[:, None, None] == 1, summed, filtered)
    # With a row and a column of zeros before it; in one line, a diagonal has a constant stride.
    framed = np.zeros((height + 1, width + 1, depth), np.uint8)
    framed[1:, 1:] = filtered
    line = framed.reshape(-1, depth)
    for diagonal in range(height + width - 1):
        top, bottom = max(0, diagonal - width + 1), min(height - 1, diagonal)
        start = (top + 1) * (width + 1) + diagonal - top + 1
        stop = start + (bottom - top) * width + 1
        left, above, corner = (
            line[start - back : stop - back : width].astype(np.int16)
            for back in (1, width + 1, width + 2)
        )
        guesses = [np.int16(0), left, above, (left + above) // 2, _paeth(left, above, corner)]
        guess = np.choose(kinds[top : bottom + 1, None], guesses)
        line[start:stop:width] += guess.astype(np.uint8)
    return np.ascontiguousarray(framed[1:, 1:])


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Section 9.4: whichever of the three is nearest to left + above - corner."""
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    nearer = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearer)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts of a file, each with its name, until its end."""
    place = len(SIGNATURE)
    while True:
        head, place = content[place : place + 8], place + 8
        if len(head) < 8:
            raise OSError("damaged PNG: it ends too early")
        length, kind = struct.unpack(">I4s", head)
        data, check = content[place : place + length], content[place + length : place + length + 4]
        if len(check) < 4 or zlib.crc32(kind + data) != int.from_bytes(check, "big"):
            raise OSError("damaged PNG: a checksum is wrong, or it ends too early")
        yield kind, data
        if kind == b"IEND":
            return
        place += length + 4


def _write(file: IO[bytes], kind: bytes, data: bytes) -> None:
    check = zlib.crc32(kind + data)
    file.write(struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", check))
