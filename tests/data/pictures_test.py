import PIL.Image
import pytest

from jaxgan.data import arrays, pictures
from jaxgan.types import UserError


def fill(root, *, sizes=((6, 4), (9, 9), (3, 20)), mode="RGB"):
    """Writes plain pictures of values 0, 1, ...; a size is (width, height)."""
    root.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        colour = number if mode == "L" else (number, 0, 0)
        PIL.Image.new(mode, size, colour).save(root / f"{number}.png")
    return root


def test_pictures_keep_their_sizes_and_the_order_of_their_names(tmp_path):
    found = pictures.read(fill(tmp_path))
    assert [image.shape for image in found] == [(4, 6, 3), (9, 9, 3), (20, 3, 3)]
    assert [image[0, 0, 0] for image in found] == [0, 1, 2]
    assert found.paths == ("0.png", "1.png", "2.png") and found.channels == 3


def test_one_colour_picture_makes_all_of_them_colour_unless_grey_is_asked_for(tmp_path, caplog):
    fill(tmp_path, mode="L")
    assert pictures.read(tmp_path).channels == 1
    fill(tmp_path / "more")
    assert {image.shape[-1] for image in pictures.read(tmp_path)} == {3}
    assert {image.shape[-1] for image in pictures.read(tmp_path, channels=1)} == {1}
    assert "made grey" in caplog.text


def test_splits_are_read_apart(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", sizes=[(5, 5)])
    assert (len(pictures.read(tmp_path)), len(pictures.read(tmp_path, split="test"))) == (3, 1)
    with pytest.raises(arrays.MissingSplit):
        pictures.read(tmp_path / "train", split="test")


def test_a_damaged_file_is_left_out_and_named(tmp_path, caplog):
    fill(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no picture")
    found = pictures.read(tmp_path)
    assert found.paths == ("0.png", "2.png") and "1.png: skipped" in caplog.text
    with pytest.raises(UserError, match="1 of 3 image files cannot be read"):
        pictures.read(tmp_path, max_bad_records=0)


def test_more_than_memory_holds_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(pictures, "MEMORY_BYTES", 495)  # 3 x (24 + 81 + 60)
    assert len(pictures.read(tmp_path)) == 3
    monkeypatch.setattr(pictures, "MEMORY_BYTES", 494)
    monkeypatch.setattr(pictures.reader.Reader, "read", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(UserError, match="3 pictures take about 0.0 GiB .* scale them down"):
        pictures.read(tmp_path)


def test_held_out_pictures_and_the_rest_are_all_of_them(tmp_path):
    found = pictures.read(fill(tmp_path))
    rest, held = pictures.hold_out(found, share=0.3)
    assert len(held) == 1 and set(rest.paths) | set(held.paths) == set(found.paths)
    assert rest.fingerprint != found.fingerprint
    assert pictures.hold_out(found, share=0.3)[1].paths == held.paths
    assert len(pictures.hold_out(found, share=0.99)[0]) == 1
    with pytest.raises(UserError, match="share 1 is not possible"):
        pictures.hold_out(found, share=1.0)
    with pytest.raises(UserError, match="one picture is too few"):
        pictures.hold_out(held)


def test_the_fingerprint_is_of_pixels_and_sizes_not_of_names(tmp_path):
    before = pictures.read(fill(tmp_path)).fingerprint
    (tmp_path / "0.png").rename(tmp_path / "00.png")
    assert pictures.read(tmp_path).fingerprint == before
    fill(tmp_path, sizes=[(4, 6)])
    (tmp_path / "00.png").unlink()
    assert pictures.read(tmp_path).fingerprint != before
