import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from jaxgan.metrics import torch_file
from jaxgan.types import UserError
from tests.metrics import references

FILES = ["tiny.pth", "tiny_legacy.pth"]


@pytest.mark.parametrize("name", FILES)
def test_tensors_that_torch_saved_are_read_bit_for_bit(name):
    state = torch_file.read(references.FOLDER / name)
    expected = references.tiny_state()
    assert list(state) == list(expected)
    for key, array in expected.items():
        assert state[key].dtype == array.dtype
        np.testing.assert_array_equal(state[key], array)


class Evil:
    """Makes a pickle that runs a command where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_zip(path, pickled):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_in_a_file_is_not_run(tmp_path, protocol):
    target = tmp_path / "proof"
    pickled = pickle.dumps({"weight": Evil(target)}, protocol)
    as_zip(tmp_path / "evil.pth", pickled)
    (tmp_path / "evil_legacy.pth").write_bytes(pickled)
    for name in ("evil.pth", "evil_legacy.pth"):
        with pytest.raises(UserError, match=name):
            torch_file.read(tmp_path / name)
    assert not target.exists()
    pickle.loads(pickled)
    assert target.exists()  # it would have run


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"weight": 3}, 'holds "weight", which is not a tensor'),
        ({3: 3}, "keys that are not text"),
        ({}, "no dict of tensors"),
        ([1, 2], "no dict of tensors"),
        (collections.OrderedDict(epoch=1), 'holds "epoch"'),
        ({"set": {1}}, "tensors do not need|calls"),
    ],
)
def test_files_of_other_things_are_refused(tmp_path, value, message):
    as_zip(tmp_path / "other.pth", pickle.dumps(value, 2))
    with pytest.raises(UserError, match=message):
        torch_file.read(tmp_path / "other.pth")


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_noticed(tmp_path, name):
    whole = (references.FOLDER / name).read_bytes()
    for length in range(0, len(whole) - 1, 53):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pth"):
            torch_file.read(tmp_path / "cut.pth")


def test_a_damaged_byte_never_ends_in_a_traceback(tmp_path):
    whole = (references.FOLDER / "tiny_legacy.pth").read_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x15
        (tmp_path / "bad.pth").write_bytes(damaged)
        try:
            torch_file.read(tmp_path / "bad.pth")
        except UserError:
            pass


def test_a_tensor_cannot_reach_outside_of_its_storage(tmp_path):
    with zipfile.ZipFile(references.FOLDER / "tiny.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = next(name for name in members if name.endswith("data.pkl"))
    shape = b"K\x04K\x03K\x02K\x02t"  # (4, 3, 2, 2)
    assert shape in members[index]
    members[index] = members[index].replace(shape, b"K\x04K\x03K\x09K\x09t")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (tmp_path / "wide.pth").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="outside of its storage"):
        torch_file.read(tmp_path / "wide.pth")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        torch_file.read(tmp_path / "none.pth")
