"""Photos: what is read is written again, with all that belongs to it."""

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from jaxgan.data import photos, png16
from jaxgan.types import UserError

RANDOM = np.random.default_rng(0)
PROFILE = {
    space: bytes(16) + space + b"acsp".rjust(24) + bytes(100) for space in (b"RGB ", b"GRAY")
}


def photo_of(channels=3, dtype=np.uint8, *, alpha=False, **rest):
    values = RANDOM.integers(0, np.iinfo(dtype).max + 1, (9, 7, channels + 1), dtype)
    colours = np.ascontiguousarray(values[..., :channels])
    return photos.Photo(colours, values[..., channels:] if alpha else None, **rest)


def exif_of(orientation=None):
    tags = PIL.Image.Exif()
    tags[0x010F] = "A maker"
    tags[0x8769] = {0x829A: 0.01, 0xA002: 700}  # seconds of exposure, width
    tags[0x8825] = {1: "N"}
    if orientation:
        tags[0x0112] = orientation
    return tags


def same(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.pixels.dtype == other.pixels.dtype
    assert (one.alpha is None) == (other.alpha is None)
    if one.alpha is not None:
        np.testing.assert_array_equal(one.alpha, other.alpha)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint8),
        (".png", np.uint16),
        (".tif", np.uint8),
        (".TIFF", np.uint16),
        (".webp", np.uint8),
    ],
)
def test_a_photo_is_read_as_it_was_written(tmp_path, suffix, dtype, channels, alpha):
    icc = PROFILE[b"RGB " if channels == 3 else b"GRAY"]
    photo = photo_of(channels, dtype, alpha=alpha, icc=icc, exif=exif_of().tobytes()[6:])
    if suffix == ".webp" and channels == 1:  # WebP has no greys
        photo = photos.Photo(photo.pixels.repeat(3, -1), photo.alpha, PROFILE[b"RGB "], photo.exif)
    path = tmp_path / f"a{suffix}"
    photos.write(path, photo)
    again = photos.read(path)
    same(again, photo)
    assert again.icc == photo.icc
    tags = PIL.Image.Exif()
    tags.load(b"Exif\0\0" + again.exif)
    assert tags[0x010F] == "A maker" and tags.get_ifd(0x8825)[1] == "N"
    inner = tags.get_ifd(0x8769)
    assert inner[0x829A] == 0.01 and inner[0xA002] == 7  # the width that it has
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_plain_kinds_hold_pixels(tmp_path, suffix):
    photo = photo_of()
    photos.write(tmp_path / f"a{suffix}", photo)
    same(photos.read(tmp_path / f"a{suffix}"), photo)


def test_a_jpeg_keeps_what_belongs_to_it(tmp_path):
    smooth = np.linspace(40, 200, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    exif = exif_of().tobytes()[6:]
    photos.write(tmp_path / "a.jpg", photos.Photo(smooth, None, PROFILE[b"RGB "], exif))
    again = photos.read(tmp_path / "a.jpg")
    assert np.abs(again.pixels.astype(int) - smooth).max() < 12
    assert again.icc == PROFILE[b"RGB "]
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        assert picture.getexif()[0x010F] == "A maker"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_rotation_is_applied_and_reset(tmp_path, orientation, suffix):
    values, path = photo_of().pixels, tmp_path / f"a{suffix}"
    picture = PIL.Image.fromarray(values)
    picture.save(path, exif=exif_of(orientation).tobytes())
    photo = photos.read(path)
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(photo.pixels, np.asarray(PIL.ImageOps.exif_transpose(picture)))
    photos.write(tmp_path / "b.png", photo)
    with PIL.Image.open(tmp_path / "b.png") as again:
        assert 0x0112 not in again.getexif() and again.getexif()[0x010F] == "A maker"


def test_deep_colours_are_turned_too(tmp_path):
    photo = photo_of(3, np.uint16, exif=exif_of(6).tobytes()[6:])
    for name in ("a.png", "a.tif"):
        with (tmp_path / name).open("wb") as file:
            if name == "a.png":
                png16.encode(file, photo.pixels, exif=photo.exif)
            else:
                tifffile.imwrite(file, photo.pixels, photometric="rgb", extratags=[(274, 3, 1, 6)])
        turned = photos.read(tmp_path / name)
        np.testing.assert_array_equal(turned.pixels, np.rot90(photo.pixels, -1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"planarconfig": "separate"},
        {"bigtiff": False, "byteorder": ">"},
        {"tile": (16, 16)},
    ],
    ids=str,
)
def test_tiff_of_others_is_read_in_all_its_bits(tmp_path, options):
    pixels = photo_of(3, np.uint16).pixels
    stored = np.moveaxis(pixels, -1, 0) if "planarconfig" in options else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    same(photos.read(tmp_path / "a.tif"), photos.Photo(pixels))


