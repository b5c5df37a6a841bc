"""The words or characters that texts are made of, each with a number."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from jaxgan import types
from jaxgan.data import words as word_splitter
from jaxgan.types import UserError

PADDING, UNKNOWN, END = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<end>")  # what these three numbers are written as
UNITS = {"words": word_splitter.split, "characters": list}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A table of words or characters; the number of one is its place in the table.

    Attributes:
      words: by number; the first three are `SPECIAL`.
      unit: "words", which are joined with blanks, or "characters", joined without.
    """

    words: tuple[str, ...]
    unit: str = "words"

    def __post_init__(self):
        types.lookup(UNITS, self.unit, "unit")
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise UserError(f"a vocabulary must begin with {', '.join(SPECIAL)}; see build")
        if len(set(self.words)) != len(self.words):
            twice = collections.Counter(self.words).most_common(1)[0][0]
            raise UserError(f'"{types.one_line(twice)}" is twice in the vocabulary; leave one out')

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word; padding and end have none, as no text holds them."""
        numbers = {word: number for number, word in enumerate(self.words)}
        return {word: n for word, n in numbers.items() if n not in (PADDING, END)}

    def __len__(self) -> int:
        return len(self.words)

    def tokenize(self, line: str) -> list[str]:
        """Splits a line into words or characters.

        Args:
          line: any text.

        Returns:
          Its parts, known or not.
        """
        return UNITS[self.unit](line)

    def join(self, tokens: Sequence[str]) -> str:
        """Joins words or characters to a line.

        Args:
          tokens: the parts.

        Returns:
          The line, which `tokenize` splits into the same parts.
        """
        return (" " if self.unit == "words" else "").join(tokens)

    def unknown(self, line: str) -> list[str]:
        """Finds what would be lost of a line.

        Args:
          line: any text.

        Returns:
          Its parts that are not in the vocabulary, each once, in their order.
        """
        return [token for token in dict.fromkeys(self.tokenize(line)) if token not in self.numbers]

    def encode(self, lines: Sequence[str], *, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Turns lines into numbers; `encode_tokens` of what they are split into.

        Args:
          lines: N texts.
          max_length: T, the end counted.

        Returns:
          Tokens int32 [N, T] and their number in each, int32 [N].
        """
        return self.encode_tokens([self.tokenize(line) for line in lines], max_length=max_length)

    def encode_tokens(
        self, sentences: Sequence[Sequence[str]], *, max_length: int, end: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turns words or characters into numbers.

        Args:
          sentences: N sequences of words or characters. One that does not fit is cut, and then has
            no end.
          max_length: T, the end counted.
          end: adds the end; without it they are pieces of a text that goes on.

        Returns:
          Tokens int32 [N, T], padded, and their number in each, the end counted, int32 [N].
        """
        numbers, last = self.numbers, [END] if end else []
        text = np.full((len(sentences), max_length), PADDING, np.int32)
        length = np.zeros(len(sentences), np.int32)
        for row, tokens in enumerate(sentences):
            found = [numbers.get(token, UNKNOWN) for token in tokens[:max_length]] + last
            length[row] = min(len(found), max_length)
            text[row, : length[row]] = found[:max_length]
        return text, length

    def decode(self, text: np.ndarray) -> list[str]:
        """Turns numbers into lines.

        Args:
          text: [N, T] integers; what follows the first end or padding of each is left out.

        Returns:
          N lines.

        Raises:
          UserError: a number that is not in the vocabulary.
        """
        return [self.join(tokens) for tokens in self.decode_tokens(text)]

    def decode_tokens(self, text: np.ndarray) -> list[list[str]]:
        """Turns numbers into words or characters, as `metrics.text` takes them.

        Args:
          text: [N, T] integers; what follows the first end or padding of each is left out.

        Returns:
          N lists.

        Raises:
          UserError: a number that is not in the vocabulary.
        """
        text = np.asarray(text)
        if text.size and not 0 <= text.min() <= text.max() < len(self):
            wrong = int(text.min()) if text.min() < 0 else int(text.max())
            raise UserError(f"token {wrong} is outside the vocabulary, 0..{len(self) - 1}")
        over = (text == END) | (text == PADDING)
        length = np.where(over.any(1), over.argmax(1), text.shape[1])
        words = np.array(self.words, object)
        return [words[row[:n]].tolist() for row, n in zip(text, length, strict=True)]


def build(
    sentences: Iterable[Sequence[str]],
    *,
    unit: str = "words",
    size: int = 0,
    min_count: int = 1,
    name: str = "text",
) -> Vocabulary:
    """Counts words or characters and numbers them, the most frequent first.

    Args:
      sentences: of the training split alone, split into parts.
      unit: "words" or "characters", what these are.
      size: most entries, the three special ones counted; 0 for no limit.
      min_count: how often one must occur to be in it.
      name: of the data, for messages.

    Returns:
      The vocabulary; those of equal count are in the order of their code points.

    Raises:
      UserError: it would hold nothing.
    """
    if 0 < size <= len(SPECIAL) or size < 0:
        raise UserError(
            f"vocabulary_size {size} leaves no place beside {', '.join(SPECIAL)}; give"
            f" {len(SPECIAL) + 1} or more, or 0 for no limit"
        )
    counts = collections.Counter(token for tokens in sentences for token in tokens)
    for special in SPECIAL:
        counts.pop(special, None)
    kept = [token for token, count in counts.items() if count >= min_count]
    if not kept:
        most = max(counts.values(), default=0)
        raise UserError(
            f"{name}: no one of its {unit} occurs {min_count} times, the most frequent {most};"
            " lower min_count"
        )
    kept.sort(key=lambda token: (-counts[token], token))
    return Vocabulary((*SPECIAL, *kept[: size - len(SPECIAL) if size else None]), unit)
