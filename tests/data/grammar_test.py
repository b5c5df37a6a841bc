"""The grammar of sums: every sentence is true, and what is not one is told."""

import pytest

from jaxgan.data import grammar


def test_sentences_are_different_correct_and_the_same_every_time():
    train, test = grammar.sentences()
    assert (len(train), len(test)) == (grammar.NUM_TRAIN, grammar.NUM_TEST)
    assert len({*train, *test}) == grammar.NUM_TRAIN + grammar.NUM_TEST
    assert (train, test) == grammar.sentences() != grammar.sentences(seed=1)
    for text in train[::20] + test[::20]:
        left, right = text.split("=")
        assert grammar.is_correct(text) and eval(left) == int(right)  # by Python, of our own text
    assert any("(" in text for text in train) and any("=-" in text for text in train)


@pytest.mark.parametrize("text", ["1+1=2", "3 + 4 * 2 = 11", "9-(3-7)=13", "(1-9)*9=-72", "0*9=0"])
def test_a_true_sum_is_correct(text):
    assert grammar.is_sentence(text) and grammar.is_correct(text)


@pytest.mark.parametrize("text", ["1+1=3", "(3+4)*2=11", "9-(3-7)=5", "1-2=1"])
def test_a_false_sum_is_a_sentence_and_not_correct(text):
    assert grammar.is_sentence(text) and not grammar.is_correct(text)


@pytest.mark.parametrize(
    "text",
    ["", "=", "1=1", "1+1", "1+1=", "1+1=02", "1+1=2=2", "12+1=13", "(1+1=2", "1+(1)=2", "1+1=-0"]
    + [
        "1++1=2",
        "-1+1=0",
        "1+1+1+1=4",
        "(1+1)=2",
        "9*9*9=729",
        "1+1=2\n",
        "a+1=2",
        "1+1=٢",
        "1/1=1",
    ],
)
def test_what_has_another_form_is_no_sentence(text):
    assert not grammar.is_sentence(text) and not grammar.is_correct(text)
