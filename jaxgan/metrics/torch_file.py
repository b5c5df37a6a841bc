"""Reads the tensors of a PyTorch file without running the pickle in it.

A `.pth` file is a pickle, that is a program, and loading it the usual way runs whatever it says.
Here the opcodes that dicts of tensors are made of are interpreted one by one, and the only names
known are those of tensors and their storages: anything else ends in an error.
"""

import io
import math
import os
import pathlib
import pickletools
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

from jaxgan import types
from jaxgan.types import UserError

MAX_PICKLE = 2**24  # bytes that describe the tensors; Inception's are about 100,000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}  # fmt: skip
_CONSTANTS = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (),
    "EMPTY_DICT": dict, "EMPTY_LIST": list,
}  # fmt: skip
_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
)  # fmt: skip


class _Name(NamedTuple):
    """A global that the pickle mentions; never looked up."""

    module: str
    name: str


class _Storage(NamedTuple):
    """A block of numbers elsewhere in the file."""

    dtype: np.dtype
    key: str
    size: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote, in its zip format or in the one before it.

    Args:
      path: the file.

    Returns:
      The tensors by name.

    Raises:
      UserError: no such file, damaged, or holding anything but tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path, held=path.stat().st_size)
        with path.open("rb") as file:
            return _read_legacy(file)
    except UserError as error:
        raise UserError(f"{path}: {types.one_line(error)}") from None
    except Exception as error:
        # A damaged pickle can go wrong in as many ways as it has opcodes.
        raise UserError(
            f"{path}: not a PyTorch file of tensors, or a damaged one"
            f" ({types.one_line(f'{type(error).__name__}: {error}', limit=100)})"
        ) from None


def _read_zip(path: pathlib.Path, *, held: int) -> dict[str, np.ndarray]:
    """Reads the zip format; the file holds `held` bytes, whatever its members claim."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise UserError("is compressed, which torch.save never does")
            if not member.file_size == member.compress_size <= held:
                raise UserError("has a member that claims more bytes than there are")
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        if archive.getinfo(index).file_size > MAX_PICKLE:
            raise UserError("its index is larger than that of any state dict")
        root = index.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.open(order).read(8) != b"little":
            raise UserError("holds big-endian numbers; save it on another machine")
        tensors = _tensors(_interpret(io.BytesIO(archive.read(index))))
        blocks = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            member = archive.getinfo(f"{root}data/{storage.key}")
            _check_size(storage, member.file_size)
            blocks[storage.key] = archive.read(member)
    return {name: _array(tensor, blocks[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_legacy(file) -> dict[str, np.ndarray]:
    """Pickles of magic, version, system, tensors and keys; then the storages in the keys' order."""
    held = os.fstat(file.fileno()).st_size
    # In memory, where an opcode that claims gigabytes gets what there is, and no buffer for it.
    head = io.BytesIO(file.read(min(held, MAX_PICKLE)))
    if _interpret(head) != _LEGACY_MAGIC:
        raise UserError("not a PyTorch file")
    _version, _system = _interpret(head), _interpret(head)
    tensors, keys = _tensors(_interpret(head)), _interpret(head)
    file.seek(head.tell())
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    rest = held - head.tell()
    blocks = {}
    for key in keys:
        (size,) = struct.unpack("<q", file.read(8))
        rest -= 8
        length = size * storages[key].dtype.itemsize
        _check_size(storages[key], length)
        if not 0 <= length <= rest:
            raise UserError("ends too early")
        blocks[key] = file.read(length)
        rest -= length
    return {name: _array(tensor, blocks[tensor.storage.key]) for name, tensor in tensors.items()}


def _check_size(storage: _Storage, length: int) -> None:
    if length != storage.size * storage.dtype.itemsize:
        raise UserError(f"storage {storage.key} claims {storage.size} numbers, has {length} bytes")


def _array(tensor: _Tensor, block: bytes) -> np.ndarray:
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((length - 1) * stride for length, stride in steps)
    counts = (tensor.offset, *tensor.shape, *tensor.strides)
    fits = len(tensor.shape) <= 8 and math.prod(tensor.shape) <= tensor.storage.size
    if min(counts) < 0 or last >= tensor.storage.size or not fits:
        raise UserError("a tensor lies outside of its storage")
    # A view beyond the block would read whatever lies behind it in memory.
    _check_size(tensor.storage, len(block))
    numbers = np.frombuffer(block, tensor.storage.dtype)[tensor.offset :]
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _tensors(root: Any) -> dict[str, _Tensor]:
    """Checks that the pickle made a dict of tensors, and nothing else."""
    if not isinstance(root, dict) or not root:
        raise UserError("holds no dict of tensors; save a state_dict")
    for name, value in root.items():
        if not isinstance(value, _Tensor):
            raise UserError(f'holds "{name}", which is not a tensor; save a state_dict')
    return root


def _interpret(file) -> Any:
    """Runs one pickle on a stack, as far as it consists of the opcodes of tensors and dicts."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    argument: Any
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if number > MAX_PICKLE:
            raise UserError("its pickle is longer than that of any state dict")
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            value = _CONSTANTS[name]
            stack.append(value() if callable(value) else value)
        elif name == "GLOBAL":
            stack.append(_Name(*argument.split(" ", 1)))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # the state of an OrderedDict: versions of modules, of no use here
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            if not all(type(key) is str for key in items[::2]):  # others can be slow to hash
                raise UserError("its pickle has keys that are not text")
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise UserError(f"its pickle uses {name}, which tensors do not need; not read")
    raise UserError("its pickle has no end")


def _call(function: Any, arguments: tuple) -> Any:
    """The three calls that state dicts are made of."""
    if function == _Name("collections", "OrderedDict") and not arguments:
        return {}
    if function == _Name("torch._utils", "_rebuild_tensor_v2"):
        return _tensor(*arguments[:4])
    if function == _Name("torch._utils", "_rebuild_parameter") and arguments:
        return arguments[0]
    known = isinstance(function, _Name)
    called = f"{function.module}.{function.name}" if known else type(function).__name__
    raise UserError(f"its pickle calls {called}, which is not part of a state dict; not run")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    whole = all(type(number) is int for number in (offset, *shape, *strides))
    if not isinstance(storage, _Storage) or not whole:
        raise UserError("describes a tensor in an unknown way")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _storage(reference: Any) -> _Storage:
    """Reads ("storage", type, key, location, size, ...)."""
    tag, kind, key, _, size = reference[:5]
    view = reference[5] if len(reference) > 5 else None
    known = isinstance(kind, _Name) and kind.module == "torch" and kind.name in _DTYPES
    if tag != "storage" or not known or view is not None or type(size) is not int or size < 0:
        raise UserError("holds an unknown kind of storage; only plain numbers are read")
    if type(key) is not str:  # tuples that hold each other twice make a text without end
        raise UserError("names a storage in an unknown way")
    return _Storage(np.dtype(_DTYPES[kind.name]), key, size)
