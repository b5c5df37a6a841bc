import json

import jax
import numpy as np
import pytest

from jaxgan.metrics import scores
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())


def test_equals_torch_fidelity():
    probs = jax.nn.softmax(references.random_logits())
    found = scores.split_scores(probs, splits=10)
    expected = REFERENCES["inception_score"]
    np.testing.assert_allclose(found.mean(), expected["inception_score_mean"], rtol=1e-5)
    np.testing.assert_allclose(found.std(), expected["inception_score_std"], rtol=1e-4)


@pytest.mark.parametrize(
    ("probs", "expected"),
    [
        (np.eye(4)[np.arange(40) % 4], 4.0),  # sure, and evenly spread
        (np.eye(4)[np.zeros(40, int)], 1.0),  # sure, but one class
        (np.full((40, 4), 0.25), 1.0),  # spread, but unsure
    ],
)
def test_of_extremes(probs, expected):
    assert scores.inception_score(probs, splits=1) == pytest.approx((expected, 0.0))


def test_samples_sorted_by_class_score_as_shuffled_ones_do():
    probs = np.eye(4)[np.arange(400) // 100]
    assert scores.split_scores(probs, splits=4).mean() == pytest.approx(1.0)
    mean, _ = scores.inception_score(probs, splits=4)
    assert mean > 3.9
    assert scores.inception_score(probs, splits=4, seed=1) != scores.inception_score(
        probs, splits=4
    )


def test_accuracy_counts_the_class_asked_for():
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    assert scores.accuracy(probs, [0, 1, 1, 1]) == 0.75


def test_what_is_no_probability_is_refused():
    with pytest.raises(UserError, match="sum 1"):
        scores.inception_score(np.ones((20, 3)))
    with pytest.raises(UserError, match="sum 1"):
        scores.inception_score(np.full((20, 3), np.nan))
    with pytest.raises(UserError, match="10 splits of 4 samples"):
        scores.inception_score(np.eye(4))
    with pytest.raises(UserError, match="4 samples but labels"):
        scores.accuracy(np.eye(4), [0, 1])
