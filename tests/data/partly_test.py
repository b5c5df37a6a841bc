"""Sources of few labelled and many unlabelled images."""

import numpy as np

from jaxgan.data import arrays, partly
from jaxgan.data import spec as specs


def _source(num=12):
    image = np.arange(num, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    label = (np.arange(num) % 3).astype(np.int32)
    return arrays.ArraySource({"image": image, "label": label}, name="set", num_classes=3)


def test_discriminators_are_told_no_label_of_the_rest_and_half_of_the_rows_have_one():
    found = partly.partly_labelled(_source(), np.array([1, 5]), np.array([0, 2, 3, 4, 7, 8]))
    told, image = found.arrays[partly.DISC_LABEL], found.arrays["image"][:, 0, 0, 0]
    assert len(found) == 12 and (told == 3).sum() == 6
    assert set(image[told < 3]) == {1, 5} and set(image[told == 3]) == {0, 2, 3, 4, 7, 8}
    np.testing.assert_array_equal(told[told < 3], image[told < 3] % 3)
    np.testing.assert_array_equal(found.labels[told == 3], [0, 1, 2, 0, 1, 2])


def test_labels_that_are_not_used_change_nothing():
    one, other = _source(), _source()
    other.arrays["label"][[0, 2]] = 1
    made = [partly.partly_labelled(x, np.array([1]), np.array([0, 2])) for x in (one, other)]
    assert made[0].fingerprint == made[1].fingerprint


def test_its_spec_has_one_more_label_for_the_discriminator():
    found = specs.describe(partly.partly_labelled(_source(), np.array([1]), np.array([0, 2])))
    assert found.disc_label == (partly.DISC_LABEL, 4)
    assert specs.describe(_source()).disc_label == ("label", 3)
    assert specs.from_record(specs.to_record(found)).disc_label == found.disc_label
