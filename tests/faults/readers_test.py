"""Readers of files that anybody may have made: any bytes give what is asked for or a UserError.

The same for idx and npz files of damaged bytes is in tests/data/idx_test.py and arrays_test.py, and
for flagfiles in flags_test.py.
"""

import bz2
import io
import json
import pathlib
import pickle
import struct
import tempfile
import tracemalloc
import zipfile

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from jaxgan.data import arrays, folder, labels, pixels
from jaxgan.metrics import safetensors_file, torch_file, weights
from jaxgan.types import UserError
from tests.metrics import references

DAMAGE = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8
)  # places, and what to write there


def damaged(content, changes, length=None):
    """Some bytes changed, and the rest cut off."""
    found = bytearray(content)
    for at, value in changes:
        found[at % len(found)] = value
    return bytes(found[:length])


def outcome(reader, content, *, suffix=""):
    """What a reader makes of a file's content; None where it refuses it, in one line."""
    with tempfile.TemporaryDirectory() as root:
        path = pathlib.Path(root) / f"file{suffix}"
        path.write_bytes(content)
        try:
            return reader(path)
        except UserError as error:
            text = str(error).replace(root, "")
            assert "\n" not in text and len(text) < 1000 and text.isprintable(), text
            return None


# --- npz ---


ANY_ARRAY = st_numpy.arrays(
    st.one_of(
        st_numpy.boolean_dtypes(),
        st_numpy.integer_dtypes(),
        st_numpy.unsigned_integer_dtypes(),
        st_numpy.floating_dtypes(),
        st_numpy.complex_number_dtypes(),
        st_numpy.byte_string_dtypes(),
        st_numpy.unicode_string_dtypes(),
        st_numpy.datetime64_dtypes(),
    ),
    st_numpy.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)


@settings(max_examples=100, deadline=None)
@given(
    members=st.dictionaries(
        st.sampled_from(["image", "label", "num_classes", "class_names", "x_train", "test_image"]),
        ANY_ARRAY,
    )
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_arrays_of_any_kind_in_an_npz_make_a_dataset_or_one_line(members):
    stream = io.BytesIO()
    np.savez(stream, **members)
    source = outcome(arrays.load_npz, stream.getvalue(), suffix=".npz")
    if source is not None:
        assert source.arrays["image"].dtype == np.uint8 and len(source.image_shape) == 3
        label = source.arrays.get("label", np.zeros(1, np.int32))
        assert label.min() >= 0 and label.max() < max(1, source.num_classes)


# --- images ---


def picture(kind, mode="RGB"):
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
    image = PIL.Image.fromarray(values).convert(mode)
    exif = PIL.Image.Exif()
    exif[pixels.EXIF_ORIENTATION] = 6
    image.save(stream, kind, **({"exif": exif} if kind in ("PNG", "JPEG") else {}))
    return stream.getvalue()


PICTURES = {
    "png": picture("PNG"),
    "png with alpha": picture("PNG", "RGBA"),
    "png palette": picture("PNG", "P"),
    "jpeg": picture("JPEG"),
    "jpeg cmyk": picture("JPEG", "CMYK"),
    "gif": picture("GIF", "P"),
    "bmp": picture("BMP"),
    "tiff": picture("TIFF"),
    "ppm": picture("PPM"),
    "webp": picture("WEBP"),
}


@pytest.fixture
def few_pixels(monkeypatch):
    """Refuses what a header of a few changed bytes makes larger than a test has time for."""
    monkeypatch.setattr(pixels, "MAX_PIXELS", 10_000)


@pytest.mark.filterwarnings("ignore")  # Pillow tells of damage in its own words
@pytest.mark.parametrize("kind", PICTURES)
def test_any_bytes_of_an_image_are_decoded_or_skipped(kind, few_pixels):
    @settings(max_examples=40, deadline=None)
    @given(changes=DAMAGE, length=st.one_of(st.none(), st.integers(0, len(PICTURES[kind]))))
    def check(changes, length):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root)
            (path / "good.png").write_bytes(PICTURES["png"])
            (path / "a.png").write_bytes(damaged(PICTURES[kind], changes, length))
            source = folder.load(root, image_size=5, channels=3)
            assert source.arrays["image"].shape in ((1, 5, 5, 3), (2, 5, 5, 3))

    check()


