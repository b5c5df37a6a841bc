"""Metrics of restored images, against scikit-image 0.26 and numbers by hand."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxgan.metrics import restoration
from jaxgan.types import UserError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pair():
    """Two images [23, 31, 3] that scikit-image's numbers are of."""
    random = np.random.default_rng(0)
    target = random.integers(0, 256, (23, 31, 3), np.uint8)
    noise = random.integers(-60, 61, target.shape)
    return np.clip(target.astype(int) + noise, 0, 255).astype(np.uint8), target


def test_decibels_are_those_of_scikit_image_and_of_numbers_by_hand(pair):
    assert restoration.psnr(*pair) == pytest.approx(17.907680809868804, rel=1e-9)
    assert restoration.psnr(*pair, border=4) == pytest.approx(18.062762832100493, rel=1e-9)
    grey = np.full((4, 4), 100, np.uint8)
    assert restoration.psnr(grey, grey + 5) == pytest.approx(20 * np.log10(255 / 5))
    assert restoration.psnr(grey, grey) == np.inf


def test_similarity_is_that_of_scikit_image(pair):
    assert restoration.ssim(*pair) == pytest.approx(0.9106162246243664, abs=1e-9)
    first = (image[..., 0] for image in pair)
    assert restoration.ssim(*first) == pytest.approx(0.91341511508537, abs=1e-9)
    assert restoration.ssim(pair[1], pair[1]) == 1


def test_luminance_is_that_of_scikit_image(pair):
    output, target = pair
    y = restoration.luminance(target)
    told = (y[..., 0] + 1) * 127.5
    assert told[0, 0] == pytest.approx(124.92544705882352)
    assert told[10, 20] == pytest.approx(155.08045882352943)
    db = restoration.psnr(restoration.luminance(output), y)
    assert db == pytest.approx(22.482885903689752, rel=1e-9)
    white = np.full((1, 1, 3), 255, np.uint8)
    assert (restoration.luminance(white)[0, 0, 0] + 1) * 127.5 == pytest.approx(235)
    np.testing.assert_allclose(restoration.luminance(white[..., :1]), 1)  # grey stays grey


def test_floats_count_as_the_bytes_they_stand_for_and_are_cut_off(pair):
    output, target = (image.astype(np.float32) / 127.5 - 1 for image in pair)
    assert restoration.psnr(output, target) == pytest.approx(17.907680809868804, rel=1e-5)
    assert restoration.psnr(np.full((4, 4), 1.5), np.full((4, 4), 1.0)) == np.inf


def test_what_cannot_be_compared_is_one_line(pair):
    output, target = pair
    with pytest.raises(UserError, match=r"an image of \[22, 31, 3\] cannot be compared with one"):
        restoration.psnr(output[1:], target)
    with pytest.raises(UserError, match="too small to compare; need 11 pixels"):
        restoration.ssim(output, target, border=7)
    with pytest.raises(UserError, match="a border of 12 leaves nothing of an image of"):
        restoration.psnr(output, target, border=12)
    with pytest.raises(UserError, match="need images of 16 pixels a side or more, not 15"):
        restoration.texture_distance(KEY, [target], [output[:15]])


def _textured(seed, num=8):
    """Pictures of noise, of two sizes."""
    random = np.random.default_rng(seed)
    shapes = [(31, 24, 1), (24, 24, 1)]
    return [
        np.clip(random.normal(128, 40, shapes[i % 2]), 0, 255).astype(np.uint8) for i in range(num)
    ]


def test_edges_are_compared_by_their_steepness_worked_by_hand():
    ramp = np.zeros((3, 6))
    ramp[:, 3:] = 200  # Sobel's magnitude is 4 * 200 on both sides of the edge, 0 elsewhere
    moved = np.roll(ramp, 1, 1)
    moved[:, 0] = 0
    ours = restoration.edge_correlation(ramp.astype(np.uint8), moved.astype(np.uint8))
    steep = np.array([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]] * 3).reshape(3, 2, 6)
    hand = np.corrcoef(steep[:, 0].ravel(), steep[:, 1].ravel())[0, 1]
    assert ours == pytest.approx(hand) == pytest.approx(0.25)
    colours = np.stack([ramp, ramp, ramp], -1).astype(np.uint8)
    assert restoration.edge_correlation(colours, 255 - colours) == pytest.approx(1)
    assert restoration.edge_correlation(colours, np.zeros_like(colours)) == 0


def test_textures_of_equal_sets_are_equal_and_blurred_ones_far_from_them():
    def distance(fake):
        found = restoration.texture_distance(KEY, real, fake, num=128, projections=64)
        assert set(found) == {"1", "mean"}  # half of 24 pixels is too small
        return found["mean"]

    real, other = _textured(0), _textured(1)
    assert distance(real) == 0
    floor = distance(other)
    assert 0 < 2 * floor < distance([ndimage.uniform_filter(x, (5, 5, 1)) for x in real])
    # What differs is where patches are bright, not how bright: each set has a scale of its own.
    assert distance([np.round(128 + (x - 128.0) / 2).astype(np.uint8) for x in real]) < floor


def test_few_pictures_have_the_textures_of_themselves_moved_by_a_pixel():
    real = [ndimage.gaussian_filter(x, (1, 1, 0)) for x in _textured(2, num=2)]
    moved = [np.roll(x, 1, axis=1) for x in real]
    few, many = (
        restoration.texture_distance(KEY, real, moved, num=num, projections=64)["mean"]
        for num in (32, 0)
    )
    blurred = [ndimage.gaussian_filter(x, (1, 1, 0)) for x in real]
    assert 3 * many < few
    assert 3 * many < restoration.texture_distance(KEY, real, blurred, projections=64)["mean"]


def test_patches_are_normalised_and_lie_inside():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    for level in range(2):
        found = restoration._patches(KEY, images, level, 9, last=level == 1)
        assert found.shape == (6 * 9, 7 * 7 * 3)
        channels = found.reshape(-1, 3)
        np.testing.assert_allclose(channels.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(channels.std(0), 1, rtol=1e-3)


def test_patches_come_from_the_levels_of_a_pyramid_worked_by_hand():
    image = np.zeros((32, 32, 1), np.float64)
    image[::2] = 1.0  # rows that alternate: all of it in the finest level
    band = np.asarray(
        restoration.similarity.laplacian_level(np.float32(image)[None], 0, last=False)
    )
    np.testing.assert_allclose(band[0, 8:-8, 8:-8], image[8:-8, 8:-8] - 0.5, atol=1e-6)
    rest = restoration.similarity.laplacian_level(np.float32(image)[None], 1, last=True)
    assert rest.shape == (1, 16, 16, 1)
    np.testing.assert_allclose(np.asarray(rest)[0, 2:-2, 2:-2], 0.5, atol=1e-6)
