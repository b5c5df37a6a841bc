"""Reads the tensors of a safetensors file, trusting nothing that its header says.

Eight bytes of length, a JSON header of that length, then the tensors' bytes one after the other
(https://github.com/huggingface/safetensors#format). There is nothing to run in it; what can be
wrong is a header that claims what the file does not hold.
"""

import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgan import types
from jaxgan.types import UserError

MAX_HEADER = 2**24  # bytes that describe the tensors; Inception's take about 50,000
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": jnp.bfloat16, "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


class _Entry(NamedTuple):
    """A tensor as the header describes it; it lies at `begin` to `end` of the data."""

    begin: int
    end: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads every tensor of a safetensors file.

    Args:
      path: the file.

    Returns:
      The tensors by name.

    Raises:
      UserError: no such file, or a header that is damaged, unknown, or claims what is not there.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError as error:
        raise UserError(f"{path}: {types.one_line(error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        # Not JSON, not UTF-8, nested without end: all say that it is something else.
        reason = types.one_line(error, limit=100)
        raise UserError(f"{path}: not a safetensors file, or a damaged one ({reason})") from None


def _read(file: Any, size: int) -> dict[str, np.ndarray]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
        raise UserError(f"its header claims {length:,} bytes of a file of {size:,}")
    header = json.loads(file.read(length), object_pairs_hook=_no_twins)
    if not isinstance(header, dict):
        raise UserError("its header is not a table of tensors")
    header.pop("__metadata__", None)
    entries = sorted(_entry(name, value) for name, value in header.items())
    place = 0
    for entry in entries:
        if entry.begin != place:
            raise UserError(
                f'"{_short(entry.name)}" begins at byte {entry.begin:,}, where {place:,} comes'
                " next: tensors overlap or leave a gap"
            )
        place = entry.end
    if place != size - 8 - length:
        raise UserError(f"its tensors take {place:,} bytes, but it holds {size - 8 - length:,}")
    # As large as the file at most: every byte of it belongs to one tensor.
    return {e.name: _array(e, file.read(e.end - e.begin)) for e in entries}


def _short(name: str) -> str:
    """A tensor's name for a message: it may hold anything, and be as long as the header."""
    return types.one_line(name, limit=80)


def _entry(tensor: str, value: Any) -> _Entry:
    """Checks one tensor's description by itself."""
    name = _short(tensor)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise UserError(f'"{name}" is not described by dtype, shape and data_offsets')
    kind, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise UserError(
            f'"{name}" is of the unknown dtype {_short(str(kind))}; known are {", ".join(_DTYPES)}'
        )
    if not _are_counts(shape) or len(shape) > 8 or not _are_counts(offsets) or len(offsets) != 2:
        raise UserError(f'"{name}" has a shape or offsets that are not whole numbers')
    begin, end = offsets
    dtype = np.dtype(_DTYPES[kind])
    claimed = math.prod(shape) * dtype.itemsize
    if end - begin != claimed or max(shape, default=0) > 2**40:
        raise UserError(
            f'"{name}" is {kind}{shape}, {claimed:,} bytes, but lies at {begin:,} to {end:,}'
        )
    return _Entry(begin, end, tensor, dtype, tuple(shape))


def _array(entry: _Entry, block: bytes) -> np.ndarray:
    if len(block) != entry.end - entry.begin:
        raise UserError(f'ends within "{_short(entry.name)}"')
    return np.frombuffer(block, entry.dtype).reshape(entry.shape)


def _are_counts(values: Any) -> bool:
    """Whether these are whole numbers from 0; JSON's true is none."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise UserError("its header names something twice")
    return dict(pairs)
