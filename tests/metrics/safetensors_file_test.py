"""Safetensors files: what a header may say, and everything that it may not."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import safetensors_file
from jaxgan.types import UserError


def packed(header, data=b"", *, length=None):
    """A file's bytes, of a header as a table or as text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(begin, end, *, shape=None, dtype="U8"):
    shape = [end - begin] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    return safetensors_file.read(path)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *(("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", jnp.bfloat16)),
        *(("I64", "<i8"), ("I32", "<i4"), ("U8", "u1"), ("BOOL", "?")),
    ],
)
def test_tensors_come_back_bit_for_bit(tmp_path, kind, dtype):
    # Written by hand after the format's description; the header lists them in another order.
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    size = array.nbytes
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor(size, 2 * size, shape=[4, 3], dtype=kind),
        "a": tensor(0, size, shape=[3, 4], dtype=kind),
        "scalar": tensor(2 * size, 2 * size + 1, shape=[]),
        "empty": tensor(2 * size + 1, 2 * size + 1, shape=[0, 7]),
    }
    text = json.dumps(header).encode() + b"   "  # writers pad the header with spaces
    found = read(tmp_path, packed(text, array.tobytes() + array.T.tobytes() + b"\x07"))
    assert found["a"].dtype == array.dtype and found["scalar"] == 7
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["b"], array.T)
    assert found["empty"].shape == (0, 7) and set(found) == {"a", "b", "scalar", "empty"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "claims 0 bytes of a file of 0"),
        (b"\x01\x02", "claims 513 bytes of a file of 2"),
        (packed({}, length=3), "not a safetensors file|claims 3 bytes"),
        (packed({}, length=2**62), "claims 4,611,686,018,427,387,904 bytes of a file of 10"),
        (packed(b"<html></html>"), "not a safetensors file"),
        (packed(b"\xff\xfe\xfd"), "not a safetensors file"),
        (packed(b"[" * 5000), "not a safetensors file"),
        (packed(b"[]"), "not a table of tensors"),
        (packed(b'{"a": 1, "a": 2}'), "names something twice"),
        (packed({"a": 1}), '"a" is not described by'),
        (packed({"a": {**tensor(0, 1), "code": "x"}}, b"1"), '"a" is not described by'),
        (packed({"a": tensor(0, 1, dtype="F8_E4M3")}, b"1"), "the unknown dtype F8_E4M3; known"),
        (packed({"a": tensor(0, 1, dtype=["U8"])}, b"1"), "the unknown dtype"),
        (packed({"a": tensor(0, 1, shape=[-1])}, b"1"), "not whole numbers"),
        (packed({"a": tensor(0, 1, shape=[1.0])}, b"1"), "not whole numbers"),
        (packed({"a": tensor(0, 1, shape=[True])}, b"1"), "not whole numbers"),
        (packed({"a": tensor(0, 1, shape=[1] * 99)}, b"1"), "not whole numbers"),
        (packed({"a": tensor(0, 8, shape=[8], dtype="F32")}, b"8" * 8), "32 bytes, but lies at"),
        (packed({"a": tensor(4, 2)}, b"1234"), "not whole numbers|lies at 4 to 2"),
        (packed({"a": tensor(0, 0, shape=[0, 2**50])}), "lies at 0 to 0"),
        (packed({"a": tensor(0, 3), "b": tensor(2, 4)}, b"1234"), "overlap or leave a gap"),
        (packed({"a": tensor(0, 1), "b": tensor(2, 4)}, b"1234"), "overlap or leave a gap"),
        (packed({"a": tensor(0, 9)}, b"1234"), "take 9 bytes, but it holds 4"),
        (packed({"a": tensor(0, 2)}, b"1234"), "take 2 bytes, but it holds 4"),
        (packed({"a": tensor(0, 2**60)}, b"1234"), "lies at|but it holds 4"),
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    text = str(error.value)
    assert "\n" not in text and "net.safetensors: " in text


def test_a_header_of_any_length_is_not_read_whole(tmp_path):
    path = tmp_path / "long.safetensors"
    with path.open("wb") as file:
        file.write((2**33).to_bytes(8, "little"))
        file.truncate(2**34)  # a hole: takes no space
    with pytest.raises(UserError, match="claims 8,589,934,592 bytes"):
        safetensors_file.read(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        safetensors_file.read(tmp_path / "none.safetensors")
