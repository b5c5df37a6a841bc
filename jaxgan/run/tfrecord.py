"""Records of TensorBoard's event files, as TensorFlow frames them.

See https://www.tensorflow.org/tutorials/load_data/tfrecord. tensorboardX computes the checksums in
Python, byte by byte: half a minute for the log of a long run.
"""

import struct
from collections.abc import Sequence

import google_crc32c


def frame(records: Sequence[bytes]) -> bytes:
    """Writes records as they stand in a file.

    Args:
      records: of any length.

    Returns:
      The bytes of all: of each its length, a checksum of that, itself, and a checksum of it.
    """
    parts = []
    for record in records:
        size = struct.pack("<Q", len(record))
        parts += [size, _checksum(size), record, _checksum(record)]
    return b"".join(parts)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted: that of data with checksums in them is no special case."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
