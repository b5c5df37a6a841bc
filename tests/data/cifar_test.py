"""CIFAR-10's own files: both versions, packed and not, and what is wrong with them in one line."""

import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import cifar, registry
from jaxgan.types import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 32, 32, 3), np.uint8)
LABELS = np.arange(12) % 10


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", 2)


def _write(folder, version):
    """Two images in each of the six files."""
    folder.mkdir(parents=True)
    names = [*version.files["train"], *version.files["test"]]
    for number, name in enumerate(names):
        part = slice(2 * number, 2 * number + 2)
        pixels = IMAGES[part].transpose(0, 3, 1, 2).reshape(2, -1)
        if version is cifar.BINARY:
            rows = np.concatenate([LABELS[part, None].astype(np.uint8), pixels], axis=1)
            (folder / name).write_bytes(rows.tobytes())
        else:
            (folder / name).write_bytes(_as_python_2(pixels, LABELS[part]))
    return folder


def test_an_array_laid_out_by_columns_is_read_as_such():
    pixels = IMAGES[:2].transpose(0, 3, 1, 2).reshape(2, -1)
    by_columns = pickle.dumps({b"labels": [3, 4], b"data": np.asfortranarray(pixels)}, protocol=4)
    found, label = cifar._read_python(by_columns, "a file")
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(label, [3, 4])


def _as_python_2(pixels, labels):
    """The pickle of {"labels": [...], "data": array} as Python 2, whose text is bytes, wrote it."""
    listed = b"".join(b"K" + bytes([label]) for label in labels)
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"K" + bytes([len(pixels)]) + b"M\x00\x0c\x86"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff"
    content = b"\x89T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    state = b"(K\x01" + shape + kind + b"K\x00tb" + content + b"tb"
    return b"\x80\x02}(U\x06labels](" + listed + b"eU\x04data" + array + state + b"u."


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize("version", [cifar.BINARY, cifar.PYTHON], ids=["binary", "python"])
def test_both_versions_are_read_where_they_lie(tmp_path, version, packed):
    folder = _write(tmp_path / "cifar10" / version.folder, version)
    if packed:
        with tarfile.open(folder.parent / version.archive, "w:gz") as archive:
            archive.add(folder, arcname=version.folder)
        shutil.rmtree(folder)
    for split, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        source = data.load("cifar10", data_dir=str(tmp_path), split=split)
        np.testing.assert_array_equal(source[np.arange(len(source))]["image"], IMAGES[part])
        np.testing.assert_array_equal(source[np.arange(len(source))]["label"], LABELS[part])
        assert source.num_classes == 10 and source.class_names[9] == "truck"
    assert not registry.needs_tfds("cifar10", str(tmp_path))
    assert registry.needs_tfds("cifar10", "") and registry.needs_tfds("cifar10", str(folder / "x"))


def _cut(folder):
    path = folder / cifar.BINARY.files["train"][3]
    path.write_bytes(path.read_bytes()[:-1])


def _short(folder):
    path = folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:3073])


def _missing(folder):
    (folder / "data_batch_2.bin").unlink()


def _label(folder):
    path = folder / "data_batch_5.bin"
    path.write_bytes(b"\x0c" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_cut, r"data_batch_4.bin: 6,145 bytes are not whole records"),
        (_short, r"data_batch_3.bin: 1 images, not 2: truncated"),
        (_missing, r"data_batch_2.bin is missing"),
        (_label, r"label 12 .*0\.\.9"),
    ],
    ids=["cut", "short", "missing", "label"],
)
def test_damaged_binary_files_are_one_line(tmp_path, damage, words):
    damage(_write(tmp_path / "data", cifar.BINARY))
    with pytest.raises(UserError, match=words) as caught:
        data.load("cifar10", data_dir=str(tmp_path / "data"))
    assert "\n" not in str(caught.value)


class _Harmful:
    """Runs a command when it is unpickled by Python's own unpickler."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return shutil.rmtree, (self.target,)


def test_a_pickle_runs_nothing_whatever_it_names(tmp_path):
    folder, kept = _write(tmp_path / "data", cifar.PYTHON), tmp_path / "kept"
    kept.mkdir()
    path = folder / "data_batch_1"
    path.write_bytes(pickle.dumps([_Harmful(str(kept))], protocol=2))
    with pytest.raises(UserError, match=r"data_batch_1: holds no images"):
        data.load("cifar10", data_dir=str(folder))
    assert kept.exists()
    text = pickle.dumps({"data": "\u0416" * (2 * 3072), "labels": [1, 2]}, 2)
    wrong = (b"", b"\x80\x02}", pickle.dumps([1]), pickle.dumps({b"data": 1, b"labels": 2}), text)
    for content in wrong:
        path.write_bytes(content)
        with pytest.raises(UserError, match="data_batch_1: .* use the official") as caught:
            data.load("cifar10", data_dir=str(folder))
        assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_one_line(tmp_path):
    path = tmp_path / cifar.BINARY.archive
    path.write_bytes(b"\x1f\x8bnot an archive")
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz: cannot be unpacked") as caught:
        data.load("cifar10", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, arcname="other")
    with pytest.raises(UserError, match=r"holds no cifar-10-batches-bin/data_batch_1.bin"):
        data.load("cifar10", data_dir=str(tmp_path))
