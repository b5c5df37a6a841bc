"""PNG of 16 bits: every filter, against a decoder written by the letter; damage."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from jaxgan.data import png16

RANDOM = np.random.default_rng(0)


def picture(channels, height=9, width=7):
    return RANDOM.integers(0, 65536, (height, width, channels), np.uint16)


def encoded(pixels, kinds, *, colours=2, interlaced=0, extra=()):
    """A file whose rows have these filters, byte by byte as section 9.2 has it."""
    height, width, channels = pixels.shape
    depth = 2 * channels
    raw = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    lines = b""
    for y, kind in enumerate(kinds):
        row = []
        for i, byte in enumerate(raw[y]):
            a = raw[y, i - depth] if i >= depth else 0
            b = raw[y - 1, i] if y else 0
            c = raw[y - 1, i - depth] if y and i >= depth else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row.append((byte - [0, a, b, (a + b) // 2, paeth][kind]) % 256)
        lines += bytes([kind, *row])
    header = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, interlaced)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return png16.SIGNATURE + b"".join(chunks)


@pytest.mark.parametrize(
    "kinds", [[0] * 9, [1] * 9, [2] * 9, [3] * 9, [4] * 9, [4, 1, 3, 2, 0, 4, 4, 1, 3]], ids=str
)
def test_every_filter_is_undone(kinds):
    pixels = picture(3)
    np.testing.assert_array_equal(png16.decode(encoded(pixels, kinds)), pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (300, 2)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read_again(channels, size):
    pixels, file = picture(channels, *size), io.BytesIO()
    png16.encode(file, pixels)
    np.testing.assert_array_equal(png16.decode(file.getvalue()), pixels)
    assert png16.size(file.getvalue()[:32]) == size
    file.seek(0)
    with PIL.Image.open(file) as seen:  # another reader, which keeps the high byte of colours
        seen.load()
        assert seen.size == size[::-1]
        if channels == 3:
            np.testing.assert_array_equal(np.asarray(seen), pixels >> 8)


def test_greys_of_pillow_are_read():
    pixels, file = picture(1)[..., 0], io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format="PNG")
    np.testing.assert_array_equal(png16.decode(file.getvalue())[..., 0], pixels)


def test_a_colour_that_is_declared_transparent_is():
    pixels = picture(3)
    clear = pixels[2, 3].astype(">u2").tobytes()
    made = png16.decode(encoded(pixels, [0] * 9, extra=[(b"tRNS", clear)]))
    np.testing.assert_array_equal(made[..., :3], pixels)
    assert made[2, 3, 3] == 0 and (made[..., 3] == 65535).sum() == 9 * 7 - 1


def test_damage_is_an_error():
    content = encoded(picture(3), [0] * 9)
    for place in (len(content) // 2, len(content) - 13, 20):
        with pytest.raises(OSError, match="damaged PNG"):
            png16.decode(content[:place])
    with pytest.raises(OSError, match="damaged PNG: a checksum"):
        png16.decode(content[:50] + b"xyz" + content[53:])
    with pytest.raises(OSError, match="ends too early"):
        png16.decode(encoded(picture(3), [0] * 5))
    with pytest.raises(OSError, match="interlaced"):
        png16.decode(encoded(picture(3), [0] * 9, interlaced=1))


def test_other_files_have_no_size():
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(file, format="PNG")
    assert png16.size(file.getvalue()) is None and png16.size(b"\xff\xd8") is None
