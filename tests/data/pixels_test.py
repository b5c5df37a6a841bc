import numpy as np
import PIL.Image
import pytest

from jaxgan.data import pixels
from jaxgan.types import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 9, 12, 1), dtype=np.uint8)
RGB = RNG.integers(0, 256, (3, 12, 9, 3), dtype=np.uint8)


def pillow(image, size, mode):
    """What Pillow makes of one image: the reference for the matrix products."""
    picture = PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.LANCZOS))


@pytest.mark.parametrize("images", [GREY, RGB])
@pytest.mark.parametrize("size", [1, 5, 9, 20])
def test_resizing_agrees_with_pillow(images, size):
    mode = "L" if images.shape[-1] == 1 else "RGB"
    images = images // 3 + 80  # Pillow also clips between its two passes
    ours = pixels.conform(images, image_size=size)
    theirs = np.stack([pillow(image, size, mode) for image in images]).reshape(ours.shape)
    # Pillow rounds to bytes between its two passes.
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_colours_agree_with_pillow():
    grey = pixels.conform(RGB, channels=1)[..., 0]
    theirs = np.stack([np.asarray(PIL.Image.fromarray(image).convert("L")) for image in RGB])
    np.testing.assert_array_equal(grey, theirs)
    np.testing.assert_array_equal(pixels.conform(GREY, channels=3), np.repeat(GREY, 3, -1))


def test_nothing_asked_for_is_nothing_copied():
    assert pixels.conform(RGB) is RGB
    assert pixels.conform(RGB[:, :9], image_size=9, channels=3).base is RGB


def test_resizing_in_chunks_is_resizing():
    images = np.tile(GREY, (400, 1, 1, 1))
    ours = pixels.conform(images, image_size=100)
    np.testing.assert_array_equal(ours[-3:], pixels.conform(GREY, image_size=100))


@pytest.mark.parametrize("size, channels", [(-1, 0), (5000, 0), (0, 2), (0, 4), (0, -1)])
def test_impossible_options_are_refused(size, channels):
    with pytest.raises(UserError, match="is not possible"):
        pixels.conform(RGB, image_size=size, channels=channels)


@pytest.mark.parametrize(
    "images, expected",
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([-1.0, 0.0, 1.0]), [0, 128, 255]),
        (np.array([0, 7, 255]), [0, 7, 255]),
        (np.array([0, 1], np.uint16), [0, 1]),
    ],
)
def test_ranges_are_recognised(images, expected):
    found = pixels.as_uint8(images.reshape(1, 1, -1), "name")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.ravel(), expected)


@pytest.mark.parametrize("values", [[0.0, 1.5], [-2.0, 1.0], [0.0, np.inf], [0.0, np.nan]])
def test_values_of_no_known_range_are_refused(values):
    with pytest.raises(UserError, match="file: "):
        pixels.as_uint8(np.array(values).reshape(1, 1, -1), "file")


def save(path, picture, **options):
    picture.save(path, **options)
    return path


def test_grey_and_colour_stay_what_they_are(tmp_path):
    for mode, channels in (("L", 1), ("RGB", 3), ("1", 1)):
        path = save(tmp_path / f"{mode}.png", PIL.Image.new(mode, (6, 4), 1))
        assert pixels.decode(path).shape == (4, 6, channels)
        assert pixels.decode(path, channels=1).shape == (4, 6, 1)
        assert pixels.decode(path, channels=3).shape == (4, 6, 3)


def test_transparent_parts_become_white(tmp_path):
    clear = PIL.Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    np.testing.assert_array_equal(
        pixels.decode(save(tmp_path / "a.png", clear)), [[[255] * 3, [10, 20, 30]]]
    )
    half = PIL.Image.new("LA", (1, 1), (0, 128))
    assert pixels.decode(save(tmp_path / "b.png", half)).tolist() == [[[127]]]
    palette = PIL.Image.new("P", (2, 1), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    path = save(tmp_path / "c.png", palette, transparency=0)
    np.testing.assert_array_equal(pixels.decode(path), [[[255] * 3, [0, 200, 0]]])
    assert pixels.header(path).transparent


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    path = save(tmp_path / "a.png", PIL.Image.fromarray(values))
    np.testing.assert_array_equal(pixels.decode(path)[..., 0], [[0, 0, 1, 255]])
    assert pixels.header(path).grey


def test_cmyk_becomes_rgb(tmp_path):
    path = save(tmp_path / "a.tif", PIL.Image.new("CMYK", (2, 2), (255, 0, 0, 0)))
    np.testing.assert_array_equal(pixels.decode(path)[0, 0], [0, 255, 255])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exif_rotation_is_applied(tmp_path, suffix):
    picture = PIL.Image.new("L", (16, 8), 0)
    picture.paste(255, (0, 0, 8, 8))  # the left half is white
    exif = PIL.Image.Exif()
    exif[pixels.EXIF_ORIENTATION] = 6  # to be turned clockwise: left becomes top
    path = save(tmp_path / f"a.{suffix}", picture, exif=exif)
    image = pixels.decode(path)
    assert image.shape == (16, 8, 1) and pixels.header(path).size == (16, 8)
    assert image[:8].mean() > 250 and image[8:].mean() < 5


def test_animation_gives_its_first_frame(tmp_path):
    frames = [PIL.Image.new("L", (4, 4), shade) for shade in (0, 200)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert pixels.decode(path, channels=1).max() == 0


def test_large_jpeg_is_cropped_to_its_middle(tmp_path):
    picture = PIL.Image.new("RGB", (400, 100), "red")
    picture.paste("blue", (150, 0, 250, 100))
    image = pixels.decode(save(tmp_path / "a.jpg", picture, quality=95), image_size=16)
    assert image.shape == (16, 16, 3)
    assert (image[2:-2, 2:-2, 2] > 200).all() and (image[2:-2, 2:-2, 0] < 60).all()


def test_too_many_pixels_and_floats_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", PIL.Image.new("1", (50, 50)))
    monkeypatch.setattr(pixels, "MAX_PIXELS", 2499)
    with pytest.raises(OSError, match="50x50 pixels are too many"):
        pixels.decode(path)
    path = save(tmp_path / "a.tif", PIL.Image.new("F", (2, 2)))
    with pytest.raises(OSError, match="no known range"):
        pixels.decode(path)


@pytest.mark.parametrize("found", [(30, 50), (50, 30), (17, 90), (12, 18)])
def test_arrays_and_pictures_are_cropped_to_the_middle_of_a_shape_alike(tmp_path, found):
    # In the middle of the range: Pillow rounds and clips between rows and columns.
    image = np.random.default_rng(0).integers(96, 160, (*found, 3), np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "x.png")
    ours = pixels.conform(image[None], image_size=(12, 18))[0]
    theirs = pixels.decode(tmp_path / "x.png", image_size=(12, 18))
    assert ours.shape == theirs.shape == (12, 18, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_the_middle_has_the_shape_asked_for():
    assert pixels.middle((30, 50), (10, 10)) == (0, 10, 30, 30)
    assert pixels.middle((40, 40), (10, 20)) == (10, 0, 20, 40)
    assert pixels.middle((100, 40), (50, 20)) == (0, 0, 100, 40)


def test_impossible_shapes_are_refused():
    with pytest.raises(UserError, match=r"height and width \(0, 8\) are not possible; use 1..4096"):
        pixels.conform(np.zeros((1, 4, 4, 3), np.uint8), image_size=(0, 8))
