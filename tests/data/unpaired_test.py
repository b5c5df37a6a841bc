"""Two sets of images without a pairing."""

import numpy as np
import pytest

from jaxgan.data import arrays, pipeline, spec, unpaired
from jaxgan.types import UserError


def _set(num, start):
    image = (np.arange(num)[:, None, None, None] + start) * np.ones((1, 2, 2, 1))
    return arrays.ArraySource({"image": image.astype(np.uint8)}, name=f"set {start}")


def test_each_example_of_the_first_set_comes_equally_often_and_of_the_second_in_the_mean():
    source = unpaired.UnpairedSource(_set(7, 0), _set(11, 100))
    number = np.arange(len(source))
    found = source[number]
    assert len(source) % 7 == 0 and len(source) > 10**6 - 7
    assert set(np.bincount(found["a"][:, 0, 0, 0])) == {len(source) // 7}
    counts = np.bincount(found["b"][:, 0, 0, 0])[100:]
    assert spec.describe(source).num_examples == 7
    assert len(counts) == 11 and abs(counts * 11 / len(source) - 1).max() < 0.02


def test_the_two_orders_do_not_know_of_each_other():
    source = unpaired.UnpairedSource(_set(4, 0), _set(4, 100))
    found = source[np.arange(64_000)]
    pairs = np.bincount(4 * found["a"][:, 0, 0, 0].astype(int) + found["b"][:, 0, 0, 0] - 100)
    assert len(pairs) == 16 and abs(pairs * 16 / 64_000 - 1).max() < 0.1


def test_a_batch_is_a_function_of_seed_and_step():
    def batch(start):
        source = unpaired.UnpairedSource(_set(7, 0), _set(11, 100))
        return next(pipeline.batches(source, batch_size=4, seed=3, start=start))

    ours, again, other = batch(5), batch(5), batch(6)
    assert ours.keys() == {"a", "b"}
    for name in ours:
        np.testing.assert_array_equal(ours[name], again[name])
    assert any(not np.array_equal(ours[name], other[name]) for name in ours)


def test_one_set_twice_is_refused():
    with pytest.raises(UserError, match="hold the same images"):
        unpaired.UnpairedSource(_set(7, 0), _set(7, 0))
