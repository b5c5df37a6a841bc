"""A line of text as words: punctuation apart and contractions in two, as in the Penn Treebank."""

import re

# Always words of their own.
_MARKS = re.compile(r"[;@#$%&?!()\[\]{}<>\"“”«»…]|-{2,}|\.{2,}")
_COMMA = re.compile(r"[:,](?!\d)")  # 10,000 and 8:30 are one word
_CLOSING = r"[\"”»'’)\]}>\s]*$"
_LAST_STOP = re.compile(rf"(?<!\.)\.(?={_CLOSING})")
# Between sentences: where the blank was forgotten, or after a word of two letters or more.
_JOINED = re.compile(r"(?<=[a-z])\.(?=[A-Z][a-z])")
_STOP = re.compile(r"(?<!\S)(?P<word>[^\s.]*[^\W_]{2})\.(?=['’]*\s)")
_NOT = re.compile(r"(?<=[a-z])n['’]t(?!\w)", re.IGNORECASE)
_SHORT = re.compile(r"(?<=[^\s'’])['’](?:s|m|d|ll|re|ve)(?!\w)", re.IGNORECASE)
_QUOTE = re.compile(r"(?<=[^\s'’])['’](?!\S)")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr st jr sr vs etc inc ltd co corp prof gen gov sen rep".split()
)


def split(line: str) -> list[str]:
    """Splits a line into words.

    Close to NLTK's `word_tokenize`, which published scores of texts were measured with, but it
    needs no trained model, and quotation marks stay as they are. A line of words joined with blanks
    comes apart into the same words again.

    Args:
      line: text of one or more sentences.

    Returns:
      Its words and marks: `"Don't go, Mr. Hay."` gives Do, n't, go, `,`, Mr., Hay and `.`.
    """
    line = _MARKS.sub(r" \g<0> ", line)
    line = _COMMA.sub(r" \g<0> ", line)
    line = _LAST_STOP.sub(" . ", line)
    line = _JOINED.sub(" . ", line)
    line = _STOP.sub(_apart, line)
    for pattern in (_NOT, _SHORT, _QUOTE):
        line = pattern.sub(r" \g<0> ", line)
    return line.split()


def _apart(stop: re.Match) -> str:
    return stop[0] if stop["word"].lower() in _ABBREVIATIONS else f"{stop['word']} ."
