"""Shifts and mirrors of classifiers' images."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.augment import classical

IMAGE = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)


def test_an_image_moves_by_its_offset_and_repeats_its_border():
    moved = classical.moved(jnp.asarray(IMAGE.repeat(2, 0)), jnp.array([[1, 0], [0, -2]]))
    np.testing.assert_array_equal(moved[0, ..., 0], IMAGE[0, [0, 0, 1], :, 0])
    np.testing.assert_array_equal(moved[1, ..., 0], IMAGE[0][:, [2, 3, 3, 3], 0])


def test_shifts_stay_within_their_limit_and_reach_it():
    image = np.zeros((200, 7, 7, 1), np.float32)
    image[:, 3, 3] = 1
    moved = np.asarray(classical.shift(jax.random.key(0), jnp.asarray(image), most=2))
    rows, columns = np.nonzero(moved[..., 0])[1:]
    assert len(rows) == 200 and set(rows) == set(columns) == {1, 2, 3, 4, 5}
    still = classical.shift(jax.random.key(0), jnp.asarray(image), most=0)
    np.testing.assert_array_equal(still, image)


def test_half_of_the_images_are_mirrored():
    images = jnp.asarray(IMAGE.repeat(400, 0))
    made = np.asarray(classical.mirror(jax.random.key(0), images))
    mirrored = (made == IMAGE[:, :, ::-1]).all((1, 2, 3))
    assert 140 < mirrored.sum() < 260
    assert (made[~mirrored] == IMAGE).all()
