import functools
import gzip
import struct

import numpy as np
import PIL.Image
import pytest

from jaxgan import data
from jaxgan.data import arrays, registry, synthetic
from jaxgan.types import UserError


def test_digits_need_no_folder():
    source = data.load("digits")
    assert (len(source), source.image_shape, source.num_classes) == (1500, (28, 28, 1), 10)


def test_any_set_is_resized_and_recoloured():
    plain, changed = data.load("digits"), data.load("digits", image_size=16, channels=3)
    assert changed.image_shape == (16, 16, 3) and len(changed) == len(plain)
    assert changed.class_names == plain.class_names and changed.num_classes == 10
    assert changed.fingerprint != plain.fingerprint
    np.testing.assert_array_equal(changed[7]["label"], plain[7]["label"])


def test_arrays_that_lose_something_are_said_and_others_not(tmp_path, caplog):
    source = synthetic.squares(image_shape=(8, 6, 3))
    np.savez(tmp_path / "a.npz", **source.arrays)
    for options in ({}, {"channels": 3}):
        data.load("arrays", data_dir=str(tmp_path / "a.npz"), **options)
    assert caplog.text == ""
    changed = data.load("arrays", data_dir=str(tmp_path / "a.npz"), image_size=6, channels=1)
    assert changed.image_shape == (6, 6, 1) and len(caplog.records) == 1
    assert "a.npz: images are 8 x 6 (height x width), cropped to the middle 6 x 6; images in" in (
        caplog.text
    )


@pytest.mark.parametrize("name", registry.IDX_FAMILY)
def test_idx_files_in_the_folder_are_read(tmp_path, name):
    image = np.zeros((3, 28, 28), np.uint8)
    for part, array in (("images-idx3", image), ("labels-idx1", np.arange(3, dtype=np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        path = tmp_path / f"train-{part}-ubyte.gz"
        path.write_bytes(gzip.compress(head + array.tobytes()))
    source = data.load(name, data_dir=str(tmp_path))
    assert len(source) == 3 and source.name == name


def test_arrays_and_folder_take_their_data_dir(tmp_path):
    np.savez(tmp_path / "a.npz", **synthetic.squares().arrays)
    assert len(data.load("arrays", data_dir=str(tmp_path / "a.npz"))) == 64
    PIL.Image.new("L", (5, 4)).save(tmp_path / "a.png")
    assert data.load("folder", data_dir=str(tmp_path)).image_shape == (4, 5, 1)
    for name in ("arrays", "folder"):
        with pytest.raises(UserError, match=f"dataset {name} needs --data_dir"):
            data.load(name)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"split": "validation"}, 'split "validation" is not one of train, test'),
        ({"image_size": -1}, "image_size -1"),
        ({"channels": 2}, "channels 2"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        data.load("digits", **options)


def test_stacked_mnist_has_one_split():
    with pytest.raises(UserError, match="only the split train"):
        data.load("stacked_mnist", split="test")


def test_real_sets_are_read_by_name(real_data):
    for name in ("mnist", "fashion_mnist"):
        for split, num in (("train", 60_000), ("test", 10_000)):
            source = data.load(name, data_dir=str(real_data), split=split)
            assert len(source) == num and np.bincount(source.arrays["label"]).min() > 800


def test_a_share_is_held_out_only_where_there_is_no_test_split(tmp_path):
    image = np.arange(300 * 64, dtype=np.uint32).reshape(300, 8, 8, 1).astype(np.uint8)
    image[:, 0, 0, 0], image[:, 0, 1, 0] = np.arange(300) % 256, np.arange(300) // 256
    np.savez(tmp_path / "set.npz", image=image)
    load = functools.partial(data.load, "arrays", data_dir=str(tmp_path / "set.npz"))
    with pytest.raises(arrays.MissingSplit):
        load(split="test")
    assert len(load()) == 300
    rest, test = load(holdout=0.4), load(split="test", holdout=0.4)
    assert (len(rest), len(test)) == (180, 120)
    rows = np.concatenate([each[np.arange(len(each))]["image"] for each in (rest, test)])
    assert len(np.unique(rows[:, 0, :2, 0], axis=0)) == 300
    assert len(data.load("digits", holdout=0.4)) == len(data.load("digits"))
