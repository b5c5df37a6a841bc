import io
import tempfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import arrays
from jaxgan.types import UserError

IMAGE = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
LABEL = np.array([0, 1, 2, 0, 1, 2])


def write(path, **members):
    np.savez(path, **members)
    return path


def test_int_gives_one_example_and_array_a_batch():
    source = arrays.ArraySource({"image": IMAGE, "label": LABEL}, name="six", num_classes=3)
    assert len(source) == 6 and source.image_shape == (4, 5, 3)
    np.testing.assert_array_equal(source[2]["image"], IMAGE[2])
    batch = source[np.array([5, 0])]
    np.testing.assert_array_equal(batch["image"], IMAGE[[5, 0]])
    np.testing.assert_array_equal(batch["label"], [2, 0])
    assert batch["label"].dtype == np.int32


def test_fingerprint_tells_one_changed_pixel():
    changed = IMAGE.copy()
    changed[3, 2, 1, 0] += 1
    prints = [arrays.ArraySource({"image": x}, name="n").fingerprint for x in (IMAGE, IMAGE.copy())]
    assert prints[0] == prints[1]
    assert prints[0] != arrays.ArraySource({"image": changed}, name="n").fingerprint


@pytest.mark.parametrize(
    "found, words",
    [
        ({"image": IMAGE[:0]}, "holds no images"),
        ({"image": IMAGE.astype(np.float32)}, "float32"),
        ({"image": IMAGE[0]}, r"\[4, 5, 3\]"),
        ({"image": IMAGE, "label": LABEL[:5]}, '6 images but 5 of "label"'),
        ({"image": IMAGE, "label": LABEL + 1}, "label 3 of example 2 is outside 0..2"),
        ({"image": IMAGE, "label": LABEL - 1}, "label -1 of example 0"),
        ({"image": IMAGE, "label": np.eye(3)[LABEL]}, "argmax of one-hot"),
        ({"image": IMAGE, "label": LABEL / 2}, "float64"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(found, words):
    with pytest.raises(UserError, match=words):
        arrays.ArraySource(found, name="wrong", num_classes=3)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_npz_round_trip(tmp_path, writer):
    writer(tmp_path / "a.npz", image=np.asfortranarray(IMAGE), label=LABEL, extra=np.ones(2))
    source = arrays.load_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.arrays["image"], IMAGE)
    np.testing.assert_array_equal(source.arrays["label"], LABEL)
    assert source.num_classes == 3


def test_npz_of_keras_has_two_splits(tmp_path):
    path = write(
        tmp_path / "a.npz", x_train=IMAGE[..., 0], y_train=LABEL, x_test=IMAGE[:2], y_test=LABEL[:2]
    )
    assert arrays.load_npz(path).image_shape == (4, 5, 1)
    assert len(arrays.load_npz(path, split="test")) == 2


def test_stated_number_of_classes_wins(tmp_path):
    path = write(tmp_path / "a.npz", image=IMAGE, label=LABEL, num_classes=7)
    assert arrays.load_npz(path).num_classes == 7


@pytest.mark.parametrize("dtype", ["<U9", ">U9"])
def test_class_names_of_an_npz_are_kept_and_tell_how_many_classes(tmp_path, dtype):
    names = np.array(["cat", "dog", "o\nwl", "never"], dtype)
    source = arrays.load_npz(write(tmp_path / "a.npz", image=IMAGE, label=LABEL, class_names=names))
    assert source.num_classes == 4 and source.class_names == ("cat", "dog", "o wl", "never")
    plain = arrays.load_npz(write(tmp_path / "b.npz", image=IMAGE, label=LABEL))
    assert plain.class_names == () and plain.fingerprint == source.fingerprint


def test_npz_without_labels_has_no_classes(tmp_path):
    source = arrays.load_npz(write(tmp_path / "a.npz", images=IMAGE))
    assert source.num_classes == 0 and set(source[0]) == {"image"}


@pytest.mark.parametrize(
    "members, words",
    [
        ({"pictures": IMAGE}, "no array named image .* found pictures"),
        ({"image": np.array([object()], dtype=object)}, "pickled objects never"),
        ({"image": IMAGE, "label": np.array(["a"] * 6)}, "<U1"),
        ({"image": IMAGE * 1.0}, r"float64 images range over 0..255"),
        ({"image": np.where(IMAGE == 200, np.nan, 0.5)}, "image 3 holds NaN .*1 such"),
        ({"image": IMAGE.astype(np.int64) - 1}, "int64 images range over -1..254"),
        ({"image": IMAGE, "label": LABEL[:5]}, "6 images but 5"),
        ({"image": IMAGE, "label": np.array([0, 1, 2, 0, 1, 999_999])}, "label 999999"),
        ({"image": IMAGE, "label": LABEL, "num_classes": 2}, "label 2 of example 2 is outside"),
        ({"image": IMAGE, "label": LABEL, "num_classes": 0}, "one positive integer"),
        ({"image": np.moveaxis(IMAGE, -1, 1)}, "C of 1 or 3"),
        ({"image": IMAGE, "label": LABEL, "class_names": np.arange(3)}, r"class_names is int64"),
        ({"image": IMAGE, "label": LABEL, "class_names": np.array("a")}, r"need one text a class"),
        ({"image": IMAGE, "label": LABEL, "class_names": np.array(["a"])}, "label 1 of example 1"),
        (
            {"image": IMAGE, "label": LABEL, "class_names": np.array(["a"]), "num_classes": 3},
            "1 class names for 3 classes",
        ),
        (
            {
                "image": IMAGE,
                "label": LABEL,
                "class_names": np.full(3, 2**31, np.uint32).view("<U1"),
            },
            "holds no text, or is damaged",
        ),
    ],
)
def test_npz_of_wrong_content_is_refused_by_name(tmp_path, members, words):
    with pytest.raises(UserError, match=f"a.npz: .*{words}") as error:
        arrays.load_npz(write(tmp_path / "a.npz", **members))
    assert "\n" not in str(error.value)


def claim(path, shape):
    """Writes an npz whose header claims a shape, over 12 bytes of content."""
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(12))
    return path


@pytest.mark.parametrize("shape", [(10**10,), (2**40, 2**40), (13,), (11,), (-12,), (3, -4)])
def test_header_that_claims_another_size_is_refused_before_allocating(tmp_path, shape):
    with pytest.raises(UserError, match="claims shape"):
        arrays.read_npz(claim(tmp_path / "a.npz", shape))


def test_zip_that_claims_another_size_is_refused_before_allocating(tmp_path):
    path = claim(tmp_path / "a.npz", (12,))
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = (3 * 10**9).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match="claims more bytes than it can hold"):
        arrays.read_npz(path)


