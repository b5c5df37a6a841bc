import PIL.Image
import pytest

from jaxgan.data import reader
from jaxgan.types import UserError


def test_a_damaged_file_is_skipped_said_once_and_counted(tmp_path, caplog):
    PIL.Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    files = reader.Reader(tmp_path, 20)
    image = files.read("a.png", image_size=3, channels=1)
    assert image is not None and image.shape == (3, 3, 1)
    assert files.read("b.png") is None and files.read("b.png") is None
    assert caplog.text.count("b.png: skipped") == 1 and list(files.bad) == ["b.png"]


@pytest.mark.parametrize("num_files, limit, max_bad", [(20, 10, -1), (12_000, 12, -1), (20, 2, 2)])
def test_so_many_are_skipped_and_one_more_is_an_error_each_time(
    tmp_path, num_files, limit, max_bad
):
    files = reader.Reader(tmp_path, num_files, max_bad_records=max_bad)
    for number in range(limit):
        assert files.read(f"{number}.png") is None
    words = rf"{limit + 1} of {num_files} image files cannot be read, where at most {limit} are"
    for _ in range(2):
        with pytest.raises(UserError, match=words):
            files.read("last.png")


def test_none_left_is_an_error_whatever_the_limit(tmp_path):
    files = reader.Reader(tmp_path, 1, max_bad_records=5)
    with pytest.raises(UserError, match="1 of 1 image files cannot be read"):
        files.read("a.png")
