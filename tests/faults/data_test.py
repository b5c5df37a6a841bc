"""Data gone wrong: unreadable files, modes and sizes of all kinds, values out of range, archives.

Shown elsewhere, and not again here: a rest, or fewer examples than a batch, and a resume within an
epoch in tests/data/pipeline_test.py; a truncated, empty or other file in place of an image, other
files and nested classes in tests/data/folder_test.py; labels in tests/data/labels_test.py,
tests/data/arrays_test.py and tests/data/idx_test.py; TensorFlow Datasets in
tests/data/tfds_test.py.
"""

import os
import socket
import tracemalloc
import zipfile

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from jaxgan import data
from jaxgan.data import arrays, folder, idx, pipeline
from jaxgan.metrics import weights
from jaxgan.types import UserError
from tests.data import folder_test, idx_test
from tests.helpers import command, runs

IMAGE = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5, 1)


def fill(root, num=4):
    return folder_test.fill(root, [f"{i}.png" for i in range(num)])


def peak(action):
    """Runs something that must raise a UserError; returns its text, and how many MB it took."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            action()
        return str(caught.value), tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_fewer_images_than_a_batch_are_repeated_and_one_is_enough(tmp_path):
    source = data.load("folder", data_dir=str(fill(tmp_path, 1)))
    batches = pipeline.batches(source, batch_size=5, seed=0)
    assert next(batches)["image"].shape == (5, 6, 6, 3)


@pytest.mark.parametrize("in_memory", [True, False])
def test_how_many_bad_files_are_skipped_is_chosen(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    fill(tmp_path, 30)
    (tmp_path / "0.png").write_bytes(b"")
    everything = np.arange(29)
    assert len(folder.load(tmp_path)[everything]["image"]) == 29
    for num in (0, 1, 12):
        for i in range(num):
            (tmp_path / f"{i}.png").write_bytes(b"")
        assert folder.load(tmp_path, max_bad_records=max(num, 1))[np.arange(5)]
        with pytest.raises(UserError, match=f"where at most {max(num, 1) - 1} are skipped"):
            folder.load(tmp_path, max_bad_records=max(num, 1) - 1)[everything]


def test_no_bad_file_is_skipped_where_a_flag_says_so(tmp_path):
    folder_test.fill(tmp_path / "data", [f"{i}.png" for i in range(4)], mode="L")
    (tmp_path / "data" / "1.png").write_bytes(b"<html>403</html>")
    message = command.mistake(
        "experiments.mnist",
        *runs.flags(tmp_path / "run", dataset="folder", data_dir=tmp_path / "data"),
        "--max_bad_records=0",
    )
    assert "1 of 4 image files cannot be read, where at most 0 are skipped" in message
    assert "1.png" in message and not (tmp_path / "run").exists()


def _pipe(path):
    os.mkfifo(path)


def _dangling(path):
    path.symlink_to(path.with_name("gone"))


def _postscript(path):
    # Pillow would hand this to Ghostscript, a program that runs what is written in it.
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("make", [_pipe, _dangling, _postscript])
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_only_looks_like_an_image_file_is_skipped(
    tmp_path, caplog, monkeypatch, make, in_memory
):
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    make(fill(tmp_path) / "a.png")
    source = folder.load(tmp_path)
    assert source[np.arange(len(source))]["image"].max() == 9
    assert "a.png: skipped, " in caplog.text and len(source.fingerprint) == 16


@pytest.mark.parametrize("name", ["arrays", "folder", "mnist", "stacked_mnist", "cifar10"])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_data_that_are_no_file_are_not_waited_for(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    if kind == "pipe":
        _pipe("place")
    elif kind == "device":
        os.symlink("/dev/zero", "place")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("place")
    with pytest.raises(UserError, match="place: is not a file or a folder"):
        data.load(name, data_dir="place")
    for read in (arrays.read_npz, weights.load, lambda p: weights.load_classifier(name, path=p)):
        with pytest.raises(UserError, match="place: is not a file or a folder"):
            read("place")


MODES = {
    "1": ("png", 1),
    "L": ("png", 1),
    "LA": ("png", 1),
    "P": ("png", 3),
    "RGB": ("jpg", 3),
    "RGBA": ("png", 3),
    "I;16": ("png", 1),
    "CMYK": ("jpg", 3),
    "YCbCr": ("tif", 3),
}


def test_images_of_all_modes_are_one_set(tmp_path, caplog):
    for mode, (suffix, channels) in MODES.items():
        path = tmp_path / f"{mode.replace(';', '')}.{suffix}"
        PIL.Image.new(mode, (7, 5)).save(path)
        assert folder.pixels.decode(path).shape == (5, 7, channels), mode
    source = folder.load(tmp_path)
    assert source.arrays["image"].shape == (len(MODES), 5, 7, 3)
    assert "skipped" not in caplog.text


def test_a_wrong_number_of_channels_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((3, 4, 4, 4), np.uint8))
    with pytest.raises(UserError, match=r"a.npz: images have shape \[3, 4, 4, 4\].* C of 1 or 3"):
        data.load("arrays", data_dir=str(tmp_path / "a.npz"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, caplog, monkeypatch, side):
    fill(tmp_path)
    bomb = folder_test.bomb().replace(b"\0\0\xc3\x50" * 2, side.to_bytes(4, "big") * 2)
    start = bomb.index(b"IHDR")
    check = folder_test.zlib.crc32(bomb[start : start + 17]).to_bytes(4, "big")
    (tmp_path / "2.png").write_bytes(bomb[: start + 17] + check + bomb[start + 21 :])
    real, sizes = PIL.ImageFile.ImageFile.load, []

    def load(picture):
        sizes.append(picture.size)
        return real(picture)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    assert len(folder.load(tmp_path, image_size=6)) == 3
    assert "2.png: skipped" in caplog.text and "too many" in caplog.text or "bomb" in caplog.text
    assert set(sizes) == {(6, 6)}


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1)])
def test_an_image_one_pixel_wide_is_resized(tmp_path, size):
    fill(tmp_path)
    PIL.Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "2.png")
    source = folder.load(tmp_path, image_size=4)
    assert (source[2]["image"] == 9).all()


def test_a_class_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folder_test.fill(tmp_path, ["cat/a.png", "dog/b.png"])
    real = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match="dog: cannot be read .Permission denied"):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"label": np.int64(0)}, '6 images but 0 of "label"'),
        ({"label": np.zeros((6, 1), np.int64)}, "need class numbers"),
        ({"label": np.full(6, 2**63, np.uint64)}, "label 9223372036854775808"),
        ({"label": np.zeros(6, np.int64), "num_classes": 2**40}, "at most 1048576"),
        ({"label": np.zeros(6, np.int64), "num_classes": np.zeros(2, int)}, "one positive"),
        ({"label": np.array([0, 1, 0, 1, 0, -1])}, "label -1 of example 5 is outside 0..1"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path, members, words):
    np.savez(tmp_path / "a.npz", image=IMAGE, **members)
    with pytest.raises(UserError, match=words):
        arrays.load_npz(tmp_path / "a.npz")


class Floats:
    """A source of somebody's own, with images of any kind."""

    name, num_classes, fingerprint = "mine", 0, ""

    def __init__(self, image):
        self.image, self.image_shape = image, image.shape[1:]

    def __len__(self):
        return len(self.image)

    def __getitem__(self, index):
        return {"image": self.image[index]}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (IMAGE.astype(np.float32), r"mine: image \d ranges over .* need uint8, or floats in -1..1"),
        (IMAGE / -100, r"ranges over -1\.\d+..-"),
        (IMAGE.astype(np.int64), "images are int64; need uint8"),
        (np.where(IMAGE < 119, 0.5, np.nan), r"image 5 ranges over nan..nan \(1 such"),
        (np.where(IMAGE < 119, 0.5, np.inf), r"image 5 ranges over 0.5..inf"),
    ],
)
def test_pixels_out_of_range_are_named_at_the_first_batch(image, words):
    with pytest.raises(UserError, match=words):
        next(pipeline.batches(Floats(image), batch_size=6, seed=0, workers=0))


