"""BLEU and self-BLEU: NLTK's numbers, numbers by hand, properties, and published scores."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import words
from jaxgan.metrics import bleu
from jaxgan.types import UserError

SAMPLES = [
    line.split()
    for line in (
        "a man rides a horse on the beach .",
        "a man a man a man",  # more often than any reference has it
        "two dogs .",
        "zebra",  # no match at all
        "the cat sat on the mat near the dog",
        "a man rides a horse on the beach .",  # a copy: the best reference of the first
        "",
    )
]
REFERENCES = [
    line.split()
    for line in (
        "a man is on the beach .",
        "a woman rides a brown horse on the sand .",
        "two dogs run on the beach",
        "the dog sat near the cat on the mat , and a man too .",
    )
]
# NLTK 3.10.4: the mean of `sentence_bleu(references, sample, (1 / n,) * n, smoothing_function=
# SmoothingFunction().method1)`, against REFERENCES and against all samples but one's own.
NLTK = {1: 0.5074853416592217, 2: 0.40481393858737114, 3: 0.27102010198465504}
NLTK |= {4: 0.17573316981787018, 5: 0.10449590920429823}
NLTK_SELF = {1: 0.43650793650793646, 2: 0.37314198250815506, 3: 0.3325384543853537}
NLTK_SELF |= {4: 0.3228397670338075, 5: 0.31954225430522026}


def test_scores_are_nltks():
    found = bleu.bleu(SAMPLES, REFERENCES, orders=(1, 2, 3, 4, 5))
    assert found == pytest.approx(NLTK, abs=1e-12)
    found = bleu.self_bleu(SAMPLES, orders=(5, 1, 2, 3, 4))
    assert found == pytest.approx(NLTK_SELF, abs=1e-12)


def test_the_order_of_words_numbers_and_texts_does_not_matter():
    names = {word: i for i, word in enumerate({w for s in SAMPLES + REFERENCES for w in s})}
    numbers = [[[names[w] for w in s] for s in part[::-1]] for part in (SAMPLES, REFERENCES)]
    expected = {n: value for n, value in NLTK.items() if n > 1}
    assert bleu.bleu(*numbers) == pytest.approx(expected, abs=1e-12)


def test_precision_and_brevity_by_hand():
    # 3 of 4 words and 2 of 3 pairs match; no word too few.
    found = bleu.bleu([list("abcd")], [list("abce")], orders=(1, 2))
    assert found == pytest.approx({1: 3 / 4, 2: math.sqrt(3 / 4 * 2 / 3)})
    # Of lengths 1 and 5 both are two away from 3: the shorter counts, and nothing is too short.
    assert bleu.bleu([list("abc")], [list("abcde"), ["x"]], orders=(1,)) == {1: 1.0}
    assert bleu.bleu([list("abc")], [list("abcde")], orders=(1,))[1] == pytest.approx(
        math.exp(1 - 5 / 3)
    )
    # "a" counts twice, as one reference has it twice, not three times as both together.
    found = bleu.bleu([list("aaaa")], [list("aabb"), list("abbb")], orders=(1,))
    assert found[1] == pytest.approx(2 / 4)


def test_real_sentences_score_one_against_themselves():
    long = [s for s in SAMPLES if len(s) >= 5]
    assert bleu.bleu(long, long) == pytest.approx(dict.fromkeys(bleu.ORDERS, 1.0))
    assert bleu.self_bleu([list("abcdef")] * 3) == pytest.approx(dict.fromkeys(bleu.ORDERS, 1.0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), min_size=2, max_size=7))
def test_self_bleu_is_bleu_of_each_against_the_others(samples):
    each = [
        bleu.bleu([sample], samples[:i] + samples[i + 1 :], orders=(1, 3))
        for i, sample in enumerate(samples)
    ]
    mean = {n: np.mean([scores[n] for scores in each]) for n in (1, 3)}
    assert bleu.self_bleu(samples, orders=(1, 3)) == pytest.approx(mean, abs=1e-12)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="need at least two"):
        bleu.self_bleu(SAMPLES[:1])
    with pytest.raises(UserError, match="no sentences"):
        bleu.bleu(SAMPLES, [])
    with pytest.raises(UserError, match="orders .0. must be"):
        bleu.bleu(SAMPLES, REFERENCES, orders=(0,))


def test_scores_of_published_samples_are_the_published_ones(real_data):
    """Ten thousand samples of SeqGAN; `docs/evaluation.md` of Texygen."""
    folder = real_data / "text" / "texygen"
    if not folder.is_dir():
        pytest.skip("needs text/texygen among the real datasets")
    files = folder / "instances" / "seq.txt", folder / "test_coco.txt"
    samples, references = (
        [words.split(line) for line in file.read_text().splitlines()] for file in files
    )
    published = {2: 0.745, 3: 0.498, 4: 0.294, 5: 0.180}
    assert bleu.bleu(samples, references) == pytest.approx(published, abs=0.002)
    published = {2: 0.950, 3: 0.840, 4: 0.670, 5: 0.489}
    assert bleu.self_bleu(samples) == pytest.approx(published, abs=0.002)
