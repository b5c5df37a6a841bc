"""What ADA draws: how often, and how much."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.augment import draws

KEY = jax.random.key(5)
ONE, HALF = jnp.float32(1.0), jnp.float32(0.5)
MANY = (2000, 16, 16, 3)


def _linear(matrix):
    return np.asarray(matrix)[:, :2, :2]


def test_blits_mirror_turn_and_move_as_often_as_they_should():
    drawn = draws.blit(KEY, HALF, MANY)
    linear, moved = _linear(drawn), np.asarray(drawn)[:, :2, 2]
    assert set(np.unique(linear)) <= {-1.0, 0.0, 1.0}
    mirrored = np.linalg.det(linear) < 0
    np.testing.assert_allclose(mirrored.mean(), 0.25, atol=0.045)  # 4.6 deviations
    quarter = linear[:, 0, 0] == 0
    np.testing.assert_allclose(quarter.mean(), 0.25, atol=0.045)
    np.testing.assert_array_equal(moved, np.round(moved))
    # U(-2, 2) rounds to 0 one time in four, in both directions at once one in sixteen.
    assert np.abs(moved).max() == 2
    np.testing.assert_allclose((moved == 0).all(1).mean(), 0.5 + 0.5 / 16, atol=0.052)


def test_geometry_scales_turns_and_moves_as_often_as_it_should():
    drawn = draws.geometry(KEY, HALF, MANY)
    linear = _linear(drawn)
    area = np.abs(np.linalg.det(linear))  # of the inverse: 1 / scale^2
    scaled = np.abs(area - 1) > 1e-4
    np.testing.assert_allclose(scaled.mean(), 0.5, atol=0.052)
    deviation = np.std(-0.5 * np.log2(area[scaled]))
    np.testing.assert_allclose(deviation, 0.2, atol=0.022)
    turned = np.abs(linear[:, 0, 1]) > 1e-6
    np.testing.assert_allclose(turned.mean(), 0.5, atol=0.052)  # by either turn
    singular = np.linalg.svd(linear, compute_uv=False)
    stretched = singular[:, 0] / singular[:, 1] > 1 + 1e-4
    np.testing.assert_allclose(stretched.mean(), 0.5, atol=0.052)
    moved = np.asarray(drawn)[:, :2, 2]
    np.testing.assert_allclose((moved != 0).all(1).mean(), 0.5, atol=0.052)


def test_colour_matrices_keep_what_they_should():
    matrix = np.asarray(draws.color(KEY, HALF, MANY))
    grey = matrix[:, :, :3].sum(2)  # where grey (1, 1, 1) goes: along itself
    np.testing.assert_allclose(grey, np.repeat(grey[:, :1], 3, 1), atol=1e-4)
    np.testing.assert_allclose((grey[:, 0] < 0).mean(), 0.25, atol=0.045)  # flipped
    contrast = np.abs(grey[:, 0])
    changed = np.abs(contrast - 1) > 1e-4
    np.testing.assert_allclose(changed.mean(), 0.5, atol=0.052)
    np.testing.assert_allclose(np.log2(contrast[changed]).std(), 0.5, atol=0.055)
    np.testing.assert_allclose((matrix[:, 0, 3] != 0).mean(), 0.5, atol=0.052)
    # Across the grey axis: a turn times contrast times saturation, so two equal singular values.
    across = matrix[:, :, :3] @ (np.eye(3) - 1 / 3)
    singular = np.linalg.svd(across, compute_uv=False)
    np.testing.assert_allclose(singular[:, 0], singular[:, 1], rtol=1e-3)
    vivid = singular[:, 0] / contrast
    saturated = np.abs(vivid - 1) > 1e-3
    np.testing.assert_allclose(saturated.mean(), 0.5, atol=0.052)
    np.testing.assert_allclose(np.log2(vivid[saturated]).std(), 1.0, atol=0.11)


def test_grey_images_have_neither_hue_nor_saturation():
    matrix = np.asarray(draws.color(KEY, ONE, (2000, 4, 4, 1)))
    np.testing.assert_allclose(np.log2(np.abs(matrix[:, 0, 0])).std(), 0.5, atol=0.04)
    np.testing.assert_allclose((matrix[:, 0, 0] < 0).mean(), 0.5, atol=0.052)


def test_an_amplified_band_dims_the_others_to_keep_the_power_of_natural_images():
    # So rare that hardly ever two bands of an image are amplified at once.
    gains = np.asarray(draws.bands(KEY, jnp.float32(0.02), (5000, 8, 8, 1)))
    power = np.square(gains) @ (np.array([10, 1, 1, 1]) / 13)
    assert (np.abs(power - 1) < 1e-4).mean() > 0.99
    hit = np.abs(gains - 1).max(1) > 1e-5
    np.testing.assert_allclose(hit.mean(), 1 - 0.98**4, atol=0.018)
    for band in range(4):  # the band that stands out, relative to another one, is 2^N(0, 1)
        ratio = np.log2(gains[hit, band] / gains[hit, band - 1])
        ratio = ratio[np.abs(ratio) > 1e-4]
        np.testing.assert_allclose(np.sqrt(np.square(ratio).mean()), 1.0, atol=0.25)