def test_transparency_multiplied_into_colours_is_divided_out(tmp_path):
    pixels = np.full((2, 2, 4), 30000, np.uint16)
    pixels[0, 0] = [10000, 5000, 0, 20000]
    options = {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    photo = photos.read(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels[0, 0], [32768, 16384, 0], atol=1)
    assert photo.alpha is not None and photo.alpha[0, 0] == 20000


def test_palettes_two_tones_and_print_colours_become_grey_or_rgb(tmp_path):
    colour = PIL.Image.fromarray(photo_of().pixels)
    for mode, channels, alpha in [("P", 3, False), ("1", 1, False), ("LA", 1, True)]:
        colour.convert(mode).save(tmp_path / "a.png")
        photo = photos.read(tmp_path / "a.png")
        assert photo.pixels.shape == (9, 7, channels) and (photo.alpha is not None) == alpha
    flat = colour.convert("P")
    flat.save(tmp_path / "b.png", transparency=flat.getpixel((0, 0)))
    alpha = photos.read(tmp_path / "b.png").alpha
    assert alpha is not None and alpha[0, 0] == 0 and alpha.max() == 255
    colour.convert("CMYK").save(tmp_path / "a.tif", icc_profile=bytes(16) + b"CMYK" + bytes(100))
    photo = photos.read(tmp_path / "a.tif")
    photos.write(tmp_path / "c.png", photo)
    assert photo.pixels.shape == (9, 7, 3) and not photos.read(tmp_path / "c.png").icc


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(photos.read(tmp_path / "a.gif").pixels[1, 1], [255, 0, 0])


def test_what_would_lose_much_or_is_damaged_is_one_line(tmp_path):
    def refused(name, match):
        with pytest.raises(UserError, match=match) as caught:
            photos.read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: cannot be read (")

    refused("none.png", "there is no such file")
    (tmp_path / "text.png").write_text("no picture")
    refused("text.png", "cannot identify")
    (tmp_path / "empty.png").write_bytes(b"")
    refused("empty.png", "cannot identify")
    photos.write(tmp_path / "a.png", photo_of())
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    refused("half.png", "truncated|broken")
    photos.write(tmp_path / "a.tif", photo_of(dtype=np.uint16))
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "half.tif").write_bytes(content[: len(content) * 3 // 4])
    refused("half.tif", "TIFF of 16 bits")
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
    refused("deep.tif", "32 bits a channel; save it with 8 or 16")
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    refused("a.ppm", "more than 8 bits")
    (tmp_path / "folder.png").mkdir()
    refused("folder.png", "not a regular file")


def test_damaged_exif_costs_no_photo(tmp_path):
    path, picture = tmp_path / "a.jpg", PIL.Image.fromarray(photo_of().pixels)
    picture.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x99" * 40)
    photo = photos.read(path)
    assert photo.pixels.shape == (9, 7, 3)
    photos.write(tmp_path / "b.jpg", photo)


def test_files_that_cannot_hold_a_photo_are_refused(tmp_path):
    for name, photo, match in [
        ("a.jpg", photo_of(dtype=np.uint16), "JPEG has no 16 bits a channel"),
        ("a.webp", photo_of(dtype=np.uint16), "WEBP has no 16 bits"),
        ("a.jpg", photo_of(alpha=True), "JPEG has no transparency as the photo has; use .png"),
        ("a.gif", photo_of(), r"is none of \.png \.tif"),
    ]:
        with pytest.raises(UserError, match=match):
            photos.check(tmp_path / name, photo)
    photos.check(tmp_path / "a.jpg", photo_of())
    with pytest.raises(UserError, match="JPEG cannot hold 9 x 70000 pixels"):
        photos.check(tmp_path / "a.jpg", photo_of(), times=(1, 10_000))


def test_a_profile_of_other_colours_is_left_away(tmp_path):
    photos.write(tmp_path / "a.png", photo_of(3, icc=PROFILE[b"GRAY"]))
    assert photos.read(tmp_path / "a.png").icc == b""


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PIL.Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        photos.write(tmp_path / "a.png", photo_of())
    assert not list(tmp_path.iterdir())
