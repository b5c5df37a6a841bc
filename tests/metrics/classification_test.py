"""Accuracy, recalls and calibration against scikit-learn, and a case worked by hand."""

import numpy as np
import pytest
from sklearn import metrics

from jaxgan.metrics import classification
from jaxgan.types import UserError


def _case(num=200, classes=4, seed=0):
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(classes), num)
    return probs, random.integers(0, classes, num)


def test_numbers_are_those_of_scikit_learn():
    probs, label = _case()
    found, predicted = classification.report(probs, label), probs.argmax(1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, predicted))
    balanced = metrics.balanced_accuracy_score(label, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    recall = metrics.recall_score(label, predicted, average=None)
    np.testing.assert_allclose(found["recall"], recall)


def test_a_class_that_does_not_occur_counts_for_nothing():
    probs = np.eye(3)[[0, 0, 1]]
    found = classification.report(probs, np.array([0, 1, 1]))
    np.testing.assert_equal(found["recall"], [1.0, 0.5, np.nan])
    assert found["balanced_accuracy"] == 0.75


def test_calibration_error_of_four_examples_by_hand():
    # Confidence .9, .9 (one right: gap .4, half of all) and .6, .6 (both right: gap .4).
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
    label = np.array([0, 1, 1, 0])
    assert classification.calibration_error(probs, label) == pytest.approx(0.4)
    # In one bin the mean confidence is .75, the accuracy too.
    assert classification.calibration_error(probs, label, bins=1) == pytest.approx(0.0)


def test_right_confidence_has_no_calibration_error_and_certainty_belongs_to_the_last_bin():
    probs = np.repeat([[1.0, 0.0]], 8, 0)
    assert classification.calibration_error(probs, np.zeros(8, int)) == 0
    assert classification.calibration_error(probs, np.ones(8, int)) == 1


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="at least one"):
        classification.report(np.zeros((0, 3)), np.zeros(0, int))
