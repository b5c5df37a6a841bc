"""Transforms with given amounts: against NumPy and SciPy, and bit for bit where nothing changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from jaxgan.augment import transforms

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(-1, 1, (3, 9, 7, 2)).astype(np.float32)
warp = jax.jit(transforms.warp)


def _each(matrix):
    return jnp.asarray(np.broadcast_to(np.float32(matrix), (3, 3, 3)))


def _shift(right, down):
    return _each([[1, 0, -right], [0, 1, -down], [0, 0, 1]])


@pytest.mark.parametrize("transform", [warp, jax.jit(transforms.move_pixels)])
def test_whole_pixel_maps_are_numpys_bit_for_bit(transform):
    np.testing.assert_array_equal(transform(IMAGES, _each(np.eye(3))), IMAGES)
    np.testing.assert_array_equal(transform(IMAGES, _each(np.diag([-1, 1, 1]))), IMAGES[:, :, ::-1])
    square = IMAGES[:, :7]
    turned = transform(square, _each([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    np.testing.assert_array_equal(turned, np.rot90(square, -1, (1, 2)))
    padded = np.pad(IMAGES, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(transform(IMAGES, _shift(2, -3)), padded[:, 7:16, 2:9])


def test_a_turn_of_sides_odd_and_even_shows_every_pixel_once():
    # 9 x 6: turned, columns come from halves of pixels; all go to the same side.
    image = np.tile(np.arange(6.0, dtype=np.float32), (9, 1))[None, ..., None]
    turned = transforms.move_pixels(image, _each([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])[:1])
    column = np.asarray(turned)[0, :, 2, 0]  # of the mirrored image 1 0 1 2 3 4 5 4 3
    assert (np.abs(np.diff(column)) == 1).all()


def test_a_cubic_between_pixels_is_catmull_and_roms():
    # Halfway, the weights are (-1, 9, 9, -1) / 16.
    moved = warp(IMAGES, _shift(-0.5, 0))
    row = IMAGES[0, 4, :, 0]
    expected = (-row[1] + 9 * row[2] + 9 * row[3] - row[4]) / 16
    np.testing.assert_allclose(moved[0, 4, 2, 0], expected, rtol=1e-5)


def test_a_turned_and_scaled_smooth_image_is_scipys():
    # On a smooth image, interpolations of different kinds agree.
    y, x = np.mgrid[:32, :32] / 32
    image = np.sin(5 * x + 3 * y) + np.cos(4 * y - 2 * x)
    angle, scale = 0.5, 0.8
    inverse = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = np.array([1.3, -0.6])
    full = np.eye(3)
    full[:2, :2], full[:2, 2] = inverse, shift
    ours = warp(jnp.float32(image)[None, ..., None], jnp.float32(full)[None])
    # SciPy counts rows first, from the first pixel.
    swapped, centre = inverse[::-1, ::-1], np.array([15.5, 15.5])
    theirs = scipy.ndimage.affine_transform(
        image, swapped, centre - swapped @ centre + shift[::-1], order=3, mode="mirror"
    )
    # Near the edges, SciPy's spline feels the kink of the mirror.
    np.testing.assert_allclose(ours[0, 8:-8, 8:-8, 0], theirs[8:-8, 8:-8], atol=2e-3)
    place = full @ np.stack([32 * x.ravel() - 15.5, 32 * y.ravel() - 15.5, np.ones(1024)])
    x, y = (place[:2].reshape(2, 32, 32) + 15.5) / 32
    truth = np.sin(5 * x + 3 * y) + np.cos(4 * y - 2 * x)
    np.testing.assert_allclose(ours[0, 4:-4, 4:-4, 0], truth[4:-4, 4:-4], atol=2e-3)


def _turned(scale, angle, shift=(0.0, 0.0)):
    """The inverse of a map that shrinks by `scale` and turns."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, sine, shift[0]], [-sine, cosine, shift[1]], [0, 0, 1]])


def _wave(rows, columns, places=None):
    """A wave of so many half periods on each axis of 32 x 32: its mirror images continue it."""
    x, y = np.meshgrid(np.arange(32), np.arange(32)) if places is None else places
    return np.cos(np.pi * rows * y / 31) * np.cos(np.pi * columns * x / 31)


def _warped(image, inverse):
    result = warp(jnp.float32(image)[None, ..., None], jnp.float32(inverse)[None])
    return np.asarray(result)[0, ..., 0]


def test_a_checkerboard_that_shrinks_by_half_is_its_mean_grey():
    board = 0.25 + _wave(31, 31)  # 1.25 and -0.75, in turn
    for angle in (0.0, 0.5, np.pi / 4):
        shrunk = _warped(board, _turned(2.0, angle, (0.3, 0.1)))
        np.testing.assert_allclose(shrunk, 0.25, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_what_is_too_fine_for_a_shrunk_image_is_removed_and_nothing_else(angle):
    inverse = _turned(1.6, angle, (1.3, -0.6))
    u, v = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)
    places = (inverse @ np.stack([u.ravel(), v.ravel(), np.ones(1024)]))[:2] + 15.5
    removed = 0
    for half_periods in [(0, 2), (2, 1), (0, 27), (28, 2), (27, 29), (31, 31)]:
        y, x = (n / 62 for n in half_periods)  # cycles a pixel, in the image
        in_result = [np.abs(inverse[:2, :2].T @ [x, sign * y]).max() for sign in (1, -1)]
        ours = _warped(_wave(*half_periods), inverse)
        if min(in_result) >= 0.6:
            np.testing.assert_allclose(ours, 0, atol=1e-4)
            removed += 1
        else:  # smooth: as the formula says
            assert max(in_result) < 0.1
            truth = _wave(*half_periods, places.reshape(2, 32, 32))
            np.testing.assert_allclose(ours, truth, atol=1e-3)
    assert removed >= 3


