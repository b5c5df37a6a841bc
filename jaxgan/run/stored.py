"""What a saved item says of its arrays, checked before any of them is read or allocated.

A manifest proves that files are those that were written, not who wrote them: a checkpoint may be a
stranger's. An item is a folder that Orbax wrote: `_METADATA`, a JSON record of the arrays' names,
and an index by tensorstore (OCDBT, a B+tree) of `NAME/.zarray`, each array's shape, dtype and
chunks as JSON, and of the chunks. See https://google.github.io/tensorstore/kvstore/ocdbt/index.html
and https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html.
"""

import itertools
import json
import math
import mmap
import pathlib
import re
import struct
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
import tensorstore as ts

from jaxgan import types
from jaxgan.run import manifest, zstd
from jaxgan.run.manifest import Damaged
from jaxgan.types import PyTree, UserError

Arrays = Mapping[str, Any]  # by dotted path, whatever has a shape and a dtype
MAX_INDEX_BYTES = 2**24  # of a node of the index, unpacked: some 300 for each array
MAX_ZARRAY_BYTES = 2**16
MAX_RANK, MAX_NAME = 32, 200
SHOWN = 5  # leaves named in a message
MAX_ITEMS = 10_000  # of a list or tuple in the state
# Whatever is larger than this in total may be so many times larger than its files, and they so many
# times larger than it: weights hardly pack, and an item is written twice at most.
FREE_BYTES = 2**28
MAX_PACKED, MAX_SPARE = 100, 4
_NODES = re.compile(rb"\x0c\xdb(?:\x3a\x2a|\x20\xde|\x12\x34)")  # manifest, B+tree, version tree
_ARRAYS = ("jax.Array", "np.ndarray", "scalar")


