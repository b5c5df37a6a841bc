import gzip
import hashlib
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import idx
from jaxgan.types import UserError

IMAGE = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABEL = np.array([7, 0, 9, 1, 3], np.uint8)


def encode(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write(folder, image=IMAGE, label=LABEL, *, prefix="train", pack=True):
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in (("images-idx3", image), ("labels-idx1", label)):
        content = encode(array)
        path = folder / f"{prefix}-{part}-ubyte"
        if pack:
            path, content = path.with_name(path.name + ".gz"), gzipped(content)
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("pack", [True, False])
def test_files_are_read_packed_or_not(tmp_path, pack):
    source = idx.load(write(tmp_path, pack=pack), name="mnist")
    np.testing.assert_array_equal(source.arrays["image"][..., 0], IMAGE)
    np.testing.assert_array_equal(source.arrays["label"], LABEL)
    assert source.image_shape == (3, 4, 1) and source.num_classes == 10


def test_packed_and_plain_files_have_one_fingerprint(tmp_path):
    plain = idx.load(write(tmp_path / "a", pack=False), name="mnist")
    packed = idx.load(write(tmp_path / "b"), name="mnist")
    assert plain.fingerprint == packed.fingerprint


def test_folder_of_the_name_is_found_before_the_folder_itself(tmp_path):
    assert idx.find(tmp_path, "mnist") is None
    assert idx.find(write(tmp_path), "mnist") == tmp_path
    write(tmp_path / "mnist")
    assert idx.find(tmp_path, "mnist") == tmp_path / "mnist"


def test_splits_come_from_their_own_files(tmp_path):
    write(tmp_path)
    write(tmp_path, IMAGE[:2], LABEL[:2], prefix="t10k")
    assert len(idx.load(tmp_path, name="mnist", split="test")) == 2


def test_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="train-labels-idx1-ubyte.gz is missing"):
        idx.load(tmp_path, name="mnist")


def test_counts_that_differ_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds 5 images but train-labels.* 4 labels"):
        idx.load(write(tmp_path, label=LABEL[:4]), name="mnist")


def test_label_outside_its_range_is_named(tmp_path):
    wrong = np.array([7, 0, 10, 1, 3], np.uint8)
    with pytest.raises(UserError, match="labels-idx1.*: label 10 of example 2 is outside 0..9"):
        idx.load(write(tmp_path, label=wrong), name="mnist")


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def gzipped(content):
    return gzip.compress(content, mtime=0)  # one result in every process that collects the tests


RAW, PACKED = encode(IMAGE), gzipped(encode(IMAGE))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "the file is empty"),
        (gzipped(b""), "the file is empty"),
        (b"<html>404</html>", "magic number"),
        (encode(LABEL), "magic number"),
        (RAW[:10], "truncated in its header"),
        (RAW[:-1], "truncated"),
        (RAW[:50], "truncated"),
        (RAW + b"x", "longer than its header says"),
        (gzipped(RAW[:-1]), "truncated"),
        (PACKED[:-12], "truncated"),
        (PACKED[:4], "truncated"),
        (flip(PACKED, -6), "damaged"),
        (flip(PACKED, 20), "damaged|truncated|magic"),
        (encode(IMAGE[:0]), "holds no examples"),
        (RAW[:4] + struct.pack(">3I", 10**6, 100, 100) + RAW[16:], "claims 10,000,000,000 bytes"),
        (
            gzipped(RAW[:4] + struct.pack(">3I", 10**6, 100, 100) + RAW[16:]),
            "claims 10,000,000,000 bytes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_damaged_file_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: .*({words})") as error:
        idx.read_idx(path, ndim=3)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        idx.read_idx(tmp_path / "none", ndim=3)
    with pytest.raises(UserError, match="cannot be read"):
        idx.read_idx(tmp_path, ndim=3)


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"", RAW[:4], RAW[:16], PACKED[:10], PACKED, RAW]),
    rest=st.binary(max_size=64),
    cut=st.integers(0, 80),
    pack=st.booleans(),
)
def test_nothing_but_a_user_error_comes_out_of_any_bytes(start, rest, cut, pack):
    content = (start + rest)[: len(start) + 64 - cut] if cut else start + rest
    with tempfile.NamedTemporaryFile() as file:
        file.write(gzipped(content) if pack else content)
        file.flush()
        try:
            found = idx.read_idx(file.name, ndim=3)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert encode(found) == (content if pack or start == RAW else gzip.decompress(content))


@pytest.fixture
def known(monkeypatch):
    """Takes the labels of these tests, and one packed file of others, for those of two sets."""
    packed = gzipped(encode(LABEL[::-1]))
    digests = {LABEL.tobytes(): "mnist", packed: "kmnist"}
    found = {hashlib.sha256(content).hexdigest(): name for content, name in digests.items()}
    monkeypatch.setattr(idx, "LABEL_DIGESTS", found)


@pytest.mark.parametrize("pack", [True, False])
def test_files_of_one_set_are_not_loaded_as_another(tmp_path, known, pack):
    write(tmp_path, pack=pack)
    assert len(idx.load(tmp_path, name="mnist")) == 5
    with pytest.raises(UserError, match="holds the labels of mnist, not of fashion_mnist; use"):
        idx.load(tmp_path, name="fashion_mnist")


def test_a_set_known_by_its_packed_file_is_not_loaded_as_another(tmp_path, known):
    write(tmp_path, label=LABEL[::-1])
    with pytest.raises(UserError, match="labels of kmnist, not of mnist; use --dataset=kmnist"):
        idx.load(tmp_path, name="mnist")
    assert len(idx.load(tmp_path, name="kmnist")) == 5


def test_files_of_ones_own_may_have_any_name(tmp_path, known):
    write(tmp_path / "a", label=(LABEL + 1) % 10)
    write(tmp_path / "b")
    assert len(idx.load(tmp_path / "a", name="fashion_mnist")) == 5
    assert len(idx.load(tmp_path / "b", name="mine")) == 5


def test_classes_have_the_names_of_the_set(tmp_path):
    write(tmp_path)
    assert idx.load(tmp_path, name="fashion_mnist").class_names[9] == "Ankle boot"
    assert idx.load(tmp_path, name="fashion_mnist", num_classes=12).class_names == ()


@pytest.mark.parametrize("split", ["train", "test"])
def test_real_mnist_and_fashion_mnist_are_told_apart(real_data, split):
    with pytest.raises(UserError, match="holds the labels of mnist, not of fashion_mnist"):
        idx.load(real_data / "mnist", name="fashion_mnist", split=split)
    with pytest.raises(UserError, match="holds the labels of fashion_mnist, not of mnist"):
        idx.load(real_data / "fashion_mnist", name="mnist", split=split)


def test_real_mnist_has_its_known_counts(real_data):
    source = idx.load(real_data / "mnist", name="mnist")
    assert len(source) == 60_000 and source.image_shape == (28, 28, 1)
    # Counts as in table 1 of every account of MNIST.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(source.arrays["label"]), counts)
    assert round(source.arrays["image"].mean() / 255, 4) == 0.1307  # the usual normalisation
