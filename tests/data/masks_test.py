import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import masks
from jaxgan.types import UserError

KEY = jax.random.key(3)


def test_punched_images_are_grey_in_holes_and_carry_the_mask():
    images = jnp.array([[[[0.5, -1.0, 1.0], [0.25, 0.5, 0.75]]]])
    found = masks.punch(images, jnp.array([[[[1.0], [0.0]]]]))
    np.testing.assert_array_equal(found, [[[[0, 0, 0, 1], [0.25, 0.5, 0.75, 0]]]])


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(AssertionError):
        masks.punch(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 2, 1)))


@pytest.mark.parametrize("height, width, side", [(64, 48, 8), (30, 41, 7), (5, 9, 12), (6, 6, 1)])
def test_the_share_is_met_to_half_a_square(height, width, side):
    share = jnp.linspace(0, 1, 20)
    shape = (20, height, width, 3)
    found = np.asarray(masks.squares(KEY, shape, share, side=side))
    assert found.shape == (20, height, width, 1) and set(np.unique(found)) <= {0.0, 1.0}
    counted = found.sum((1, 2, 3))
    np.testing.assert_allclose(counted, share * height * width, atol=side**2 / 2 + 1e-2)
    assert counted[0] == 0 and counted[-1] == height * width


def test_holes_are_squares_of_one_lattice_an_image():
    found = np.asarray(masks.squares(KEY, (30, 40, 40, 1), jnp.full(30, 0.1), side=8))[..., 0]
    starts = set()
    for mask in found:
        # Changes lie on lines that are 8 apart.
        rows = np.flatnonzero((np.diff(mask, axis=0) != 0).any(1)) + 1
        columns = np.flatnonzero((np.diff(mask, axis=1) != 0).any(0)) + 1
        assert len(set(rows % 8)) == 1 and len(set(columns % 8)) == 1
        starts.add((rows[0] % 8, columns[0] % 8))
    assert len(starts) > 15  # of 64, drawn 30 times


def test_holes_are_everywhere_alike():
    found = np.asarray(masks.squares(KEY, (2000, 20, 20, 1), jnp.full(2000, 0.25), side=5))
    np.testing.assert_allclose(found.mean((0, 3)), 0.25, atol=0.045)  # 4.6 standard deviations


def test_one_key_gives_one_mask_with_and_without_jit():
    share = jnp.full(3, 0.3)
    found = masks.squares(KEY, (3, 20, 30, 1), share, side=4)
    compiled = jax.jit(lambda key: masks.squares(key, (3, 20, 30, 1), share, side=4))(KEY)
    np.testing.assert_array_equal(found, compiled)
    other = masks.squares(jax.random.key(4), (3, 20, 30, 1), share, side=4)
    assert (np.asarray(other) != np.asarray(found)).any()


def test_a_square_without_pixels_is_refused():
    with pytest.raises(UserError, match="side 0 is not possible"):
        masks.squares(KEY, (1, 8, 8, 1), jnp.ones(1), side=0)
