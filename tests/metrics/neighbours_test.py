import numpy as np
import pytest

from jaxgan.metrics import neighbours
from jaxgan.types import UserError

RANDOM = np.random.default_rng(0)
TRAIN, TEST, FRESH = RANDOM.normal(size=(3, 500, 4))


def test_fresh_samples_are_as_near_to_either_split():
    result = neighbours.memorisation(FRESH, TRAIN, TEST)
    assert abs(result["nearer_to_train"] - 0.5) < 0.08
    assert abs(result["ratio"] - 1) < 0.1


def test_near_copies_are_nearer_to_the_training_split():
    result = neighbours.memorisation(TRAIN + 0.01 * FRESH, TRAIN, TEST)
    assert result["nearer_to_train"] > 0.95
    assert result["ratio"] < 0.1
    assert result["train_distance"] < 0.05 < result["test_distance"]


def test_exact_copies_of_either_split():
    assert neighbours.memorisation(TRAIN, TRAIN, TEST)["nearer_to_train"] == 1
    assert neighbours.memorisation(TEST, TRAIN, TEST)["nearer_to_train"] == 0
    assert neighbours.memorisation(TRAIN, TRAIN, TRAIN)["nearer_to_train"] == 0.5


def test_a_larger_training_split_is_no_advantage():
    many = RANDOM.normal(size=(5000, 4))
    for order in (np.arange(5000), many[:, 0].argsort()):  # files may be sorted by class
        result = neighbours.memorisation(FRESH, many[order], TEST)
        assert abs(result["nearer_to_train"] - 0.5) < 0.08


def test_the_closest_training_examples_are_those_of_all_distances():
    index, distance = neighbours.closest(FRESH[:7], TRAIN, k=3)
    every = np.linalg.norm(FRESH[:7, None] - TRAIN[None], axis=-1)
    np.testing.assert_array_equal(index, every.argsort(1)[:, :3])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :3], rtol=1e-4)
    assert neighbours.closest(FRESH[:2], TRAIN[:1], k=3)[0].tolist() == [[0], [0]]


def test_examples_have_a_distance_of_their_own():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])  # to the nearest other: 1, 1, 2, 4
    assert neighbours.own_distance(points, quantile=0) == 1
    assert neighbours.own_distance(points, quantile=1) == 4
    twice = np.concatenate([points, points])
    assert neighbours.own_distance(twice, quantile=1) == 0  # the other one may be the same
    with pytest.raises(UserError, match="needs two"):
        neighbours.own_distance(points[:1])


def test_copies_are_nearer_than_examples_to_each_other():
    distance = neighbours.own_distance(TRAIN)
    near = TRAIN + 1e-3 * FRESH
    assert neighbours.copies(near, TRAIN, distance=distance).all()
    assert neighbours.copies(FRESH, TRAIN, distance=distance).mean() < 0.05
