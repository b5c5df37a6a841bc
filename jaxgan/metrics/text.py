"""What generated texts are measured by, beside BLEU: variety, copies, lengths, correctness.

Sentences are given as lists of words or characters (`Vocabulary.decode_tokens` of what a generator
made, `Vocabulary.tokenize` of a text), but where lines are asked for.
"""

from collections.abc import Callable, Sequence

import numpy as np

from jaxgan.metrics import bleu, ngrams
from jaxgan.metrics.ngrams import Sentence
from jaxgan.types import UserError


def distinct(samples: Sequence[Sentence], *, orders: Sequence[int] = (1, 2, 3)) -> dict[int, float]:
    """Measures variety within all samples together.

    See "A Diversity-Promoting Objective Function for Neural Conversation Models" by Li et al.
    (https://arxiv.org/abs/1510.03055), section 4.4.

    Args:
      samples: N sentences. The number falls with N: compare as many.
      orders: each n, from 1.

    Returns:
      By n the number of different runs of n words, divided by that of all; 0 where there is none.

    Raises:
      UserError: no samples.
    """
    words = ngrams.number(samples)
    runs = {n: ngrams.grams(words, n)[0][1] for n in orders}
    return {n: len(np.unique(gram)) / max(1, len(gram)) for n, gram in runs.items()}


def copied(samples: Sequence[Sentence], training: Sequence[Sentence]) -> float:
    """Measures how much was learnt by heart.

    Args:
      samples: N sentences.
      training: those that were learnt from.

    Returns:
      The share of samples that are in the training set, word for word. That of real sentences is
      not 0 where sentences are short: give it beside.

    Raises:
      UserError: no samples.
    """
    _check(samples)
    known = set(map(tuple, training))
    return sum(tuple(sample) in known for sample in samples) / len(samples)


def unique(samples: Sequence[Sentence]) -> float:
    """Measures how many samples differ, word for word.

    Args:
      samples: N sentences.

    Returns:
      The number of different ones, divided by N.

    Raises:
      UserError: no samples.
    """
    _check(samples)
    return len(set(map(tuple, samples))) / len(samples)


def length_distance(samples: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """Measures how far the lengths of samples are from those of real sentences.

    The total variation distance `1/2 sum_l |p(l) - q(l)|` of the two histograms.

    Args:
      samples: N sentences.
      references: M sentences.

    Returns:
      0 for the same histogram, 1 where no length is in both.

    Raises:
      UserError: no samples or references.
    """
    lengths = [words.length for words in ngrams.number(samples, references)]
    longest = max(length.max() for length in lengths)
    p, q = (np.bincount(length, minlength=longest + 1) / len(length) for length in lengths)
    return float(np.abs(p - q).sum() / 2)


def correctness(
    lines: Sequence[str], is_correct: Callable[[str], bool], training: Sequence[str]
) -> dict[str, float]:
    """Counts the samples that are right, and those that were not only learnt by heart.

    Args:
      lines: N samples, of a language whose sentences can be checked.
      is_correct: says whether one is right, such as `grammar.is_correct`.
      training: lines that were learnt from, written in the same way.

    Returns:
      {"correct": share of samples that are right, "new": share that are right and not in training,
      "different": that with equal samples counted once}.

    Raises:
      UserError: no samples.
    """
    _check(lines)
    right = [line for line in lines if is_correct(line)]
    known = set(training)
    new = [line for line in right if line not in known]
    counts = {"correct": len(right), "new": len(new), "different": len(set(new))}
    return {name: count / len(lines) for name, count in counts.items()}


def classifier(
    training: Sequence[Sentence], labels: Sequence[int] | np.ndarray
) -> Callable[[Sequence[Sentence]], np.ndarray]:
    """Learns to tell the classes of sentences: a linear SVM on words and pairs of words.

    Tf-idf and the machine are scikit-learn's. It says whether sentences are of the class asked for:
    give the share beside that of real sentences that it did not learn from.

    Args:
      training: N real sentences.
      labels: [N] their classes.

    Returns:
      Sentences -> [M] the class of each.

    Raises:
      UserError: no sentences, or all of one class.
    """
    from sklearn import feature_extraction, pipeline, svm

    _check(training)
    if len(set(labels)) < 2:
        raise UserError("all sentences are of one class; a classifier needs two or more")
    vectorizer = feature_extraction.text.TfidfVectorizer(
        analyzer=_words_and_pairs,  # pyright: ignore[reportArgumentType]: a function is fine
        sublinear_tf=True,
    )
    model = pipeline.make_pipeline(vectorizer, svm.LinearSVC(random_state=0))
    return model.fit(training, labels).predict


def _words_and_pairs(sentence: Sentence) -> list[tuple]:
    words = list(sentence)
    return [*((word,) for word in words), *zip(words, words[1:], strict=False)]


def compare(
    samples: Sequence[Sentence],
    references: Sequence[Sentence],
    *,
    training: Sequence[Sentence] = (),
) -> dict[str, float]:
    """Measures samples by everything that takes sentences alone.

    Args:
      samples: N sentences, two or more.
      references: real sentences that were not learnt from.
      training: those that were; none leaves "copied" out.

    Returns:
      {"bleu2" to "bleu5", "self_bleu2" to "self_bleu5", "distinct1" to "distinct3", "unique",
      "length_distance", "copied"}.

    Raises:
      UserError: fewer than two samples, or no references.
    """
    results = {
        "bleu": bleu.bleu(samples, references),
        "self_bleu": bleu.self_bleu(samples),
        "distinct": distinct(samples),
    }
    found = {f"{name}{n}": value for name, by_n in results.items() for n, value in by_n.items()}
    found["unique"] = unique(samples)
    found["length_distance"] = length_distance(samples, references)
    return {**found, "copied": copied(samples, training)} if len(training) else found


def _check(samples: Sequence[object]) -> None:
    if not len(samples):
        raise UserError("no samples; a share needs at least one")
