"""Counts of runs of n words, the ground that measures of texts stand on.

Words are numbered once, runs of n by numbering pairs of a run of n - 1 and a word: every count is a
sort of integers.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from jaxgan.types import UserError

Sentence = Sequence[Hashable]  # words, characters or their numbers


class Words(NamedTuple):
    """Sentences one after the other.

    Attributes:
      word: number of each word, int64 [W].
      sentence: which sentence it is in, int64 [W], ascending.
      length: words of each sentence, int64 [N].
    """

    word: np.ndarray
    sentence: np.ndarray
    length: np.ndarray


class Counts(NamedTuple):
    """How often each run occurs in each sentence; one entry for each pair that does.

    Attributes:
      sentence: int64 [C], ascending.
      gram: number of the run, int64 [C]; equal runs have equal numbers.
      count: int64 [C], 1 or more.
    """

    sentence: np.ndarray
    gram: np.ndarray
    count: np.ndarray


def number(*sets: Sequence[Sentence]) -> list[Words]:
    """Numbers the words of several sets of sentences alike.

    Args:
      *sets: each N sentences, already split; not text itself, whose words would be characters.

    Returns:
      One `Words` a set.

    Raises:
      UserError: a set without sentences, or a sentence that is not split.
    """
    table: dict[Hashable, int] = {}
    found = []
    for sentences in sets:
        if not len(sentences):
            raise UserError("no sentences; a measure of texts needs at least one")
        if isinstance(sentences[0], str):
            raise UserError("sentences must be split into words; use Vocabulary.tokenize")
        length = np.array([len(sentence) for sentence in sentences], np.int64)
        words = (word for sentence in sentences for word in sentence)
        word = np.fromiter((table.setdefault(x, len(table)) for x in words), np.int64)
        found.append(Words(word, np.repeat(np.arange(len(length)), length), length))
    return found


def grams(sets: Sequence[Words], order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numbers all runs of words, over all sets alike.

    Args:
      sets: from one call of `number`.
      order: n, words in a run.

    Returns:
      For each set the sentence and the number of each of its runs, both int64 [R].
    """
    word, sentence = _joined(sets)
    gram = word
    for n in range(1, order):
        # The run of n words at each place, and the word that follows it in the same sentence.
        gram, follower = gram[: len(word) - n], word[n:]
        _, gram = np.unique(gram * (word.max(initial=0) + 1) + follower, return_inverse=True)
    starts = np.flatnonzero(sentence[: len(gram)] == sentence[order - 1 :])
    sentence, gram = sentence[starts], gram[starts]
    first = np.cumsum([0, *(len(words.length) for words in sets)])
    ends = np.searchsorted(sentence, first)
    return [
        (sentence[a:b] - start, gram[a:b])
        for a, b, start in zip(ends, ends[1:], first, strict=False)
    ]


def _joined(sets: Sequence[Words]) -> tuple[np.ndarray, np.ndarray]:
    """All words, and the sentence of each, numbered through."""
    first = np.cumsum([0, *(len(words.length) for words in sets)])
    return np.concatenate([words.word for words in sets]), np.concatenate(
        [words.sentence + start for words, start in zip(sets, first, strict=False)]
    )


def count(sentence: np.ndarray, gram: np.ndarray) -> Counts:
    """Counts runs within sentences.

    Args:
      sentence: of each run, int64 [R].
      gram: its number, int64 [R].

    Returns:
      The counts.
    """
    base = gram.max(initial=0) + 1
    pair, times = np.unique(sentence * base + gram, return_counts=True)
    return Counts(pair // base, pair % base, times)
