"""Runs of words, counted by sorting, against counting one by one."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.metrics import ngrams
from jaxgan.types import UserError

SENTENCES = st.lists(st.lists(st.sampled_from("abc"), max_size=7), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, SENTENCES, st.integers(1, 4))
def test_runs_are_counted_in_each_sentence(first, second, order):
    sets = ngrams.number(first, second)
    counts = [ngrams.count(*runs) for runs in ngrams.grams(sets, order)]
    names = {}
    for sentences, found in zip((first, second), counts, strict=True):
        expected = collections.Counter(
            (i, tuple(sentence[at : at + order]))
            for i, sentence in enumerate(sentences)
            for at in range(len(sentence) - order + 1)
        )
        assert found.count.sum() == expected.total() and len(found.count) == len(expected)
        for sentence in range(len(sentences)):
            here = sorted(found.count[found.sentence == sentence])
            assert here == sorted(n for (i, _), n in expected.items() if i == sentence)
        for sentence, gram in zip(found.sentence.tolist(), found.gram.tolist(), strict=True):
            names.setdefault(gram, set()).add(sentence)
    # One number is one run, in both sets.
    assert len(names) == len(
        {tuple(s[i : i + order]) for s in first + second for i in range(len(s) - order + 1)}
    )


def test_words_are_numbered_alike_and_may_be_numbers_themselves():
    first, second = ngrams.number([["b", "a"], []], [["a"]])
    np.testing.assert_array_equal(first.word, [0, 1])
    np.testing.assert_array_equal(second.word, [1])
    np.testing.assert_array_equal(first.length, [2, 0])
    (numbers,) = ngrams.number(np.array([[7, 7], [9, 7]]))
    np.testing.assert_array_equal(numbers.word, [0, 0, 1, 0])


def test_sentences_that_are_not_split_are_refused():
    with pytest.raises(UserError, match="must be split into words; use Vocabulary.tokenize"):
        ngrams.number(["a dog"])
    with pytest.raises(UserError, match="no sentences"):
        ngrams.number([["a"]], [])
