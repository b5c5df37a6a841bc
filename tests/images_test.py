"""Images: value ranges, grids and PNG files."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan import images


def test_every_byte_survives_the_way_to_floats_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = images.from_uint8(pixels)
    assert values.dtype == jnp.float32
    assert float(values.min()) == -1.0 and float(values.max()) == 1.0
    np.testing.assert_array_equal(images.to_uint8(values), pixels)


def test_bytes_are_rounded_and_clipped():
    values = np.array([-1.5, -1.0, 0.0, 0.003, 1.0, 7.0])
    expected = [0, 0, 128, 128, 255, 255]  # 127.5 rounds to the even 128
    np.testing.assert_array_equal(images.to_uint8(values), expected)


def test_floats_given_as_bytes_are_refused():
    with pytest.raises(AssertionError):
        images.from_uint8(jnp.zeros(3))


def _numbered(num, height=2, width=3, channels=1):
    """Images that are all 1, all 2, ..."""
    numbers = np.arange(1, num + 1, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return np.tile(numbers, (1, height, width, channels))


def test_grid_reads_row_by_row_with_borders_and_fills_the_rest():
    picture = images.grid(_numbered(5), columns=3, pad=1, fill=9)
    assert picture.shape == (2 * 3 + 1, 3 * 4 + 1, 1)
    np.testing.assert_array_equal(
        picture[1::3, 1::4, 0][:2, :3],
        [[1, 2, 3], [4, 5, 9]],
    )
    np.testing.assert_array_equal(picture[:, ::4], 9)  # borders between columns
    np.testing.assert_array_equal(picture[::3], 9)
    np.testing.assert_array_equal(picture[4:6, 5:8, 0], 5)


@pytest.mark.parametrize(
    ("num", "rows", "columns"), [(1, 1, 1), (4, 2, 2), (5, 2, 3), (100, 10, 10)]
)
def test_grid_is_as_square_as_it_can_be(num, rows, columns):
    picture = images.grid(_numbered(num, channels=3), pad=0)
    assert picture.shape == (rows * 2, columns * 3, 3)


def test_grid_wants_a_batch_of_images():
    with pytest.raises(AssertionError):
        images.grid(np.zeros((4, 8, 8), np.uint8))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_holds_the_pixels(tmp_path, channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    images.save_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert os.listdir(tmp_path) == ["a.png"]  # nothing unfinished is left


def test_png_of_floats_is_refused_and_leaves_the_old_file(tmp_path):
    images.save_png(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(AssertionError):
        images.save_png(tmp_path / "a.png", np.zeros((2, 2, 1), np.float32))
    assert (tmp_path / "a.png").read_bytes() == before


def test_png_that_cannot_be_written_leaves_nothing_unfinished(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError):
        images.save_png(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    assert os.listdir(tmp_path) == ["a.png"]


def test_images_are_made_alike_by_repeating_pixels_and_channels():
    small = np.array([[[-1.0], [1.0]]])  # [1, 2, 1], float
    np.testing.assert_array_equal(
        images.alike(small, (2, 4, 3))[..., 2], [[0, 0, 255, 255], [0, 0, 255, 255]]
    )
    masked = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    assert images.alike(masked, (1, 2, 3)).tolist() == masked[..., :3].tolist()


def test_rows_begin_with_the_names_of_their_classes():
    pixels = np.arange(5 * 12 * 16 * 3, dtype=np.uint32).reshape(5, 12, 16, 3) % 251
    pixels, label = pixels.astype(np.uint8), np.array([2, 0, 2, 0, 2])
    picture = images.by_class(pixels, label, ["Häuser", "unused", "chat\u6f22"])
    height, width, channels = picture.shape
    margin = width - (3 * 18 + 2)
    assert channels == 3 and height >= 2 * (12 + 2) + 2
    step = (height - 2) // 2
    for row, members in enumerate(([1, 3], [0, 2, 4])):
        top = 2 + row * step
        assert (picture[top : top + step, :margin] < 128).any()  # its name
        for column, member in enumerate(members):
            left = margin + 2 + column * 18
            shown = picture[top : top + 12, left : left + 16]
            np.testing.assert_array_equal(shown, pixels[member])
    assert (picture[2:14, margin + 2 * 18 + 2 :] == 255).all()  # a place left over
    only = images.by_class(pixels, label * 0 + 2, ["a", "b", "chat\u6f22"])
    of_number = images.by_class(pixels, label * 0, ["2"])
    np.testing.assert_array_equal(only, of_number)  # the font lacks these letters