def test_most_of_what_noise_would_alias_is_removed():
    # What pixels of a half-sized image cannot show: a cubic alone lets half of its energy through.
    noise = RANDOM.normal(size=(8, 32, 32))
    spectrum, x = np.fft.fft2(noise), np.abs(np.fft.fftfreq(32))
    fine = np.fft.ifft2(np.where(np.maximum(x[:, None], x[None]) > 0.25, spectrum, 0)).real
    inverse = np.repeat(_turned(2.0, 0.0)[None], 8, 0)
    aliased = warp(jnp.float32(fine)[..., None], jnp.float32(inverse))
    energy = np.square(np.asarray(aliased)[:, 8:-8, 8:-8]).mean() / np.square(fine).mean()
    assert energy < 0.04


def test_a_mirrored_image_warps_to_the_mirror_image():
    inverse = _turned(1.5, 0.7, (1.0, 2.0))
    mirror = np.diag([-1.0, 1.0, 1.0])
    there = warp(IMAGES[:, :, ::-1], _each(mirror @ inverse @ mirror))
    np.testing.assert_allclose(there, warp(IMAGES, _each(inverse))[:, :, ::-1], atol=1e-5)


def test_channels_are_mixed_by_their_matrix():
    matrix = RANDOM.normal(size=(3, 2, 3)).astype(np.float32)
    for image, m, result in zip(
        IMAGES, matrix, transforms.mix_channels(IMAGES, matrix), strict=True
    ):
        np.testing.assert_allclose(result, image @ m[:, :2].T + m[:, 2], rtol=1e-4, atol=1e-5)


def test_bands_add_up_to_the_image_and_have_their_frequencies():
    filters = transforms.band_filters()
    delta = np.zeros(43)
    delta[21] = 1
    np.testing.assert_allclose(filters.sum(0), delta, atol=1e-12)
    np.testing.assert_allclose(filters, filters[:, ::-1], atol=1e-12)
    response = np.abs(np.fft.rfft(filters, 4096, axis=1))  # 0 to pi in 2049 steps
    middles = [0, 3 * 2048 // 16, 3 * 2048 // 8, 2048]
    for band, middle in enumerate(middles):
        assert response[band, middle] > 0.7
        assert response[band, middle] == response[:, middle].max()


def test_scaled_bands_are_scipys_convolution_of_the_mirrored_image():
    gains = np.array([[1, 1, 1, 1], [2, 1, 0.5, 1], [0.3, 1.4, 1, 2]], np.float32)
    result = transforms.scale_bands(IMAGES, jnp.asarray(gains))
    np.testing.assert_array_equal(result[0], IMAGES[0])
    for image, gain, ours in zip(IMAGES, gains, result, strict=True):
        kernel = gain @ transforms.band_filters()
        theirs = scipy.ndimage.convolve1d(image, kernel, axis=0, mode="mirror")
        theirs = scipy.ndimage.convolve1d(theirs, kernel, axis=1, mode="mirror")
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_places_next_to_whole_pixels_meet_their_own_weights(compiled):
    # Row 1, column 1 comes from next to row 2, column 1: from either side, by rounding.
    inverse = _each([[0.7, 0.2, 0], [-0.2, 0.7, -0.3], [0, 0, 1]])
    warped = (warp if compiled else transforms.warp)(IMAGES, inverse)
    np.testing.assert_allclose(warped[:, 1, 1], IMAGES[:, 2, 1], atol=2e-3)
    y = RANDOM.normal(size=IMAGES.shape).astype(np.float32)
    plain = (np.asarray(transforms.warp(IMAGES, inverse)) * y).sum()
    np.testing.assert_allclose((warped * y).sum(), plain, rtol=1e-4)


def test_an_image_of_one_pixel_survives():
    image = jnp.full((1, 1, 1, 1), 0.5)
    np.testing.assert_allclose(warp(image, jnp.eye(3)[None] * 1.3), 0.5, rtol=1e-6)
    np.testing.assert_allclose(transforms.scale_bands(image, jnp.ones((1, 4))), 0.5, rtol=1e-6)


def test_gradients_of_a_warp_are_its_transpose():
    # <warp(x), y> is linear in x: its gradient at any x, dotted with x, is <warp(x), y> itself.
    inverse = _each([[0.9, 0.2, 0.4], [-0.3, 1.1, 0.7], [0, 0, 1]])
    y = RANDOM.normal(size=IMAGES.shape).astype(np.float32)
    product = jax.jit(lambda x: (transforms.warp(x, inverse) * y).sum())
    grad = jax.jit(jax.grad(product))(np.zeros_like(IMAGES))
    np.testing.assert_allclose((grad * IMAGES).sum(), product(IMAGES), rtol=1e-4)
