"""Records of TensorBoard's event files, framed many at a time.

Each is its length, a checksum of that, its bytes, and a checksum of these: CRC-32C, which
tensorboardX computes byte by byte. Here the blocks of all records advance side by side.
"""

import functools
import struct
from collections.abc import Sequence

import numpy as np
from tensorboardX import crc32c, record_writer

BLOCK = 256  # bytes
FEW = 2048  # bytes in all, below which there is nothing to be gained


def frame(records: Sequence[bytes]) -> bytes:
    """Writes records as they stand in a file.

    Args:
      records: of four bytes or more each.

    Returns:
      The bytes of all, one after the other.
    """
    few = sum(map(len, records)) < FEW
    sums = [record_writer.masked_crc32c(x) for x in records] if few else checksums(records)
    parts = []
    for record, checksum in zip(records, sums, strict=True):
        parts += [_header(len(record)), record, struct.pack("<I", checksum)]
    return b"".join(parts)


def checksums(records: Sequence[bytes]) -> list[int]:
    """Computes what `record_writer.masked_crc32c` does, of many records at once.

    Args:
      records: of four bytes or more each.

    Returns:
      One checksum a record.
    """
    counts = [-(-len(record) // BLOCK) for record in records]
    # Zeros in front change nothing once the inverted start is part of the first four bytes.
    padded = bytearray(BLOCK * sum(counts))
    end = 0
    for record, count in zip(records, counts, strict=True):
        end += BLOCK * count
        begin = end - len(record)
        padded[begin:end] = record
        for place in range(begin, begin + 4):
            padded[place] ^= 0xFF
    blocks = np.frombuffer(padded, np.uint8).reshape(-1, BLOCK)
    parts = iter(_advance(np.zeros(len(blocks), np.uint32), blocks).tolist())
    return [_joined([next(parts) for _ in range(count)]) for count in counts]


def _joined(parts: Sequence[int]) -> int:
    """The masked checksum of a record from those of its blocks, each begun at 0."""
    low, second, third, high = _over_a_block()
    register = 0
    for part in parts:
        register = part ^ (
            low[register & 0xFF]
            ^ second[register >> 8 & 0xFF]
            ^ third[register >> 16 & 0xFF]
            ^ high[register >> 24]
        )
    register ^= 0xFFFFFFFF
    return ((register >> 15 | register << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _advance(registers: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Takes each register over its row of bytes."""
    table = np.array(crc32c.CRC_TABLE, np.uint32)
    for column in np.ascontiguousarray(blocks.T):
        registers = table[(registers & 0xFF) ^ column] ^ (registers >> 8)
    return registers


@functools.cache
def _over_a_block() -> list[list[int]]:
    """What a block of zeros makes of a register, for each value of each of its four bytes."""
    values = np.arange(256, dtype=np.uint32)
    zeros = np.zeros((256, BLOCK), np.uint8)
    return [_advance(values << 8 * place, zeros).tolist() for place in range(4)]


@functools.cache
def _header(length: int) -> bytes:
    size = struct.pack("<Q", length)
    return size + struct.pack("<I", record_writer.masked_crc32c(size))
