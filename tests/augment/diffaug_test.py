"""DiffAugment: hand numbers, NumPy references, ranges, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import types
from jaxgan.augment import diffaug

KEY = jax.random.key(3)


def _images(shape=(5, 6, 4, 3), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_brightness_saturation_and_contrast_are_worked_by_hand():
    image = jnp.array([[[[1.0, 3.0], [5.0, 7.0]]]])  # greys 2 and 6, mean 4
    np.testing.assert_allclose(
        diffaug.brightness(image, jnp.array([0.5])), [[[[1.5, 3.5], [5.5, 7.5]]]]
    )
    np.testing.assert_allclose(
        diffaug.saturation(image, jnp.array([2.0])), [[[[0.0, 4.0], [4.0, 8.0]]]]
    )
    np.testing.assert_allclose(
        diffaug.contrast(image, jnp.array([0.5])), [[[[2.5, 3.5], [4.5, 5.5]]]]
    )


@pytest.mark.parametrize("down,right", [(0, 0), (2, -1), (-1, 3), (5, 0), (0, -4)])
def test_translation_is_numpys_roll_without_what_comes_round(down, right):
    images = _images()
    expected = np.roll(images, (down, right), (1, 2))
    rows, columns = np.arange(6) - down, np.arange(4) - right
    expected[:, (rows < 0) | (rows >= 6)] = 0
    expected[:, :, (columns < 0) | (columns >= 4)] = 0
    shift = jnp.full((5, 2), jnp.array([[down, right]]))
    np.testing.assert_array_equal(diffaug.translate(images, shift), expected)


def test_shifts_go_up_to_an_eighth_each_way_and_differ_between_images():
    images = np.zeros((400, 17, 17, 1), np.float32)
    images[:, 8, 8] = 1.0
    moved = np.asarray(diffaug.translation(KEY, images))
    places = np.argwhere(moved[..., 0])[:, 1:] - 8
    assert len(places) == 400
    for axis in (0, 1):
        values, counts = np.unique(places[:, axis], return_counts=True)
        np.testing.assert_array_equal(values, [-2, -1, 0, 1, 2])
        np.testing.assert_allclose(counts, 80, atol=35)  # 4.4 standard deviations


@pytest.mark.parametrize("corner", [(1, 1), (-2, 3), (5, -1), (9, 9)])
def test_cut_sets_a_rectangle_to_zero_and_nothing_else(corner):
    images, expected = _images(), _images()
    rows = slice(max(corner[0], 0), max(corner[0] + 3, 0))
    columns = slice(max(corner[1], 0), max(corner[1] + 2, 0))
    expected[:, rows, columns] = 0
    corners = jnp.full((5, 2), jnp.array([corner]))
    np.testing.assert_array_equal(diffaug.cut(images, corners, (3, 2)), expected)


def test_cutout_holes_have_half_the_sides_and_stick_out_at_most_by_half():
    holes = np.asarray(diffaug.cutout(KEY, np.ones((500, 8, 8, 1), np.float32)))[..., 0] == 0
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    assert set(rows) == set(columns) == {2, 3, 4}
    np.testing.assert_array_equal(holes.sum((1, 2)), rows * columns)
    # Every corner is covered, and the middle as often as geometry says: 4 of 9 places, each side.
    assert holes.any(0).all()
    np.testing.assert_allclose(holes[:, 4, 4].mean(), (4 / 9) ** 2, atol=0.09)


def test_colour_amounts_have_the_papers_ranges():
    # Of a plain image only brightness is seen; of (1, -1) pixels only contrast and saturation.
    plain = np.asarray(diffaug.color(KEY, np.zeros((500, 2, 2, 3), np.float32)))[:, 0, 0, 0]
    assert -0.5 <= plain.min() < -0.45 and 0.45 < plain.max() <= 0.5
    grey = np.ones((500, 2, 2, 1), np.float32)
    grey[:, 0] = -1
    changed = np.asarray(diffaug.color(KEY, grey))
    factor = (changed[:, 1, 0, 0] - changed[:, 0, 0, 0]) / 2
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    tinted = np.zeros((500, 1, 1, 2), np.float32)
    tinted[..., 0], tinted[..., 1] = 1, -1  # saturation then contrast: a product in [0, 3)
    changed = np.asarray(diffaug.color(KEY, tinted))[:, 0, 0]
    factor = (changed[:, 0] - changed[:, 1]) / 2
    assert 0 <= factor.min() < 0.05 and 2.2 < factor.max() < 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_whole_policy_keeps_shape_and_dtype(channels):
    images = jnp.asarray(_images((4, 7, 5, channels)), jnp.bfloat16)
    result = jax.eval_shape(diffaug.policy("color,translation,cutout"), KEY, images)
    assert result.shape == images.shape and result.dtype == images.dtype


@pytest.mark.parametrize("channels", [1, 3])  # without saturation, and with it
def test_the_whole_policy_has_finite_gradients_and_uses_no_key_twice(channels):
    augment = diffaug.policy("color,translation,cutout")
    total = jax.jit(jax.value_and_grad(lambda x, key: jnp.square(augment(key, x)).sum()))
    with jax.debug_key_reuse(True):
        value, grads = total(_images((4, 7, 5, channels)), jax.random.key(3))
    assert np.isfinite(value) and np.isfinite(grads).all() and np.abs(grads).max() > 0


def test_a_policy_is_its_transforms_in_order_and_none_is_the_identity():
    images = _images()
    np.testing.assert_array_equal(diffaug.policy("")(KEY, images), images)
    both = diffaug.policy("translation, cutout")(KEY, images)
    first = diffaug.translation(jax.random.fold_in(KEY, 0), images)
    np.testing.assert_array_equal(both, diffaug.cutout(jax.random.fold_in(KEY, 1), first))


def test_a_transform_that_does_not_exist_is_named_before_anything_compiles():
    with pytest.raises(types.UserError, match='"cutot" is not one of .*did you mean "cutout"'):
        diffaug.policy("color,cutot")
