"""How much a Zstandard stream can hold, from the headers of its blocks: nothing is unpacked.

See "Zstandard Compression and the 'application/zstd' Media Type", RFC 8878
(https://www.rfc-editor.org/rfc/rfc8878), section 3.1.1. A few bytes may stand for gigabytes, and
the size that a frame states of itself need not be true.
"""

import struct

MAX_BLOCK = 2**17  # bytes that a compressed block unpacks to, at most
_MAGIC = 0xFD2FB528
_SKIPPED = 0x184D2A50  # the first of sixteen
_RAW, _REPEATED, _COMPRESSED = range(3)


def bound(data: bytes) -> int:
    """Bounds the size of what frames unpack to.

    Args:
      data: the frames, whole.

    Returns:
      Bytes; what is true may be less by `MAX_BLOCK` a block.

    Raises:
      ValueError: they are not such frames, or cut off.
    """
    at = total = 0
    try:
        while at < len(data):
            at, size = _frame(data, at)
            total += size
    except (IndexError, struct.error):
        raise ValueError("its packed data are cut off") from None
    if at > len(data):
        raise ValueError("its packed data are cut off")
    return total


def _frame(data: bytes, at: int) -> tuple[int, int]:
    """Where a frame ends, and how much its blocks hold at most."""
    (magic,) = struct.unpack_from("<I", data, at)
    if _SKIPPED <= magic < _SKIPPED + 16:
        return at + 8 + struct.unpack_from("<I", data, at + 4)[0], 0
    if magic != _MAGIC:
        raise ValueError("its packed data are of an unknown kind")
    descriptor = data[at + 4]
    single, has_digest = descriptor >> 5 & 1, descriptor >> 2 & 1
    stated = (single, 2, 4, 8)[descriptor >> 6]
    at += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + stated
    last, total = False, 0
    while not last:
        header = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind > _COMPRESSED:
            raise ValueError("its packed data are damaged")
        total += MAX_BLOCK if kind == _COMPRESSED else size
        at += 3 + (1 if kind == _REPEATED else size)
    return at + 4 * has_digest, total