# --- labels of a folder ---


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
CELL = st.sampled_from(
    ["a.png", "b.png", "label", "file", "1", "-1", "cat", '"', ",", ",", "\n", "\n", "\0", "\ud800"]
)
PAIRS = st.lists(st.one_of(JSON, st.tuples(st.sampled_from(["a.png", "b.png", "x"]), JSON)))


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=40),
        JSON.map(lambda x: json.dumps(x).encode()),
        PAIRS.map(lambda x: json.dumps({"labels": x}).encode()),
        st.lists(CELL).map(lambda x: ("file,label\n" + "".join(x)).encode(errors="surrogatepass")),
    ),
    suffix=st.sampled_from([".json", ".csv"]),
)
def test_any_bytes_of_a_file_of_labels_give_labels_or_one_line(content, suffix):
    found = outcome(lambda path: labels.read(path, ["a.png", "b.png"]), content, suffix=suffix)
    if found is not None and found.label is not None:
        assert found.label.shape == (2,) and found.label.dtype == np.int32
        assert found.label.min() >= 0 and found.label.max() < found.num_classes


# --- safetensors ---


TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from([*safetensors_file._DTYPES, "F8"]), JSON),
        "shape": st.one_of(st.lists(st.integers(-1, 2**65), max_size=3), st.just([2, 2]), JSON),
        "data_offsets": st.one_of(
            st.lists(st.sampled_from([0, 4, 8, 16, 2**62, 2**65]), max_size=3), JSON
        ),
    }
)


@settings(max_examples=100, deadline=None)
@given(
    table=st.one_of(st.dictionaries(st.text(max_size=4), st.one_of(TENSOR, JSON)), JSON),
    tail=st.integers(0, 20),
)
def test_any_header_of_a_safetensors_file_gives_tensors_or_one_line(table, tail):
    text = json.dumps(table).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(tail)
    found = outcome(safetensors_file.read, content)
    if found is not None:
        assert sum(array.nbytes for array in found.values()) == tail


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=40), changes=DAMAGE)
def test_any_bytes_of_a_safetensors_file_give_tensors_or_one_line(content, changes):
    header = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    text = json.dumps(header).encode()
    good = len(text).to_bytes(8, "little") + text + bytes(16)
    for tried in (content, damaged(good, changes), good + content):
        outcome(safetensors_file.read, tried)
    assert outcome(safetensors_file.read, good)["a"].shape == (2, 2)


def test_names_of_tensors_do_not_fill_the_screen():
    text = json.dumps({"x\n" * 10_000: 3}).encode()
    assert outcome(safetensors_file.read, len(text).to_bytes(8, "little") + text) is None


# --- PyTorch files ---


