"""Variety, copies, lengths and correctness of texts, by hand."""

import numpy as np
import pytest

from jaxgan.data import grammar
from jaxgan.metrics import text
from jaxgan.types import UserError

SAMPLES = [list("abab"), list("abab"), list("cd"), list("e")]


def test_distinct_runs_by_hand():
    # 11 words, 5 different; the pairs ab, ba, ab twice, and cd; the triples aba, bab twice.
    assert text.distinct(SAMPLES, orders=(1, 2, 3, 5)) == {1: 5 / 11, 2: 3 / 7, 3: 2 / 4, 5: 0.0}


def test_copies_and_different_samples_are_counted_word_for_word():
    assert text.copied(SAMPLES, [list("cd"), list("aba")]) == 1 / 4
    assert text.copied(np.array([[1, 2], [3, 4]]), np.array([[3, 4]])) == 0.5
    assert text.copied(SAMPLES, []) == 0.0
    assert text.unique(SAMPLES) == 3 / 4


def test_the_distance_of_lengths_is_the_share_that_would_have_to_move():
    assert text.length_distance(SAMPLES, SAMPLES) == 0.0
    assert text.length_distance(SAMPLES, [list("abcd")]) == 0.5
    assert text.length_distance([[]], [list("a")]) == 1.0


def test_correct_new_and_different_sums():
    lines = ["1+1=2", "2+2=4", "2+2=4", "3+3=6", "1+1=3"]
    found = text.correctness(lines, grammar.is_correct, ["1+1=2", "1+1=3"])
    assert found == {"correct": 4 / 5, "new": 3 / 5, "different": 2 / 5}


def test_a_classifier_knows_what_its_classes_differ_in():
    of = [list("abx"), list("bay"), list("cdx"), list("dcy")] * 5
    classes = text.classifier(of, [3, 3, 7, 7] * 5)
    # Words neither class has count for nothing, and of the same words the order does.
    assert list(classes([list("ab"), list("zdz"), list("cd")])) == [3, 7, 7]
    pairs = text.classifier([list("abc"), list("cba")] * 5, [0, 1] * 5)
    assert list(pairs([list("ab"), list("ba")])) == [0, 1]


def test_everything_is_measured_at_once():
    found = text.compare(SAMPLES, [list("abab"), list("xyz")], training=[list("e")])
    names = [f"{kind}{n}" for kind in ("bleu", "self_bleu") for n in (2, 3, 4, 5)]
    assert list(found) == [
        *names,
        *("distinct1", "distinct2", "distinct3", "unique", "length_distance", "copied"),
    ]
    assert found["copied"] == 1 / 4 and all(0 <= value <= 1 for value in found.values())
    assert "copied" not in text.compare(SAMPLES, SAMPLES)


def test_no_samples_are_refused():
    for measure in (
        lambda: text.distinct([]),
        lambda: text.copied([], SAMPLES),
        lambda: text.unique([]),
        lambda: text.length_distance([], SAMPLES),
        lambda: text.correctness([], grammar.is_correct, []),
        lambda: text.classifier([], []),
    ):
        with pytest.raises(UserError, match="no s(amples|entences)"):
            measure()


def test_one_class_is_refused():
    with pytest.raises(UserError, match="all sentences are of one class"):
        text.classifier(SAMPLES, [1, 1, 1, 1])