def read(folder: pathlib.Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Reads shapes and dtypes of an item's arrays, after checking that their data are there.

    Args:
      folder: the item, whose files are no links.

    Returns:
      Each array's, by its dotted path.

    Raises:
      Damaged: it is not what jaxgan writes: other formats, files elsewhere, chunks that are missing
        or larger than their array, an index that unpacks to more than it should.
      UserError: nothing can be read at such a path.
    """
    check_path(folder)
    names = _names(manifest.read_json(folder / "_METADATA"))
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size:
            _check_nodes(path)
    # The folder's name ends in a slash: without it, it is a prefix of names beside it, too.
    base = {"driver": "file", "path": f"{folder}/"}
    store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = {key.decode(errors="replace") for key in store.list().result()}
    listed = {key.removesuffix("/.zarray") for key in keys if key.endswith("/.zarray")}
    if listed != names:
        name = min(listed ^ names)
        where = "its index" if name in listed else "_METADATA"
        raise Damaged(f"{types.one_line(name, limit=200)} is in {where} only")
    found = {}
    for name in sorted(names):
        text = store.read(f"{name}/.zarray").result().value
        found[name], chunks = _array(name, text)
        _check_chunks(name, found[name].shape, chunks, keys)
    return found


def check_size(folder: pathlib.Path, arrays: Arrays) -> None:
    """Refuses arrays that are too large for an item's files, or files that are for the arrays.

    Args:
      folder: the item.
      arrays: those that will be read.

    Raises:
      UserError: one of both; the message has both sizes.
    """
    needed = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in arrays.values())
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if needed > max(FREE_BYTES, MAX_PACKED * held) or held > max(FREE_BYTES, MAX_SPARE * needed):
        raise UserError(
            f"{folder} is not read: its files have {held / 1e6:,.1f} MB, its arrays would have "
            f"{needed / 1e6:,.1f} MB, which no checkpoint of jaxgan has"
        )


def leaves(tree: PyTree) -> dict[str, Any]:
    """Names the leaves of a tree as they are stored.

    Args:
      tree: the tree.

    Returns:
      Leaves by dotted path, equal for a tuple and for the list that Orbax stores it as.
    """

    def part(key: Any) -> str:
        return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))

    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(map(part, path)): leaf for path, leaf in flat}


def check_same(stored: Arrays, wanted: Arrays, folder: pathlib.Path) -> None:
    """Refuses another structure, shape or dtype: Orbax would silently cast and pad.

    Args:
      stored: from `read`.
      wanted: what the item is to be.
      folder: the item, for the message.

    Raises:
      UserError: they differ; the message names leaves.
    """

    def form(arrays: Arrays, name: str) -> str:
        leaf = arrays.get(name)
        return "nothing" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"

    names = sorted({*stored, *wanted})
    different = [name for name in names if form(stored, name) != form(wanted, name)]
    if not different:
        return
    shown = "; ".join(
        f"{name} is {form(stored, name)} there, {form(wanted, name)} here"
        for name in different[:SHOWN]
    )
    more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    raise UserError(f"{folder} was saved by another model: {shown}{more}; use another workdir")


def check_path(folder: pathlib.Path) -> None:
    """Refuses a path that tensorstore and Orbax take for another one.

    Args:
      folder: the absolute path of what is to be read.

    Raises:
      UserError: it holds a backslash, which they read as a slash, or "gs:/", as a web address.
    """
    for part in ("\\", "gs:/"):
        if part in str(folder):
            raise UserError(
                f"{folder}: nothing can be read at a path with {part}; rename the folder"
            )


def _names(record: Any) -> set[str]:
    """The paths of the arrays in an item's record."""
    try:
        if record["use_ocdbt"] is not True or record.get("use_zarr3"):
            raise Damaged("_METADATA is of a format that jaxgan does not write")
        return {_path(entry) for entry in record["tree_metadata"].values() if _is_array(entry)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged("_METADATA is not a record of arrays") from error


def _is_array(entry: Any) -> bool:
    """Whether an entry is an array, not an empty dict or the like."""
    value = entry["value_metadata"]
    if value.get("skip_deserialize"):
        return False
    if value["value_type"] not in _ARRAYS:
        raise Damaged(f"_METADATA holds a {value['value_type']!s:.40}, which is no array")
    return True


def _path(entry: Any) -> str:
    """The dotted path of an array."""
    parts = []
    for key in entry["key_metadata"]:
        name = str(key["key"])
        # A number in a list would become the length of it.
        if key["key_type"] == 1 and int(name) >= MAX_ITEMS:
            raise Damaged(f"_METADATA holds a list of more than {MAX_ITEMS} items")
        if not name.isprintable() or len(name) > MAX_NAME:
            raise Damaged("_METADATA holds a name that no array has")
        parts.append(name)
    return ".".join(parts)


def _check_nodes(path: pathlib.Path) -> None:
    """Refuses a file with a node of the index that unpacks to more than it should.

    Nodes begin with a magic number, their length, and a version and a compression of one byte.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _NODES.finditer(data):
            at = match.start()
            if at + 18 > len(data):
                continue
            (length,) = struct.unpack_from("<Q", data, at + 4)
            if not 18 <= length <= len(data) - at:
                continue  # chunks may hold any bytes
            packed = data[at + 13] == 1
            try:
                size = zstd.bound(data[at + 14 : at + length - 4]) if packed else length
            except ValueError as error:
                raise Damaged(f"{path.name}: {error}") from error
            if size > MAX_INDEX_BYTES:
                raise Damaged(
                    f"{path.name} holds an index of {size / 1e6:,.1f} MB, more than any checkpoint"
                )


def _array(name: str, text: bytes) -> tuple[jax.ShapeDtypeStruct, tuple[int, ...]]:
    """Shape and dtype of an array, and the shape of its chunks."""
    try:
        if len(text) > MAX_ZARRAY_BYTES:
            raise ValueError
        said = json.loads(text)
        shape, chunks = (_sizes(said[key]) for key in ("shape", "chunks"))
        if not isinstance(said["dtype"], str):
            raise TypeError
        found = jax.ShapeDtypeStruct(shape, np.dtype(said["dtype"]))
        packed = said["compressor"]
        plain = (said["zarr_format"], said["order"], said.get("filters")) == (2, "C", None)
        if not plain or said.get("dimension_separator", ".") != ".":
            raise ValueError
        if packed is not None and packed["id"] != "zstd":
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError, SyntaxError, RecursionError) as error:
        raise Damaged(f"{name} is stored in a way that jaxgan does not write") from error
    if len(shape) != len(chunks) or any(c > max(1, n) for c, n in zip(chunks, shape, strict=True)):
        raise Damaged(f"{name} of shape {list(shape)} has chunks of {list(chunks)}")
    return found, chunks


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise TypeError
    if not all(type(n) is int and 0 <= n < 2**62 for n in value):
        raise ValueError
    return tuple(value)


def _check_chunks(
    name: str, shape: tuple[int, ...], chunks: tuple[int, ...], keys: Collection[str]
) -> None:
    """Refuses an array of which a part is missing: it would be read as zeros, silently."""
    if 0 in chunks:
        raise Damaged(f"{name} of shape {list(shape)} has chunks of {list(chunks)}")
    counts = [-(-n // chunk) for n, chunk in zip(shape, chunks, strict=True)]
    missing = math.prod(counts) > len(keys) or not all(
        f"{name}/{'.'.join(map(str, index)) or '0'}" in keys
        for index in itertools.product(*map(range, counts))
    )
    if missing:
        raise Damaged(f"a part of {name}, of shape {list(shape)}, is missing")