TORCH = {name: (references.FOLDER / name).read_bytes() for name in ("tiny.pth", "tiny_legacy.pth")}
GIANT = 10**10
OPCODES = st.lists(
    st.sampled_from(
        [
            *(b"}", b"]", b")", b"(", b"N", b"\x88", b"K\x01", b"K\x03", b"X\x01\0\0\0a", b"\x85"),
            *(b"\x86", b"\x87", b"t", b"q\0", b"q\1", b"h\0", b"h\1", b"Q", b"R", b"b", b"s", b"u"),
            *(b"a", b"e", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n"),
            *(b"ccollections\nOrderedDict\n", b"X\7\0\0\0storage", b"J\xff\xff\xff\xff", b"0"),
            *(
                b"X\xff\xff\xff\xff",
                b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
                b"cos\nsystem\n",
                b".",
            ),
        ]
    ),
    max_size=30,
).map(lambda codes: b"\x80\x02" + b"".join(codes) + b".")


def torch_zip(pickled, *, kind=zipfile.ZIP_STORED, claim=0, **storages):
    """A file as torch.save writes it; the storages may claim more than they hold."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, block in storages.items():
            archive.writestr(f"a/data/{key}", block)
        for member in archive.filelist[1:] if claim else ():
            member.file_size, member.compress_size = claim, min(claim, member.compress_size)
    return stream.getvalue()


@settings(max_examples=300, deadline=None)
@given(pickled=OPCODES, legacy=st.booleans())
def test_any_pickle_in_a_torch_file_gives_tensors_or_one_line(pickled, legacy):
    outcome(torch_file.read, pickled if legacy else torch_zip(pickled, a=bytes(12)))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(TORCH)), changes=DAMAGE, cut=st.integers(0, 3000))
def test_any_bytes_of_a_torch_file_give_tensors_or_one_line(name, changes, cut):
    outcome(torch_file.read, damaged(TORCH[name], changes, max(1, len(TORCH[name]) - cut)))


class _Global:
    """Pickled as a name, which need not be there."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *arguments):
        raise AssertionError("a pickle was run")


class _Storage:
    """Pickled as a reference to a storage of so many floats."""

    def __init__(self, key, size):
        self.reference = ("storage", _Global("torch", "FloatStorage"), key, "cpu", size)


class _Tensor:
    """Pickled as a call of torch's function that makes a tensor."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return _Global("torch._utils", "_rebuild_tensor_v2"), self.arguments


class _Pickler(pickle._Pickler):  # the one in C cannot write names that are not there
    def persistent_id(self, obj):
        return obj.reference if isinstance(obj, _Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def pickled(value):
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


def torch_legacy(state, keys, blocks):
    """A file as torch.save wrote it before its zip format; a block is (count, bytes)."""
    parts = [pickle.dumps(torch_file._LEGACY_MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    parts += [pickled(state), pickle.dumps(keys, 2)]
    parts += [struct.pack("<q", count) + block for count, block in blocks]
    return b"".join(parts)


def weight(size=4, key="k", shape=None):
    return {"weight": _Tensor(_Storage(key, size), 0, shape or (size,), (1,))}


BLOCK = np.arange(4, dtype="<f4").tobytes()


def test_files_made_here_are_read():
    for content in (
        torch_zip(pickled(weight()), k=BLOCK),
        torch_legacy(weight(), ["k"], [(4, BLOCK)]),
    ):
        found = outcome(torch_file.read, content)
        np.testing.assert_array_equal(found["weight"], np.arange(4))


@pytest.mark.parametrize("missing", [4, 8, 16])
def test_a_tensor_never_reaches_beyond_the_bytes_that_there_are(missing):
    # The last storage is cut off at a whole number, which every check of its header passes.
    state = {**weight(key="j"), "last": _Tensor(_Storage("k", 4), 0, (4,), (1,))}
    legacy = torch_legacy(state, ["j", "k"], [(4, BLOCK), (4, BLOCK)])
    assert outcome(torch_file.read, legacy) is not None
    assert outcome(torch_file.read, legacy[:-missing]) is None
    assert outcome(torch_file.read, torch_zip(pickled(weight(8)), k=BLOCK, claim=32)) is None


def _lists_of_lists(depth=60):
    key = ("k", "k")
    for _ in range(depth):
        key = (key, key)
    return key


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02X\xff\xff\xff\x7f",
        b"\x80\x02\x8d" + (2**60).to_bytes(8, "little"),
        torch_legacy(weight(GIANT), ["k"], [(GIANT, BLOCK)]),
        torch_legacy(weight(2**61), ["k"], [(2**61, BLOCK)]),
        torch_zip(pickled(weight(GIANT)), k=BLOCK, claim=4 * GIANT),
        torch_zip(pickled(weight()) + bytes(2**24), kind=zipfile.ZIP_BZIP2),
        torch_zip(pickled(weight()) + bytes(2**24), kind=zipfile.ZIP_DEFLATED),
        torch_zip(pickled(weight(key=_lists_of_lists())), k=BLOCK),
        torch_zip(pickled(weight(shape=(GIANT, GIANT))), k=BLOCK),
        len(bz2.compress(b"")).to_bytes(8, "little") + BLOCK,
    ],
    ids=range(10),
)
def test_a_torch_file_that_claims_gigabytes_is_refused_before_allocating(content):
    tracemalloc.start()
    try:
        assert outcome(torch_file.read, content) is None
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


# --- records of weights ---


@settings(max_examples=100, deadline=None)
@given(record=st.one_of(st.binary(max_size=50), JSON.map(lambda x: json.dumps(x).encode())))
def test_any_record_of_weights_is_read_or_refused(record):
    def read(path):
        path.with_suffix(".json").write_bytes(record)
        return weights.load(path)

    stream = io.BytesIO()
    np.savez(stream, **{"a/b": np.zeros(2)})
    outcome(read, stream.getvalue(), suffix=".npz")


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b", "a"], ["a/b", "a/b/c"]])
def test_weights_with_a_layer_inside_an_array_are_refused(names):
    stream = io.BytesIO()
    np.savez(stream, **{name: np.zeros(2) for name in names})
    assert outcome(weights.load, stream.getvalue(), suffix=".npz") is None


def test_a_record_of_weights_that_nests_without_end_is_refused():
    def read(path):
        path.with_suffix(".json").write_text("[" * 100_000)
        return weights.load(path)

    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(2))
    assert outcome(read, stream.getvalue(), suffix=".npz") is None
