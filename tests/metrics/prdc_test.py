import json

import numpy as np
import pytest

from jaxgan.metrics import distances, prdc
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())


@pytest.mark.parametrize("name", list(references.CASES))
def test_equals_the_authors_package(name):
    real, fake = references.random_features(name)
    result = prdc.prdc(real, fake, k=5)
    assert result == pytest.approx(REFERENCES[name]["prdc"], rel=1e-6)


def test_of_points_on_a_line_worked_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # radii to the nearest other: 1, 1, 1, 8
    fake = np.array([[0.5], [0.6], [50.0]])  # radii 0.1, 0.1, 49.4
    result = prdc.prdc(real, fake, k=1)
    # 0.5 and 0.6 lie in the balls of 0 and 1; 10 lies in the ball of 50; 0 and 1 have a fake near.
    expected = {"precision": 2 / 3, "recall": 3 / 4, "density": 4 / 3, "coverage": 2 / 4}
    assert result == pytest.approx(expected)


def test_does_not_depend_on_the_size_of_chunks(monkeypatch):
    real, fake = references.random_features("wide")
    whole = prdc.prdc(real, fake, k=3)
    monkeypatch.setattr(distances, "MAX_PAIRS", 7 * 600)
    assert prdc.prdc(real, fake, k=3) == whole


def test_copies_of_the_real_set_score_as_well_as_can_be():
    real, _ = references.random_features("wide")
    result = prdc.prdc(real, real, k=5)
    assert (result["precision"], result["recall"], result["coverage"]) == (1, 1, 1)


@pytest.mark.parametrize("columns", [6, 15, 16, 17, 200])
def test_kth_smallest_is_numpys_with_ties(columns):
    x = np.random.default_rng(columns).integers(0, 9, (5, columns)).astype(np.float32)
    for k in (1, 3, 6):
        expected = np.sort(x, axis=1)[:, k - 1]
        np.testing.assert_array_equal(prdc._smallest(x, k), expected)


def test_too_few_samples_are_refused():
    with pytest.raises(UserError, match="k=5 needs more than 5 samples of each; got 5, 20"):
        prdc.prdc(np.zeros((5, 2)), np.zeros((20, 2)))
    with pytest.raises(UserError, match="need"):
        prdc.prdc(np.zeros((9, 2)), np.zeros((9, 3)))
