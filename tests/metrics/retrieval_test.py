"""Retrieval: whose target is nearest."""

import numpy as np
import pytest

from jaxgan.metrics import retrieval
from jaxgan.types import UserError

RNG = np.random.default_rng(0)


def test_shares_are_counted_by_hand():
    target = np.array([[0.0], [1.0], [2.0], [3.0]])
    made = np.array([[0.1], [0.1], [2.9], [3.0]])  # ranks 1, 2, 2, 1
    found = retrieval.accuracy(made, target, top=(1, 2))
    assert found == {"top1": 0.5, "top2": 1.0}


def test_of_translations_that_are_all_alike_one_is_found():
    target = RNG.normal(size=(20, 3))
    made = np.repeat(RNG.normal(size=(1, 3)), 20, 0)
    assert retrieval.accuracy(made, target) == {"top1": 1 / 20, "top5": 5 / 20}


def test_of_targets_that_are_all_alike_none_is_found():
    target = np.zeros((20, 3))
    assert retrieval.accuracy(target, target) == {"top1": 0.0, "top5": 0.0}


def test_sets_of_other_shapes_are_refused():
    with pytest.raises(UserError, match="must have one shape"):
        retrieval.accuracy(np.zeros((3, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize("size", [(32, 32), (33, 40), (7, 20)])
def test_thumbnails_are_means_of_parts(size):
    image = RNG.integers(0, 256, (2, *size, 3), np.uint8)
    found = retrieval.thumbnails(image, side=8)
    rows, columns = (np.array_split(np.arange(n), min(8, n)) for n in size)
    if size == (32, 32):
        part = image[1, :4, 4:8, 2] / 127.5 - 1
        np.testing.assert_allclose(found.reshape(2, 8, 8, 3)[1, 0, 1, 2], part.mean())
    assert found.shape == (2, len(rows) * len(columns) * 3)
    as_float = image.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(retrieval.thumbnails(as_float, side=8), found, atol=1e-6)
