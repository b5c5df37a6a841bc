import numpy as np
import PIL.Image
import pytest

from jaxgan.data import arrays, folder, pairs, pipeline, subsets
from jaxgan.types import UserError


def picture(path, value, *, size=(6, 4), mode="RGB"):
    """Writes one plain picture; the size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, value // 2, 0)
    PIL.Image.new(mode, size, colour).save(path)


@pytest.fixture
def two(tmp_path):
    for number, name in enumerate(["x", "y", "deep/z"]):
        picture(tmp_path / f"b/{name}.bmp", 10 * number)
        picture(tmp_path / f"a/{name}.png", 10 * number + 5, mode="L")
    return tmp_path


def first_pixels(source):
    batch = source[np.arange(len(source))]
    return batch["source"][:, 0, 0, 0].tolist(), batch["image"][:, 0, 0, 0].tolist()


def test_files_of_two_folders_belong_together_by_their_names(two):
    source = pairs.load(two / "b", source=two / "a")
    assert isinstance(source, arrays.ArraySource) and source.num_classes == 0
    batch = source[np.array([2, 0])]
    assert batch["image"].shape == (2, 4, 6, 3) and batch["source"].shape == (2, 4, 6, 1)
    assert batch["image"].dtype == batch["source"].dtype == np.uint8
    assert first_pixels(source) == ([25, 5, 15], [20, 0, 10])  # deep/z, x, y


def test_the_direction_is_which_folder_is_which(two):
    there, back = (
        pairs.load(two / a, source=two / b, image_size=4) for a, b in (("b", "a"), ("a", "b"))
    )
    np.testing.assert_array_equal(there.arrays["image"], back.arrays["source"])
    assert back.image_shape == (4, 4, 1) and there.fingerprint != back.fingerprint
    with_colour = pairs.load(two / "b", source=two / "a", source_channels=3, channels=1)
    assert with_colour.image_shape == (4, 6, 1) and with_colour[0]["source"].shape == (4, 6, 3)


@pytest.mark.parametrize("half, expected", [("left", (200, 50)), ("right", (50, 200))])
def test_halves_of_one_picture_are_a_pair_in_either_direction(tmp_path, half, expected):
    whole = np.zeros((4, 12, 3), np.uint8)
    whole[:, :6], whole[:, 6:] = 200, 50
    for name in ("1.png", "2.png"):
        PIL.Image.fromarray(whole).save(tmp_path / name)
    source = pairs.load(tmp_path, source=half)
    for key, value in zip(("source", "image"), expected, strict=True):
        np.testing.assert_array_equal(source.arrays[key], np.full((2, 4, 6, 3), value))
    # Halves are cut apart before they are resized: no pixel is of both.
    small = pairs.load(tmp_path, source=half, image_size=3, channels=1)
    np.testing.assert_array_equal(small.arrays["image"], np.full((2, 3, 3, 1), expected[1]))
    np.testing.assert_array_equal(small.arrays["source"], np.full((2, 3, 3, 3), expected[0]))


def test_files_of_one_folder_belong_together_by_their_suffixes(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.PNG", 10 * number)
        picture(tmp_path / f"{number}.bmp", 100 + 10 * number)
    assert first_pixels(pairs.load(tmp_path, source=".png")) == ([0, 10, 20], [100, 110, 120])
    assert first_pixels(pairs.load(tmp_path, source=".bmp")) == ([100, 110, 120], [0, 10, 20])


def test_train_and_test_are_splits_of_both_folders(two):
    for part in ("train", "test"):
        picture(two / f"images/{part}/x.png", 1)
        picture(two / f"sources/{part}/x.png", 1 if part == "train" else 7)
    found = pairs.load(two / "images", source=two / "sources", split="test")
    assert first_pixels(found) == ([7], [1])
    with pytest.raises(arrays.MissingSplit):
        pairs.load(two / "b", source=two / "a", split="test")


@pytest.mark.parametrize("source", ["a", "left"])
def test_streamed_and_kept_pairs_are_the_same(two, monkeypatch, source):
    options = {"source": two / "a" if source == "a" else source, "image_size": (2, 3)}
    kept = pairs.load(two / "b", **options)
    monkeypatch.setattr(folder, "MEMORY_FILES", 0)
    streamed = pairs.load(two / "b", **options)
    assert isinstance(streamed, pairs.PairSource) and streamed.image_shape == kept.image_shape
    index = np.array([2, 0, 2, 1])
    for key in ("image", "source"):
        np.testing.assert_array_equal(streamed[index][key], kept[index][key])
    assert len(streamed.fingerprint) == 16
    rest, test = subsets.hold_out(streamed)
    assert len(rest) == 2 and set(test[np.array([0])]) == {"image", "source"}


def test_a_batch_is_prepared_as_any_other(two):
    batches = pipeline.batches(pairs.load(two / "b", source=two / "a"), batch_size=2, seed=0)
    batch = pipeline.prepare(next(batches))
    assert batch["source"].dtype == batch["image"].dtype == np.float32
    assert -1 <= batch["source"].min() < -0.5


def test_both_of_a_pair_are_turned_as_their_exif_says_and_laid_over_white(tmp_path):
    turned = PIL.Image.new("RGB", (4, 6), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    turned.save(tmp_path / "a/x.jpg", exif=exif)
    (tmp_path / "b").mkdir()
    PIL.Image.new("LA", (6, 4)).save(tmp_path / "b/x.png")
    found = pairs.load(tmp_path / "a", source=tmp_path / "b")
    assert found.image_shape == (4, 6, 3) and (found.arrays["source"] == 255).all()


# --- mistakes, one line each ---


def refused(words, *arguments, **options):
    with pytest.raises(UserError, match=words) as caught:
        pairs.load(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_partner_is_named_with_both_numbers(two):
    picture(two / "a/more.png", 1)
    words = r"a/more.png: has no partner .* in .*b; .*b holds 3 pictures and .*a 4; .* remove"
    refused(words, two / "b", source=two / "a")
    (two / "b/more.gif").write_bytes((two / "a/more.png").read_bytes())
    (two / "a/x.png").unlink()
    (two / "a/y.png").unlink()
    refused(r"b/x.bmp: .* \(2 such files\)", two / "b", source=two / "a")


def test_two_files_of_one_name_are_refused(two):
    picture(two / "a/x.gif", 1)
    refused(r"a: x.gif and x.png have one name", two / "b", source=two / "a")


def test_a_suffix_that_does_not_match_is_named(tmp_path):
    picture(tmp_path / "1.png", 1)
    picture(tmp_path / "2.png", 1)
    picture(tmp_path / "1.bmp", 1)
    refused("2.png: has no partner of its name with another suffix", tmp_path, source=".png")
    (tmp_path / "1.bmp").unlink()
    words = r"1.png: .* with suffix .gif beside it \(2 such files\)"
    refused(words, tmp_path, source=".gif")


@pytest.mark.parametrize("image_size", [0, 4])
def test_sizes_that_differ_within_a_pair_are_refused(two, image_size):
    picture(two / "a/y.png", 1, size=(6, 5))
    words = r"a/y.png: is 5x6 \(height x width\), but .*b/y.bmp is 4x6; make both of one size"
    refused(words, two / "b", source=two / "a", image_size=image_size)


def test_sizes_that_differ_between_pairs_need_a_size(two):
    picture(two / "a/y.png", 1, size=(6, 5))
    picture(two / "b/y.bmp", 1, size=(6, 5))
    refused("images differ in size .* set image_size", two / "b", source=two / "a")
    assert len(pairs.load(two / "b", source=two / "a", image_size=4)) == 3


def test_an_odd_width_has_no_halves(tmp_path):
    picture(tmp_path / "x.png", 1, size=(7, 4))
    refused("x.png: is 4x7 .* no two equal halves .* even width", tmp_path, source="left")


def test_a_source_that_is_not_there_is_refused(two):
    refused("lft: no such folder", two / "b", source=two / "lft")


# --- damaged files ---


def test_a_pair_with_a_damaged_file_is_left_out_and_named(two, caplog):
    (two / "a/x.png").write_bytes(b"no picture")
    found = pairs.load(two / "b", source=two / "a")
    assert first_pixels(found) == ([25, 15], [20, 10])
    assert "a/x.png: skipped" in caplog.text
    refused("1 of 6 image files cannot", two / "b", source=two / "a", max_bad_records=0)


@pytest.mark.parametrize("in_memory", [True, False])
def test_no_pair_left_is_an_error_instead_of_a_search_without_end(two, monkeypatch, in_memory):
    monkeypatch.setattr(folder, "MEMORY_FILES", 100 if in_memory else 0)
    for name in ("a/x.png", "a/y.png", "b/deep/z.bmp"):
        (two / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match="not one pair of which both files can be read"):
        pairs.load(two / "b", source=two / "a")[np.arange(2)]


# --- real pairs ---


def test_real_facades_are_photos_and_their_labels(real_data):
    root = real_data / "facades"
    if not root.is_dir():
        pytest.skip("needs facades/ of the real datasets")
    test = pairs.load(root, source=".png", split="test", image_size=32)
    assert len(test) == 206 and test.image_shape == (32, 32, 3)
    # Label pictures have few colours and photos many.
    colours = [
        len(np.unique(test.arrays[k][0].reshape(-1, 3), axis=0)) for k in ("source", "image")
    ]
    assert colours[0] < colours[1]
