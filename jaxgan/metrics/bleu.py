"""BLEU of each sentence against all references, and of samples against each other."""

from collections.abc import Sequence

import numpy as np

from jaxgan.metrics import ngrams
from jaxgan.metrics.ngrams import Counts, Sentence
from jaxgan.types import UserError

ORDERS = (2, 3, 4, 5)
_EPSILON = 0.1  # what stands for no match: method 1 of Chen and Cherry


def bleu(
    samples: Sequence[Sentence],
    references: Sequence[Sentence],
    *,
    orders: Sequence[int] = ORDERS,
) -> dict[int, float]:
    """Measures how far samples are made of runs of words that real sentences have.

    The protocol of Texygen (https://arxiv.org/abs/1802.01886): "BLEU" by Papineni et al.
    (https://aclanthology.org/P02-1040) of each sample against all references,

        BLEU_n = b exp(1/n sum_k ln p_k),   k = 1..n

    with p_k the share of the sample's runs of k words that a reference has, as often as the one
    that has it most, and b = min(1, e^(1 - r / c)) for a sample of c words, r the nearest length of
    a reference, the shorter of two; no match counts .1 ("A Systematic Comparison of Smoothing
    Techniques" by Chen and Cherry, https://aclanthology.org/W14-3346, method 1); averaged over
    samples. Equal to NLTK's `sentence_bleu`, averaged.

    Args:
      samples: N sentences, split into words.
      references: M sentences. The score grows with M: compare scores against the same ones only.
      orders: each n.

    Returns:
      The score by n, in [0, 1]; higher is nearer to the references. It says nothing of variety:
      give it beside `self_bleu`.

    Raises:
      UserError: no samples or references, or an impossible order.
    """
    _check(orders)
    ours, theirs = words = ngrams.number(samples, references)
    precision = np.empty((max(orders), len(samples)))
    for n in range(1, max(orders) + 1):
        mine, other = (ngrams.count(*runs) for runs in ngrams.grams(words, n))
        most = np.zeros(1 + max(x.gram.max(initial=0) for x in (mine, other)), np.int64)
        np.maximum.at(most, other.gram, other.count)
        precision[n - 1] = _precision(mine, most[mine.gram], ours.length, n)
    nearest = _nearest(ours.length, np.bincount(theirs.length))
    return _scores(precision, ours.length, nearest, orders)


def self_bleu(samples: Sequence[Sentence], *, orders: Sequence[int] = ORDERS) -> dict[int, float]:
    """Measures how alike samples are: BLEU of each against all others, averaged.

    See "Texygen" by Zhu et al. (https://arxiv.org/abs/1802.01886), section 3.

    Args:
      samples: N sentences, two or more, split into words. The score grows with N.
      orders: each n.

    Returns:
      The score by n, in [0, 1]; lower is more varied, and real sentences have their own.

    Raises:
      UserError: fewer than two samples, or an impossible order.
    """
    _check(orders)
    if len(samples) < 2:
        raise UserError("self-BLEU compares samples with each other; need at least two")
    words = ngrams.number(samples)
    length = words[0].length
    precision = np.empty((max(orders), len(samples)))
    for n in range(1, max(orders) + 1):
        mine = ngrams.count(*ngrams.grams(words, n)[0])
        precision[n - 1] = _precision(mine, _most_of_others(mine), length, n)
    nearest = _nearest(length, np.bincount(length), own=True)
    return _scores(precision, length, nearest, orders)


def _check(orders: Sequence[int]) -> None:
    if not orders or min(orders) < 1:
        raise UserError(f"orders {list(orders)} must be one or more numbers of words, from 1")


def _most_of_others(counts: Counts) -> np.ndarray:
    """For each pair of a sentence and a run the most that another sentence has of it, [C]."""
    order = np.lexsort((counts.count, counts.gram))
    gram, count = counts.gram[order], counts.count[order]
    new = np.diff(gram, prepend=-1) > 0  # where the next run begins
    is_largest = np.append(new[1:], True)[: len(gram)]
    # For the sentence that has the largest count it is the second largest, 0 where there is none.
    second = np.where(new, 0, np.roll(count, 1))
    largest = np.zeros(gram.max(initial=0) + 1, np.int64)
    largest[gram[is_largest]] = count[is_largest]
    most = np.empty(len(gram), np.int64)
    most[order] = np.where(is_largest, second, largest[gram])
    return most


def _precision(counts: Counts, most: np.ndarray, length: np.ndarray, n: int) -> np.ndarray:
    """p_n of each sentence [N], smoothed; 0 where not one word matches."""
    clipped = np.minimum(counts.count, most)
    matches = np.bincount(counts.sentence, weights=clipped, minlength=len(length))
    total = np.maximum(1, length - n + 1)
    return np.where(matches, matches, _EPSILON if n > 1 else 0.0) / total


def _nearest(length: np.ndarray, num_of_length: np.ndarray, *, own: bool = False) -> np.ndarray:
    """The reference's length nearest to each sentence's, the shorter of two; one's own left out."""
    nearest = np.zeros(len(length), np.int64)
    for c in np.unique(length):
        num = num_of_length.copy()
        if own:
            num[c] -= 1
        there = np.flatnonzero(num)
        nearest[length == c] = there[np.abs(there - c).argmin()]  # ascending: the shorter is first
    return nearest


def _scores(
    precision: np.ndarray, length: np.ndarray, nearest: np.ndarray, orders: Sequence[int]
) -> dict[int, float]:
    """Scores by order, of precisions [n, N]; a sentence without a single match has none."""
    brevity = np.exp(np.minimum(0.0, 1.0 - nearest / np.maximum(1, length)))
    matched = precision[0] > 0
    logs = np.log(np.where(matched[None], precision, 1.0)).cumsum(0)
    return {
        n: float(np.where(matched, brevity * np.exp(logs[n - 1] / n), 0).mean()) for n in orders
    }
