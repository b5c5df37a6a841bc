"""Lines as words, as NLTK's `word_tokenize` 3.10 splits them, and unchanged when split again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Don't go, Mr. Hay.", "Do n't go , Mr. Hay ."),
        ("a man (standing) near it.", "a man ( standing ) near it ."),
        (
            "it's the dogs' 10,000 toys; they'll stay",
            "it 's the dogs ' 10,000 toys ; they 'll stay",
        ),
        ("in the U.S. today... at 8:30 am", "in the U.S. today ... at 8:30 am"),
        ("two -- or 50% -- of us?!", "two -- or 50 % -- of us ? !"),
        ("already split , as it 's here .", "already split , as it 's here ."),
        ("  blanks\tand \n breaks ", "blanks and breaks"),
        ("", ""),
    ],
)
def test_words_are_those_of_the_treebank(line, expected):
    assert words.split(line) == expected.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("It is far.Can you go?", "It is far . Can you go ?"),  # a blank was forgotten
        ("One dog. another cat.", "One dog . another cat ."),
        ("Dr. No vs. St. John.", "Dr. No vs. St. John ."),
        ("秦 川 。", "秦 川 。"),
        ("“He’s here”", "“ He ’s here ”"),
    ],
)
def test_sentences_within_a_line_come_apart(line, expected):
    assert words.split(line) == expected.split()


@settings(deadline=None)
@given(st.text(st.sampled_from("ab zAB09.,:;!?'\"()-nt's$"), max_size=40))
def test_words_joined_with_blanks_come_apart_the_same_way(line):
    once = words.split(line)
    assert words.split(" ".join(once)) == once
