"""Texts as sources: sentences in numbers, with their lengths, classes and the line before.

Examples are `"text"` int32 [T] and `"length"` int32, of which `text[:length]` counts; where there
are classes `"label"` int32, and where each line answers another `"source"` [S] and
`"source_length"`.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

from jaxgan import types
from jaxgan.data import arrays as held
from jaxgan.data import sentences, subsets, vocabulary
from jaxgan.data.vocabulary import Vocabulary
from jaxgan.types import UserError

KINDS = tuple(sentences.READERS)
SPLITS = ("train", "test")
TOO_LONG = ("cut", "drop")
WINDOW = 100  # of a running text, where no length is asked for
# In characters, unless something else is asked for; all others are in words.
_CHARACTERS = ("grammar", "characters")

Tokens = list[list[str]]  # of one example: its text's and, where it answers a line, that line's


class TextSource:
    """Texts in memory: indexing with an int gives one example, with an array a whole batch."""

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        name: str,
        num_tokens: int,
        vocabulary: Vocabulary | None = None,
        num_classes: int = 0,
        class_names: Sequence[str] = (),
        lines: Sequence[str] = (),
    ):
        """Checks that the arrays belong together.

        Args:
          arrays: `"text"` integers [N, T] in [0, num_tokens), `"length"` [N] in [1, T], and what
            else an example has.
          name: what the data is called in messages and in the run's configuration.
          num_tokens: how many different tokens there are.
          vocabulary: what the tokens stand for; None where they are numbers and nothing else.
          num_classes: number of classes, 0 without labels.
          class_names: one name a class, by label; empty where there are none.
          lines: the texts themselves, N of them, with words that the vocabulary lacks and what was
            cut off; empty where there are none.

        Raises:
          UserError: empty, of unequal numbers, a token, length or label outside its range.
        """
        self.arrays = {key: np.asarray(array) for key, array in arrays.items()}
        _check_tokens(self.arrays, "text", num_tokens, name)
        if "source" in self.arrays:
            _check_tokens(self.arrays, "source", num_tokens, name)
        for key, array in self.arrays.items():
            if len(array) != len(self):
                raise UserError(f'{name}: {len(self)} texts but {len(array)} of "{key}"')
            if array.dtype.kind in "iu":  # bytes would be taken for images
                self.arrays[key] = array.astype(np.int32)
        if "label" in self.arrays:
            self.arrays["label"] = held.checked_labels(self.arrays["label"], num_classes, name)
        self.name, self.num_tokens, self.vocabulary = name, num_tokens, vocabulary
        self.num_classes, self.class_names = num_classes, tuple(class_names)
        self.lines = tuple(lines)
        self._fingerprint = ""

    @property
    def max_length(self) -> int:
        """T, the most tokens of a text."""
        return self.arrays["text"].shape[1]

    @property
    def labels(self) -> np.ndarray | None:
        """The label of every example, int32 [N]; None without labels."""
        return self.arrays.get("label")

    @property
    def fingerprint(self) -> str:
        """Digest of the arrays and of the vocabulary."""
        if not self._fingerprint:
            words = self.vocabulary.words if self.vocabulary else ()
            digest = hashlib.blake2b("\0".join(words).encode(errors="replace"), digest_size=8)
            digest.update(held.digest(self.arrays).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def take(self, indices: np.ndarray, name: str) -> "TextSource":
        """Makes a source of some of the examples.

        Args:
          indices: int [M], which, in which order.
          name: of the new source.

        Returns:
          The source, in memory.
        """
        return TextSource(
            self[indices],
            name=name,
            num_tokens=self.num_tokens,
            vocabulary=self.vocabulary,
            num_classes=self.num_classes,
            class_names=self.class_names,
            lines=[self.lines[i] for i in indices] if self.lines else (),
        )

    def __len__(self) -> int:
        return len(self.arrays["text"])

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        return {key: array[index] for key, array in self.arrays.items()}


def _check_tokens(arrays: Mapping[str, np.ndarray], key: str, num_tokens: int, name: str) -> None:
    text, length = arrays[key], arrays["length" if key == "text" else f"{key}_length"]
    if text.dtype.kind not in "iu" or text.ndim != 2 or 0 in text.shape:
        raise UserError(f"{name}: {key} is {text.dtype} {list(text.shape)}; need integers [N, T]")
    if text.min() < 0 or text.max() >= num_tokens:
        wrong = int(text.min()) if text.min() < 0 else int(text.max())
        raise UserError(f"{name}: token {wrong} is outside 0..{num_tokens - 1}")
    if length.dtype.kind not in "iu" or length.shape != text.shape[:1]:
        raise UserError(f"{name}: lengths are {length.dtype} {list(length.shape)}; need one a text")
    if length.min() < 1 or length.max() > text.shape[1]:
        raise UserError(f"{name}: lengths must be in 1..{text.shape[1]}")


def from_tokens(
    tokens: np.ndarray, *, num_tokens: int, name: str = "oracle", length: np.ndarray | None = None
) -> TextSource:
    """Makes a source of numbers that stand for nothing: what an oracle drew.

    Args:
      tokens: integers [N, T] in [0, num_tokens).
      num_tokens: how many different ones there may be.
      name: of the source.
      length: of each, integers [N]; None for T.

    Returns:
      The source, without a vocabulary.

    Raises:
      UserError: no texts, or a number outside its range.
    """
    tokens = np.asarray(tokens)
    if length is None:
        length = np.full(len(tokens), tokens.shape[-1], np.int32)
    return TextSource({"text": tokens, "length": length}, name=name, num_tokens=num_tokens)


def load(
    kind: str,
    *,
    data_dir: str = "",
    split: str = "train",
    unit: str = "",
    lower: bool = False,
    max_length: int = 0,
    too_long: str = "cut",
    vocabulary_size: int = 0,
    min_count: int = 1,
    known: Vocabulary | None = None,
    holdout: float = subsets.SHARE,
    seed: int = 0,
    text_column: str = "",
    label_column: str = "",
    separator: str = "",
) -> TextSource:
    r"""Opens a text.

    The vocabulary is that of the training split, also for the test split. What was cut, dropped,
    repeated or unknown is logged.

    Args:
      kind: `grammar` (sums, made here, no download; see `grammar`), `lines` (a file of one sentence
        a line, or a folder with train.txt and test.txt), `characters` (a running text, in windows),
        `coco` and `emnlp_news` (a folder with Texygen's two files), `csv` (a table with a column of
        texts and one of classes) or `dialogue` (a dialogue a line: each turn answers the one
        before).
      data_dir: the file or folder.
      split: "train" or "test".
      unit: "words" or "characters"; empty for characters in `grammar` and `characters`, else words.
      lower: makes all of it lower case.
      max_length: most tokens of a text, its end counted; 0 for those of the longest one to train
        on, 100 in a running text.
      too_long: "cut" or "drop" longer ones. One that is cut has no end.
      vocabulary_size: most entries, the three special ones counted; 0 for no limit.
      min_count: how often a word must occur in the training split to have an entry.
      known: a vocabulary to be used instead, a stored run's for example.
      holdout: share that becomes the test split, where the data have none: chosen at random, in a
        running text and in a play its end. 0 for none.
      seed: of that choice, and of the grammar's sentences.
      text_column: of `csv`; empty for the first of `sentences.TEXT_COLUMNS` that is there.
      label_column: of `csv`; empty for the first of `labels.LABEL_COLUMNS` that is there.
      separator: of the turns of a `dialogue`; empty where each sentence is a turn. With a line
        break in it, written `\n`, the whole file is one play, and speakers' names above the
        speeches are left out.

    Returns:
      The source.

    Raises:
      MissingSplit: the text has no test split, and holdout is 0.
      UserError: unknown names, impossible options, or data that are missing, empty or damaged.
    """
    types.lookup(dict.fromkeys(SPLITS), split, "split")
    types.lookup(dict.fromkeys(TOO_LONG), too_long, "too_long")
    if max_length < 0 or min_count < 1:
        raise UserError(
            f"max_length {max_length} must be 0 or more and min_count {min_count} 1 or more"
        )
    if not 0 <= holdout < 1:
        raise UserError(f"holdout {holdout:g} is not possible; it must be from 0 to below 1")
    corpus = sentences.read(
        kind,
        sentences.Options(data_dir, holdout, seed, text_column, label_column, separator, lower),
    )
    if corpus.test is None and holdout:
        corpus = sentences.hold_out(corpus, share=holdout, seed=seed)
    if split == "test" and corpus.test is None:
        raise held.MissingSplit(f"{corpus.name}: has no split test; hold some out by --holdout=0.1")

    unit = unit or ("characters" if kind in _CHARACTERS else "words")
    tokenize = types.lookup(vocabulary.UNITS, known.unit if known else unit, "unit")
    train = [_tokens(row, tokenize) for row in corpus.train]
    table = known or vocabulary.build(
        [tokens for example in train for tokens in example],
        unit=unit,
        size=vocabulary_size,
        min_count=min_count,
        name=corpus.name,
    )
    max_length = max_length or (WINDOW if corpus.running else _longest(train) + 1)
    if split == "train":
        rows, found = corpus.train, train
    else:
        rows, found = corpus.test or (), [_tokens(row, tokenize) for row in corpus.test or ()]
        sentences.log_shared(corpus)
    if corpus.running:
        text = found[0][0]
        found = [[text[at : at + max_length]] for at in range(0, len(text), max_length)]
    else:
        kept = _fitting(found, max_length, corpus.name, drop=too_long == "drop")
        rows, found = [rows[i] for i in kept], [found[i] for i in kept]
    return _encode(corpus, rows, found, table, max_length)


def _tokens(row: sentences.Row, tokenize: Callable[[str], list[str]]) -> Tokens:
    return [tokenize(x) for x in (row.text, row.source) if x is not None]


def _longest(examples: Sequence[Tokens]) -> int:
    return max(len(tokens) for example in examples for tokens in example)


def _fitting(examples: Sequence[Tokens], max_length: int, name: str, *, drop: bool) -> list[int]:
    """Which examples are kept; tells how many are too long."""
    long = {i for i, example in enumerate(examples) if _longest([example]) >= max_length}
    if long:
        logging.info(
            "%s: %d of %d texts are longer than max_length %d (the longest %d) and are %s",
            *(name, len(long), len(examples), max_length, _longest(examples) + 1),
            "dropped" if drop else "cut",
        )
    if drop and len(long) == len(examples):
        raise UserError(
            f"{name}: every text is longer than max_length {max_length}; raise it, or cut them with"
            " --too_long=cut"
        )
    return [i for i in range(len(examples)) if not (drop and i in long)]


def _encode(
    corpus: sentences.Corpus,
    rows: Sequence[sentences.Row],
    examples: Sequence[Tokens],
    table: Vocabulary,
    max_length: int,
) -> TextSource:
    encode = functools.partial(table.encode_tokens, max_length=max_length, end=not corpus.running)
    text, length = encode([example[0] for example in examples])
    arrays = {"text": text, "length": length}
    if len(examples[0]) > 1:
        arrays["source"], arrays["source_length"] = encode([example[1] for example in examples])
    if corpus.class_names:
        arrays["label"] = np.array([row.label for row in rows], np.int32)
    logging.info(
        "%s: %d texts of at most %d %s, a vocabulary of %d, %.2f %% of the tokens unknown",
        *(corpus.name, len(text), max_length, table.unit, len(table)),
        100 * np.count_nonzero(text == vocabulary.UNKNOWN) / length.sum(),
    )
    return TextSource(
        arrays,
        name=corpus.name,
        num_tokens=len(table),
        vocabulary=table,
        num_classes=len(corpus.class_names),
        class_names=corpus.class_names,
        lines=[table.join(example[0]) for example in examples],
    )
