"""Words and numbers: back and forth, in order of frequency, with an end and padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import vocabulary
from jaxgan.data.vocabulary import SPECIAL, Vocabulary
from jaxgan.types import UserError

TABLE = Vocabulary((*SPECIAL, "a", "dog", "runs", "."))


def test_lines_become_numbers_with_an_end_and_padding():
    text, length = TABLE.encode(["a dog runs.", "a cat"], max_length=6)
    np.testing.assert_array_equal(text, [[3, 4, 5, 6, 2, 0], [3, 1, 2, 0, 0, 0]])
    np.testing.assert_array_equal(length, [5, 3])
    assert text.dtype == length.dtype == np.int32
    assert TABLE.decode(text) == ["a dog runs .", "a <unk>"]


def test_a_line_that_does_not_fit_is_cut_and_has_no_end():
    text, length = TABLE.encode(["a dog runs.", "a dog"], max_length=3)
    np.testing.assert_array_equal(text, [[3, 4, 5], [3, 4, 2]])
    np.testing.assert_array_equal(length, [3, 3])
    assert TABLE.decode(text) == ["a dog runs", "a dog"]


def test_pieces_of_a_running_text_have_no_end():
    text, length = TABLE.encode_tokens([["a", "dog"], []], max_length=3, end=False)
    np.testing.assert_array_equal(text, [[3, 4, 0], [0, 0, 0]])
    np.testing.assert_array_equal(length, [2, 0])


def test_what_follows_the_first_end_or_padding_is_not_decoded():
    assert TABLE.decode(np.array([[3, 2, 4], [4, 0, 5], [2, 3, 3]])) == ["a", "dog", ""]
    assert TABLE.decode_tokens(np.array([[3, 4, 2]])) == [["a", "dog"]]
    assert TABLE.decode(np.zeros((0, 4), int)) == []


@pytest.mark.parametrize("number", [-1, 7])
def test_a_number_outside_the_table_is_refused(number):
    with pytest.raises(UserError, match=f"token {number} is outside the vocabulary, 0..6"):
        TABLE.decode(np.array([[3, number]]))


def test_special_names_in_a_text_are_unknown_words():
    text, _ = TABLE.encode_tokens([["<pad>", "<unk>", "<end>"]], max_length=4)
    np.testing.assert_array_equal(text, [[1, 1, 1, 2]])


def test_unknown_words_of_a_line_are_named_once():
    assert TABLE.unknown("a cat runs. a cat naps.") == ["cat", "naps"]


def test_words_are_in_order_of_frequency_then_of_the_alphabet():
    sentences = ["b a a c".split(), "c b a d <end>".split()]
    assert vocabulary.build(sentences).words == (*SPECIAL, "a", "b", "c", "d")
    assert vocabulary.build(sentences, size=5).words == (*SPECIAL, "a", "b")
    assert vocabulary.build(sentences, min_count=2).words == (*SPECIAL, "a", "b", "c")


@pytest.mark.parametrize("options", [{"size": 3}, {"size": -1}, {"min_count": 3}])
def test_a_vocabulary_of_nothing_is_refused(options):
    with pytest.raises(UserError, match="vocabulary_size|lower min_count"):
        vocabulary.build([["a", "a", "b"]], **options)


def test_a_table_is_checked():
    with pytest.raises(UserError, match="must begin with <pad>"):
        Vocabulary(("a", "b"))
    with pytest.raises(UserError, match='"a" is twice'):
        Vocabulary((*SPECIAL, "a", "b", "a"))
    with pytest.raises(UserError, match='did you mean "words"'):
        Vocabulary((*SPECIAL, "a"), unit="word")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab 川é\n\t<>\0"), min_size=1, max_size=12), min_size=1))
def test_characters_come_back_as_they_were(lines):
    table = vocabulary.build(map(list, lines), unit="characters")
    text, length = table.encode(lines, max_length=13)
    assert table.decode(text) == lines
    assert length.tolist() == [len(line) + 1 for line in lines]
