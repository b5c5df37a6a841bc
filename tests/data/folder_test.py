import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from jaxgan.data import folder
from jaxgan.types import UserError


def fill(root, names, *, size=(6, 6), mode="RGB"):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new(mode, size, i if mode == "L" else (i, 2 * i, 3 * i)).save(path)
    return root


def bomb():
    """A PNG of a few bytes that claims 50,000 x 50,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">2I5B", 50_000, 50_000, 8, 0, 0, 0, 0)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BAD = {
    "truncated": lambda good: good[: len(good) // 2],
    "zero bytes": lambda good: b"",
    "a web page": lambda good: b"<html>403 Forbidden</html>",
    "a bomb": lambda good: bomb(),
}


def test_images_come_in_the_order_of_their_names(tmp_path):
    source = folder.load(fill(tmp_path, ["b.png", "a.png", "c.jpg"]))
    assert len(source) == 3 and source.image_shape == (6, 6, 3) and source.num_classes == 0
    np.testing.assert_array_equal(source.arrays["image"][:2, 0, 0, 0], [1, 0])
    assert set(source[0]) == {"image"}


def test_sub_folders_are_classes(tmp_path):
    source = folder.load(fill(tmp_path, ["dog/a.png", "cat/b.png", "dog/c.png"]))
    np.testing.assert_array_equal(source.arrays["label"], [0, 1, 1])
    assert source.num_classes == 2 and source.class_names == ("cat", "dog")


def test_deeper_folders_belong_to_the_class_they_are_in_and_it_is_said(tmp_path, caplog):
    fill(tmp_path, ["cat/a.png", "cat/wild/b.png", "dog/x/y/c.png"])
    source = folder.load(tmp_path)
    np.testing.assert_array_equal(source.arrays["label"], [0, 0, 1])
    assert source.class_names == ("cat", "dog")
    assert caplog.text.count("first folder: cat/wild/b.png is of class cat") == 1


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    fill(tmp_path, ["cat/a.png", "dog/b.png"])
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "side").symlink_to(tmp_path / "dog")
    (tmp_path / "dog" / "side").symlink_to(tmp_path / "cat")
    assert folder.scan(tmp_path) == [
        *("cat/a.png", "cat/side/b.png", "dog/b.png", "dog/side/a.png")
    ]


@pytest.mark.parametrize("in_memory", [True, False])
def test_labels_of_a_file_are_those_of_the_images(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    fill(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "labels.csv").write_text("file_name,label\nc.png,dog\na.png,cat\nb.png,dog\n")
    source = folder.load(tmp_path)
    assert source.class_names == ("cat", "dog")
    np.testing.assert_array_equal(source[np.arange(3)]["label"], [0, 1, 1])
    (tmp_path / "labels.csv").write_text("file_name,label\nc.png,cat\na.png,cat\nb.png,dog\n")
    assert folder.load(tmp_path).fingerprint != source.fingerprint


def test_one_file_may_label_both_splits(tmp_path):
    fill(tmp_path, ["train/a.png", "train/b.png", "test/a.png"])
    (tmp_path / "labels.csv").write_text("file,label\ntrain/a.png,1\ntrain/b.png,0\ntest/a.png,0\n")
    np.testing.assert_array_equal(folder.load(tmp_path).arrays["label"], [1, 0])
    np.testing.assert_array_equal(folder.load(tmp_path, split="test").arrays["label"], [0])


def test_hidden_and_other_files_are_ignored(tmp_path):
    fill(tmp_path, ["x/a.png", "x/.b.png", ".hidden/c.png", "__MACOSX/d.png", "y/e.png"])
    (tmp_path / "x" / "notes.txt").write_text("not an image")
    (tmp_path / "README.md").write_text("not an image")
    assert len(folder.load(tmp_path)) == 2


def test_train_and_test_are_splits(tmp_path):
    fill(tmp_path, ["train/x/a.png", "train/y/b.png", "test/x/c.png"])
    assert len(folder.load(tmp_path)) == 2
    assert len(folder.load(tmp_path, split="test")) == 1
    with pytest.raises(UserError, match="has no test split"):
        folder.load(tmp_path / "train", split="test")


def test_one_class_is_said(tmp_path, caplog):
    assert folder.load(fill(tmp_path, ["only/a.png"])).num_classes == 1
    assert "1 class found (only)" in caplog.text


def test_transparent_images_are_said(tmp_path, caplog):
    PIL.Image.new("RGBA", (4, 4)).save(tmp_path / "a.png")
    assert folder.load(tmp_path).arrays["image"].min() == 255
    assert "laid over white" in caplog.text


def test_mixed_modes_and_sizes_become_one_shape(tmp_path):
    fill(tmp_path, ["a.png"], size=(9, 5))
    fill(tmp_path, ["b.png"], size=(1, 1), mode="L")
    source = folder.load(tmp_path, image_size=4)
    assert source.arrays["image"].shape == (2, 4, 4, 3)
    assert folder.load(tmp_path, image_size=4, channels=1).image_shape == (4, 4, 1)


def test_what_cropping_and_recolouring_lose_is_said_once_with_its_numbers(tmp_path, caplog):
    fill(tmp_path, ["a.png"], size=(24, 40))
    for _ in range(2):
        folder.load(tmp_path, image_size=16, channels=1)
    [record] = caplog.records
    assert (
        "images are 40 x 24 (height x width), cropped to the middle 24 x 24, scaled to 16 x 16;"
        in (record.getMessage())
    )
    assert "made grey" in record.getMessage()
    caplog.clear()
    fill(tmp_path, ["b.png"], size=(9, 9))
    folder.load(tmp_path, image_size=9)
    assert "9 x 9 to 40 x 24 (height x width), cropped to the middle square of each" in caplog.text
    caplog.clear()
    for size in (6, 4):  # as they are, and only scaled
        folder.load(fill(tmp_path / "same", ["a.png"]), image_size=size, channels=3)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_all_grey_folder_stays_grey(tmp_path):
    fill(tmp_path, ["a.png", "b.png"], mode="L", size=(4, 7))
    assert folder.load(tmp_path).image_shape == (7, 4, 1)


def test_sizes_that_differ_need_a_size(tmp_path):
    fill(tmp_path, ["a.png"], size=(9, 5))
    fill(tmp_path, ["b.png"])
    with pytest.raises(UserError, match="5x9 of a.png, 6x6 of b.png.; set image_size"):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    "names, words",
    [
        ([], "no images in it"),
        (["train/a/x.png", "val/b/y.png"], r"train, val. look like splits"),
        (["a/x.png", "y.png"], "y.png is beside the class folders"),
    ],
)
def test_folders_of_another_form_are_refused(tmp_path, names, words):
    with pytest.raises(UserError, match=words):
        folder.load(fill(tmp_path, names))


def test_file_and_missing_folder_are_refused(tmp_path):
    fill(tmp_path, ["a.png"])
    with pytest.raises(UserError, match="is a file"):
        folder.load(tmp_path / "a.png")
    with pytest.raises(UserError, match="no such folder"):
        folder.load(tmp_path / "none")


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("in_memory", [True, False])
def test_unreadable_file_is_skipped_and_named(tmp_path, caplog, monkeypatch, kind, in_memory):
    fill(tmp_path, ["x/a.png", "x/b.png", "y/c.png"])
    good = (tmp_path / "x/b.png").read_bytes()
    (tmp_path / "x/b.png").write_bytes(BAD[kind](good))
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    source = folder.load(tmp_path, image_size=6, channels=3)
    batch = source[np.arange(len(source))]
    assert "b.png: skipped" in caplog.text and "1 unreadable" in caplog.text
    # Streamed, the next readable file stands in for it, with its own label.
    wanted = ([0, 2], [0, 1]) if in_memory else ([0, 2, 2], [0, 1, 1])
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], wanted[0])
    np.testing.assert_array_equal(batch["label"], wanted[1])


@pytest.mark.parametrize("in_memory", [True, False])
def test_too_many_unreadable_files_are_an_error(tmp_path, monkeypatch, in_memory):
    fill(tmp_path, [f"{i:02}.png" for i in range(30)])
    for i in range(11):
        (tmp_path / f"{i:02}.png").write_bytes(b"")
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    with pytest.raises(UserError, match="11 of 30 image files cannot be read, where at most 10"):
        folder.load(tmp_path)[np.arange(30)]


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="not one of its 1 image files can be read"):
        folder.load(tmp_path)
    source = folder.FolderSource(tmp_path, ["a.png"], image_shape=(4, 4, 3))
    for _ in range(2):  # and stays one, instead of a search without end
        with pytest.raises(UserError, match="1 of 1 image files cannot be read"):
            source[0]


def test_streamed_and_kept_folder_give_the_same(tmp_path, monkeypatch):
    fill(tmp_path, [f"{c}/{i}.png" for c in "xyz" for i in range(4)], size=(9, 7))
    kept = folder.load(tmp_path, image_size=5)
    monkeypatch.setattr(folder, "MEMORY_FILES", 0)
    streamed = folder.load(tmp_path, image_size=5)
    assert isinstance(streamed, folder.FolderSource)
    assert streamed.image_shape == kept.image_shape and streamed.num_classes == 3
    index = np.array([7, 0, 7, 11])
    for key in ("image", "label"):
        np.testing.assert_array_equal(streamed[index][key], kept[index][key])
    np.testing.assert_array_equal(streamed[3]["image"], kept[3]["image"])


def test_fingerprint_tells_a_changed_file(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_FILES", 0)
    before = folder.load(fill(tmp_path, ["a.png", "b.png"])).fingerprint
    assert folder.load(tmp_path).fingerprint == before
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert folder.load(tmp_path).fingerprint != before


def test_odd_image_found_while_streaming_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_FILES", 0)
    source = folder.load(fill(tmp_path, ["a.png", "b.png"], size=(6, 4)))
    fill(tmp_path, ["b.png"], size=(5, 4))
    with pytest.raises(UserError, match=r"b.png: is \[4, 5, 3\] where others are \[4, 6, 3\]"):
        source[1]


def test_real_pairs_of_all_modes_are_read(real_data, tmp_path):
    import zipfile

    with zipfile.ZipFile(real_data / "emoji_pairs.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")][::30]
        archive.extractall(tmp_path, names)
    source = folder.load(tmp_path, image_size=32)
    assert len(source) == len(names) and source.image_shape == (32, 32, 3)
    assert source.arrays["image"][:, 0, 0].min() > 200  # their corners are transparent, hence white


def test_pictures_of_odd_shapes_become_those_of_one_that_is_not_square(tmp_path):
    for number, size in enumerate([(9, 40), (40, 9), (20, 20), (12, 18)]):  # width, height
        fill(tmp_path, [f"{number}.png"], size=size)
    source = folder.load(tmp_path, image_size=(6, 10))
    assert source.image_shape == (6, 10, 3)
    assert source[np.arange(4)]["image"].shape == (4, 6, 10, 3)