def test_member_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="use a folder of images"):
        arrays.read_npz(write(tmp_path / "a.npz", image=IMAGE))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04"])
def test_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="a.npz: not an npz file"):
        arrays.load_npz(tmp_path / "a.npz")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        arrays.load_npz(tmp_path / "none.npz")
    with pytest.raises(UserError, match="cannot be read"):
        arrays.load_npz(tmp_path)


def packed(writer):
    stream = io.BytesIO()
    writer(stream, image=IMAGE, label=LABEL)
    return stream.getvalue()


VALID = [packed(np.savez), packed(np.savez_compressed)]


def read_bytes(content):
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        return arrays.load_npz(file.name)


def test_every_flipped_byte_of_the_pixels_is_found():
    content = bytearray(VALID[0])
    start = content.index(IMAGE.tobytes())
    for at in range(start, start + IMAGE.size, 37):
        content[at] ^= 1
        with pytest.raises(UserError, match="CRC"):
            read_bytes(content)
        content[at] ^= 1
    assert len(read_bytes(content)) == 6


@settings(max_examples=200, deadline=None)
@given(
    valid=st.sampled_from(VALID),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    length=st.one_of(st.none(), st.integers(0, 5000)),
)
def test_nothing_but_a_user_error_comes_out_of_a_damaged_npz(valid, changes, length):
    content = bytearray(valid)
    for at, value in changes:
        content[at % len(content)] = value
    try:
        source = read_bytes(content[:length])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert source.arrays["image"].dtype == np.uint8


@settings(max_examples=100, deadline=None)
@given(header=st.one_of(st.text(), st.sampled_from(["{'descr': 'O'}", "((((", "{'shape': ()}"])))
def test_nothing_but_a_user_error_comes_out_of_a_made_up_header(header):
    text = header.encode(errors="replace")[:60000]
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.npy", member)
    with pytest.raises(UserError):
        read_bytes(stream.getvalue())