def test_images_of_which_no_pixel_is_dark_are_warned_of_once(caplog):
    batches = pipeline.batches(Floats(IMAGE / 255), batch_size=6, seed=0, workers=0)
    pipeline.logging.get_absl_logger()
    for _ in range(3):
        next(batches)
    batches.close()
    assert caplog.text.count("mine: no value of a batch is below 0; images in 0..1 belong") == 1
    caplog.clear()
    batches = pipeline.batches(Floats(IMAGE / 60 - 1), batch_size=6, seed=0, workers=0)
    next(batches)
    batches.close()
    assert caplog.text == ""


def test_black_and_white_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGE > 50)
    found = arrays.load_npz(tmp_path / "a.npz").arrays["image"]
    np.testing.assert_array_equal(found, np.where(IMAGE > 50, 255, 0))


def test_data_in_the_home_directory_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", image=IMAGE)
    idx_test.write(tmp_path / "data" / "mnist")
    fill(tmp_path / "files")
    assert len(data.load("arrays", data_dir="~/a.npz")) == 6
    assert len(data.load("mnist", data_dir="~/data")) == 5
    assert len(data.load("folder", data_dir="~/files")) == 4


@pytest.mark.parametrize("name", ["arrays", "folder"])
@pytest.mark.parametrize("data_dir", ["x" * 300, "none", "~nobody_of_this_name", "a\0b"])
def test_a_place_that_cannot_be_is_one_line(name, data_dir):
    with pytest.raises(UserError) as caught:
        data.load(name, data_dir=data_dir)
    assert "\n" not in str(caught.value)
    assert idx.find(data_dir, "mnist") is None


