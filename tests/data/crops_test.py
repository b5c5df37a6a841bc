import itertools

import numpy as np
import PIL.Image
import pytest

from jaxgan.data import crops, pictures, pipeline, spec
from jaxgan.types import UserError


def charts(*sizes):
    """Pictures [height, width] whose pixels say where they are: number, row, column."""
    images = []
    for number, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        images.append(np.stack([np.full_like(rows, number), rows, columns], -1).astype(np.uint8))
    names = tuple(f"{number}.png" for number in range(len(sizes)))
    return pictures.Pictures("charts", names, tuple(images))


SOURCE = crops.CropSource(charts((9, 14), (6, 5), (30, 7)), crop=5)


def test_a_crop_is_a_part_of_its_picture_in_one_of_eight_positions():
    batch = SOURCE[np.arange(600)]["image"]
    assert batch.shape == (600, 5, 5, 3) and batch.dtype == np.uint8
    seen = set()
    for image in batch:
        top, left = image[..., 1].min(), image[..., 2].min()
        part = SOURCE.pictures.images[image[0, 0, 0]][top : top + 5, left : left + 5]
        ways = [np.rot90(x, turns) for x in (part, part[:, ::-1]) for turns in range(4)]
        [way] = [i for i, candidate in enumerate(ways) if (candidate == image).all()]
        seen.add(way)
    assert seen == set(range(8))


def test_pictures_come_equally_often_and_every_place_in_them_is_as_likely():
    source = crops.CropSource(charts((7, 9)), crop=5, crops_each=3000)
    batch = source[np.arange(3000)]["image"]
    top, left = batch[..., 1].min((1, 2)), batch[..., 2].min((1, 2))
    counts = np.bincount(top * 5 + left, minlength=15)
    np.testing.assert_allclose(counts, 200, atol=65)  # 4.7 standard deviations
    numbers = SOURCE[np.arange(len(SOURCE))[:3000]]["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(np.bincount(numbers), [1000] * 3)


def test_a_crop_is_a_function_of_its_number_alone():
    index = np.array([7, 0, 900_000, 7])
    batch = SOURCE[index]["image"]
    np.testing.assert_array_equal(batch[0], batch[3])
    for number, image in zip(index, batch, strict=True):
        np.testing.assert_array_equal(SOURCE[number]["image"], image)
    again = crops.CropSource(SOURCE.pictures, crop=5)
    np.testing.assert_array_equal(again[index]["image"], batch)
    np.testing.assert_array_equal(SOURCE[-1]["image"], SOURCE[len(SOURCE) - 1]["image"])
    other = crops.CropSource(SOURCE.pictures, crop=5, seed=1)
    assert (other[np.arange(50)]["image"] != SOURCE[np.arange(50)]["image"]).any()
    assert other.fingerprint != SOURCE.fingerprint == again.fingerprint


def test_the_places_are_those_that_runs_were_started_with():
    # If this fails, runs begun before the change cannot be resumed: do not change the places.
    batch = SOURCE[np.arange(4)]["image"]
    corners = [[image[0, 0], image[0, -1]] for image in batch]
    expected = [
        [[0, 1, 0], [0, 5, 0]],
        [[1, 1, 4], [1, 5, 4]],
        [[2, 13, 5], [2, 17, 5]],
        [[0, 8, 2], [0, 4, 2]],
    ]
    np.testing.assert_array_equal(corners, expected)


def test_hashes_are_those_of_splitmix64():
    # The first numbers from state 0, as published with the generator.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    np.testing.assert_array_equal(
        crops._hashed(np.arange(3, dtype=np.uint64)), np.array(expected, np.uint64)
    )


def test_without_turns_crops_are_as_in_their_picture():
    source = crops.CropSource(charts((9, 14)), crop=5, turned=False)
    for image in source[np.arange(50)]["image"]:
        assert (np.diff(image[..., 1], axis=0) == 1).all()
        assert (np.diff(image[..., 2], axis=1) == 1).all()


@pytest.mark.parametrize("mode", ["auto", "host", "stream"])
def test_batches_are_of_the_seed_and_the_step_in_every_mode(mode):
    first = pipeline.batches(SOURCE, batch_size=4, seed=0, mode=mode)
    batches = [next(first)["image"] for _ in range(3)]
    later = pipeline.batches(SOURCE, batch_size=4, seed=0, mode="host", start=2)
    np.testing.assert_array_equal(next(later)["image"], batches[2])
    assert (batches[0] != batches[1]).any()
    first.close()


def test_crops_cannot_be_on_the_device_whole():
    with pytest.raises(UserError, match="which charts is not as arrays; use stream"):
        pipeline.batches(SOURCE, batch_size=4, seed=0, mode="resident")


def test_a_crop_as_large_as_its_picture_is_the_picture():
    source = crops.CropSource(charts((5, 5)), crop=5, turned=False, crops_each=2)
    assert len(source) == 2
    np.testing.assert_array_equal(source[1]["image"], source.pictures.images[0])


def test_an_epoch_has_a_million_crops_and_its_spec_says_their_shape():
    assert len(SOURCE) == crops.EPOCH // 3 * 3
    assert spec.describe(SOURCE).num_examples == 3
    assert spec.describe(SOURCE).shapes == {"image": (5, 5, 3)} and spec.describe(SOURCE)


def test_a_number_outside_is_an_index_error_so_that_loops_end():
    source = crops.CropSource(charts((5, 5)), crop=5, crops_each=4)
    assert len(list(itertools.islice(source, 10))) == 4
    with pytest.raises(IndexError, match="has crops 0..3, asked for"):
        source[np.array([0, -5])]


def test_a_folder_is_read_and_cropped(tmp_path):
    for number, size in enumerate([(12, 8), (8, 20)]):
        PIL.Image.new("L", size, number).save(tmp_path / f"{number}.png")
    source = crops.load(tmp_path, crop=8)
    assert source.image_shape == (8, 8, 1) and set(np.unique(source[np.arange(9)]["image"])) == {
        0,
        1,
    }


def test_a_picture_smaller_than_a_crop_is_named_with_the_remedy():
    words = r"charts.1.png: is 6x5 \(height x width\), smaller than a crop of 6; remove it, or set"
    with pytest.raises(UserError, match=words + " crop to 5 or less"):
        crops.CropSource(SOURCE.pictures, crop=6)
    with pytest.raises(UserError, match="smaller than a crop of 8 .2 such pictures.; remove them"):
        crops.CropSource(SOURCE.pictures, crop=8)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"crop": 0}, "crop 0"),
        ({"crop": 2, "seed": -1}, "seed -1"),
        ({"crop": 2, "crops_each": -1}, "each -1"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        crops.CropSource(SOURCE.pictures, **options)


def test_real_photos_are_cropped(real_data):
    root = real_data / "restoration" / "train400"
    if not root.is_dir():
        pytest.skip("needs restoration/ of the real datasets")
    source = crops.load(root, crop=40)
    assert len(source.pictures) == 400 and source[np.arange(128)]["image"].shape == (128, 40, 40, 1)
