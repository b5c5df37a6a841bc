import json

import numpy as np
import pytest
import scipy.linalg

from jaxgan.metrics import frechet
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())


def naive(real, fake):
    a, b = np.cov(real.astype(np.float64).T), np.cov(fake.astype(np.float64).T)
    shift = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    root = scipy.linalg.sqrtm(a @ b).real
    return shift @ shift + np.trace(a + b - 2 * root)


@pytest.mark.parametrize("name", ["wide", "near"])
def test_equals_scipys_matrix_root(name):
    real, fake = references.random_features(name)
    np.testing.assert_allclose(frechet.frechet_distance(real, fake), naive(real, fake), rtol=1e-6)


@pytest.mark.parametrize("name", ["wide", "near", "few"])
def test_equals_torch_fidelity(name):
    real, fake = references.random_features(name)
    expected = REFERENCES[name]["torch_fidelity_fid"]
    np.testing.assert_allclose(frechet.frechet_distance(real, fake), expected, rtol=1e-5)


def test_of_gaussians_worked_by_hand():
    mean, covariance = np.zeros(2), np.diag([1.0, 4.0])
    moved = frechet.moments_distance(mean, covariance, mean + [3.0, 4.0], covariance)
    wider = frechet.moments_distance(mean, covariance, mean, 4 * covariance)
    np.testing.assert_allclose([moved, wider], [25.0, (2 - 1) ** 2 + (4 - 2) ** 2], rtol=1e-12)


def test_is_zero_for_equal_sets_and_the_same_both_ways():
    real, fake = references.random_features("wide")
    assert frechet.frechet_distance(real, real) < 1e-6
    np.testing.assert_allclose(
        frechet.frechet_distance(real, fake), frechet.frechet_distance(fake, real), rtol=1e-9
    )


def test_fewer_samples_than_features_stay_real_and_positive():
    real, fake = references.random_features("few")
    assert 0 < frechet.frechet_distance(real, fake) < np.inf


def test_streamed_and_merged_statistics_equal_those_of_all_samples():
    features = (
        references.random_features("wide")[0] + 100.0
    )  # far off, where sums would lose digits
    whole = frechet.of_features(features)
    halves = [frechet.of_features(part, batch_size=37) for part in np.array_split(features, 2)]
    merged = frechet.merge(*halves)
    assert merged.count == 600
    for a, b in zip(frechet.moments(merged), frechet.moments(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        frechet.moments(whole)[1], np.cov(features.astype(np.float64).T), rtol=1e-10, atol=1e-13
    )


def test_intra_distance_sees_classes_that_changed_places():
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    real = random.normal(size=(200, 3)) + 10.0 * labels[:, None]
    fake = real[::-1]  # the same set, so that only the classes can tell
    by_class = [frechet.frechet_distance(real[labels == c], fake[labels == c]) for c in (0, 1)]
    assert frechet.frechet_distance(real, fake) < 1e-6
    assert frechet.intra_distance(real, fake, labels, labels[::-1]) < 1e-6
    swapped = frechet.intra_distance(real, fake, labels, labels)
    np.testing.assert_allclose(swapped, np.mean(by_class))
    assert swapped > 200
    with pytest.raises(UserError, match="class 1 has fewer than 2 samples"):
        frechet.intra_distance(real, fake, labels, np.zeros(200, int))


def test_no_samples_merge_to_no_samples():
    assert frechet.merge(frechet.init(3), frechet.init(3)).count == 0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((1, 4)), "1 samples have no covariance"),
        (np.full((3, 4), np.nan), "not finite"),
    ],
)
def test_what_has_no_distance_says_so(features, message):
    with pytest.raises(UserError, match=message):
        frechet.frechet_distance(features, np.zeros((3, 4)))


def test_sets_of_unlike_features_are_refused():
    with pytest.raises(UserError, match="4 features against 5"):
        frechet.frechet_distance(np.eye(4), np.eye(5))
    with pytest.raises(UserError, match=r"\[3, 5\]; these statistics take \[B, 4\]"):
        frechet.update(frechet.init(4), np.zeros((3, 5)))
