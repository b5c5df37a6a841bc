import jax
import numpy as np
import pytest

from jaxgan.data import synthetic


def test_ring_has_eight_distinct_modes_on_the_circle():
    modes = synthetic.ring().modes
    assert modes.shape == (8, 2) and modes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(modes, axis=1), 1, atol=1e-6)
    # Neighbours are 2 sin(pi / 8) apart; a mode that counts twice would be at 0.
    gaps = np.linalg.norm(modes - np.roll(modes, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 0.76536686, atol=1e-6)
    np.testing.assert_allclose(modes[2], [0, 1], atol=1e-6)


def test_grid_has_its_modes_at_even_numbers():
    modes = synthetic.grid().modes
    assert sorted(map(tuple, modes)) == [(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)]


@pytest.mark.parametrize("name", synthetic.MIXTURES)
def test_perfect_samples_have_the_published_quality(name):
    # benchmarks: 98.89 % of a perfect sampler lie within 3 sigma of their mode (1 - exp(-9 / 2)).
    mixture = synthetic.MIXTURES[name]()
    points = np.asarray(synthetic.sample(jax.random.key(0), mixture, 20_000))
    distance = np.linalg.norm(points[:, None] - mixture.modes, axis=-1)
    assert abs((distance.min(axis=1) < 3 * mixture.std).mean() - 0.9889) < 0.003
    share = np.bincount(distance.argmin(axis=1), minlength=len(mixture.modes)) / len(points)
    assert np.abs(share * len(mixture.modes) - 1).max() < 0.15


def test_sample_is_a_function_of_its_key():
    mixture = synthetic.ring()
    draws = [synthetic.sample(jax.random.key(i), mixture, 4) for i in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (np.asarray(draws[0]) != np.asarray(draws[2])).any()


def test_place_scales_the_noise_around_its_mode():
    mixture = synthetic.Mixture(np.array([[1, 2], [3, 4]], np.float32), 0.5)
    points = synthetic.place(mixture, np.array([1, 0]), np.array([[2.0, 0.0], [0.0, -2.0]]))
    np.testing.assert_allclose(points, [[4, 4], [1, 1]])


def test_squares_show_their_class_by_their_shade():
    source = synthetic.squares(num_examples=12, image_shape=(8, 6, 3), num_classes=3)
    assert source.image_shape == (8, 6, 3) and source.num_classes == 3
    brightest = source.arrays["image"].max((1, 2, 3))
    assert len(np.unique(brightest)) == 3
    for label in range(3):
        assert len(np.unique(brightest[source.arrays["label"] == label])) == 1
    assert ((source.arrays["image"] > 0).sum((1, 2, 3)) == 4 * 3 * 3).all()