def lying_zip(path, size, *, name="image.npy", packed=None, content=b"\x93NUMPY"):
    """A zip file of a few bytes with a member that claims `size`, packed into `packed`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
        (member,) = archive.filelist
        member.file_size, member.compress_size = size, packed or size
    return path


def header(shape):
    """What an npy file of bytes begins with."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


GIANT = 10**10


def test_an_npz_that_claims_ten_gigabytes_is_refused_before_allocating(tmp_path):
    content = header((GIANT,))
    path = lying_zip(tmp_path / "a.npz", GIANT + len(content), content=content)
    message, megabytes = peak(lambda: arrays.read_npz(path))
    assert "claims more bytes than it can hold" in message and megabytes < 5
    lying_zip(path, GIANT + len(content), packed=10, content=content)
    assert peak(lambda: arrays.read_npz(path))[1] < 5


def test_an_npz_packed_without_bound_is_refused_before_it_is_unpacked(tmp_path):
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
            archive.writestr("image.npy", header((2**24,)) + bytes(2**24))
        assert os.path.getsize(tmp_path / "a.npz") < 5000
        message, megabytes = peak(lambda: arrays.read_npz(tmp_path / "a.npz"))
        assert "packed in another way than NumPy's" in message and megabytes < 5


def test_idx_files_that_claim_ten_gigabytes_are_refused_before_allocating(tmp_path):
    content = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (10**6, 100, 100))
    for packed in (content, idx_test.gzipped(content)):
        (tmp_path / "a").write_bytes(packed)
        message, megabytes = peak(lambda: idx.read_idx(tmp_path / "a", ndim=3))
        assert "claims 10,000,000,000 bytes" in message and megabytes < 5


def test_members_of_an_archive_lead_nowhere(tmp_path):
    # Nothing is ever unpacked into files: names with ../ are names of arrays like any other.
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", image=IMAGE, **{"../evil": IMAGE, "/tmp/evil": IMAGE})
    before = command.tree(tmp_path)
    source = data.load("arrays", data_dir=str(tmp_path / "in" / "a.npz"))
    assert set(source.arrays) == {"image"} and command.tree(tmp_path) == before


def test_the_names_in_an_archive_do_not_fill_the_screen(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"x\n{i}\x1b" * 20: IMAGE[0] for i in range(50)})
    with pytest.raises(UserError, match="no array named image") as caught:
        arrays.load_npz(tmp_path / "a.npz")
    text = str(caught.value)
    assert "\n" not in text and "\x1b" not in text and len(text) < 1500
