"""Readers of texts: from files to sentences to train on and sentences to test with."""

import csv
import html
import io
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxgan import types
from jaxgan.data import grammar, labels, words
from jaxgan.types import UserError

# All is held in memory, some ten times over while it is split into words.
MAX_BYTES = 2**30
TEXT_COLUMNS = ("text", "sentence", "title", "description", "content")
# Training and test file by what published samples were trained on.
_TEXYGEN = {
    "coco": ("image_coco.txt", "test_coco.txt"),
    "emnlp_news": ("emnlp_news.txt", "test_emnlp.txt"),
}


class Row(NamedTuple):
    """One example before its words are numbered."""

    text: str
    source: str | None = None  # the line before, which it is an answer to
    label: int = -1
    group: str = ""  # examples of one group are split together; "" for the text itself


class Corpus(NamedTuple):
    """What a file holds.

    Attributes:
      name: what it is called in messages.
      train: the examples to train on; all of them where `test` is None.
      test: those to test with; None where there are none apart.
      class_names: by label.
      running: whether each is a text that goes on, to be cut into windows.
    """

    name: str
    train: Sequence[Row]
    test: Sequence[Row] | None = None
    class_names: tuple[str, ...] = ()
    running: bool = False


class Options(NamedTuple):
    """What a reader may be told; see `text.load`."""

    data_dir: str = ""
    holdout: float = 0.1
    seed: int = 0
    text_column: str = ""
    label_column: str = ""
    separator: str = ""
    lower: bool = False


def read(kind: str, options: Options) -> Corpus:
    """Reads a text.

    Args:
      kind: a name of `READERS`.
      options: what that reader needs.

    Returns:
      Its examples, not split at random yet; see `hold_out`.

    Raises:
      UserError: unknown kind, or a file that is missing, empty, damaged or of another layout.
    """
    corpus = types.lookup(READERS, kind, "dataset of text")(options)
    if not corpus.train:
        raise UserError(f"{corpus.name}: is empty; need one sentence a line")
    if len(corpus.train) == 1 and not corpus.running:
        raise UserError(f"{corpus.name}: holds one sentence to train on; need at least two")
    if corpus.test is not None and not corpus.test:
        raise UserError(f"{corpus.name}: has nothing to test with; give more text")
    if not options.lower:
        return corpus
    test = None if corpus.test is None else [_lower(row) for row in corpus.test]
    return corpus._replace(train=[_lower(row) for row in corpus.train], test=test)


def _lower(row: Row) -> Row:
    source = None if row.source is None else row.source.lower()
    return row._replace(text=row.text.lower(), source=source)


def hold_out(corpus: Corpus, *, share: float, seed: int) -> Corpus:
    """Splits a text at random, so that nothing is in both parts.

    Equal sentences go to the same side, however often they occur. The examples of a dialogue stay
    together; those that are in the test part too are then left out of the training part.

    Args:
      corpus: without a test part.
      share: of the different sentences, or of the dialogues, held out.
      seed: of the choice.

    Returns:
      The corpus in two parts.

    Raises:
      UserError: all sentences are the same, or an impossible share.
    """
    if not 0 < share < 1:
        raise UserError(f"holdout {share:g} is not possible; it must be between 0 and 1")
    content = [_content(row) for row in corpus.train]
    keys = [row.group or text for row, (text, _) in zip(corpus.train, content, strict=True)]
    groups = list(dict.fromkeys(keys))
    if len(groups) < 2:
        raise UserError(
            f"{corpus.name}: has nothing to hold out, as all its lines are the same or one dialogue"
        )
    num = min(max(1, round(share * len(groups))), len(groups) - 1)
    held_out = {groups[i] for i in np.random.default_rng(seed).permutation(len(groups))[:num]}
    everything = list(zip(keys, content, corpus.train, strict=True))
    known = {text for key, text, _ in everything if key in held_out}
    train = [row for key, text, row in everything if key not in held_out and text not in known]
    test = [row for key, _, row in everything if key in held_out]
    if not train:
        raise UserError(f"{corpus.name}: nothing is left to train on; give a smaller holdout")
    logging.info(
        "%s: of %d texts %d repeat others and are split with them, %d are left out of the training"
        " part as the test part has them",
        *(corpus.name, len(content), len(content) - len(set(content))),
        len(content) - len(train) - len(test),
    )
    return corpus._replace(train=train, test=test)


def log_shared(corpus: Corpus) -> None:
    """Tells how many examples of the test part are in the training part too.

    Args:
      corpus: with a test part; none are shared where `hold_out` made it.
    """
    if corpus.running:
        return
    known, test = set(map(_content, corpus.train)), corpus.test or ()
    num = sum(_content(row) in known for row in test)
    if num:
        text = "%s: %d of %d texts of the test split are in the training split too"
        logging.info(text, corpus.name, num, len(test))


def _content(row: Row) -> tuple[str, str]:
    """What makes two examples the same: their words, however they were spaced."""
    return " ".join(words.split(row.text)), " ".join(words.split(row.source or ""))


def _grammar(options: Options) -> Corpus:
    train, test = grammar.sentences(seed=options.seed)
    return Corpus("grammar", [Row(x) for x in train], [Row(x) for x in test])


def _lines(options: Options) -> Corpus:
    place = _place("lines", options)
    if not place.is_dir():
        return Corpus(str(place), _rows(text_of(place)))
    files = place / "train.txt", place / "test.txt"
    if not files[0].is_file():
        raise UserError(f"{place}: has no train.txt; give the file itself as --data_dir")
    return _two_files(*files)


def _two_files(train: pathlib.Path, test: pathlib.Path) -> Corpus:
    """Training and test sentences in files of their own; without the second, all to train on."""
    rows = _rows(text_of(train))
    if not test.is_file():
        return Corpus(str(train), rows)
    return Corpus(str(train.parent), rows, _rows(text_of(test)))


def _texygen(kind: str, options: Options) -> Corpus:
    place = _place(kind, options)
    files = [place / name for name in _TEXYGEN[kind]]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"{place}: has no {file.name}; dataset {kind} is Texygen's {files[0].name} and"
                f" {files[1].name}, any other text is --dataset=lines"
            )
    return _two_files(files[0], files[1])


def _rows(text: str) -> list[Row]:
    return [Row(line) for line in _filled(text)]


def _filled(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _characters(options: Options) -> Corpus:
    """A running text: the end of it is the test part."""
    place = _place("characters", options)
    text = text_of(place).strip("\n")
    if not text.strip():
        raise UserError(f"{place}: is empty; need a running text")
    if not options.holdout:
        return Corpus(str(place), [Row(text)], running=True)
    at = len(text) - round(options.holdout * len(text))
    train, test = text[:at], text[at:]
    if not train.strip() or not test.strip():
        raise UserError(f"{place}: {len(text)} characters are too few to hold some out")
    return Corpus(str(place), [Row(train)], [Row(test)], running=True)


def _csv(options: Options) -> Corpus:
    file = _place("csv", options)
    text = text_of(file)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        reason = types.one_line(error, limit=100)
        raise UserError(f"{file}: is not CSV, or damaged ({reason})") from None
    if not rows:
        raise UserError(f"{file}: is empty; need a header and one text a row")
    header = [name.strip().lower() for name in rows[0]]
    text_at = _column(file, header, options.text_column, TEXT_COLUMNS, "text")
    label_at = _column(file, header, options.label_column, labels.LABEL_COLUMNS, "label")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header) or not row[label_at].strip():
            raise UserError(
                f"{file}: row {number} has {len(row)} fields where the header has {len(header)},"
                " or no label; repair it or take it out"
            )
    found = [(_repaired(row[text_at]), row[label_at].strip()) for row in rows[1:]]
    class_names = _ordered({label for _, label in found})
    number = {label: i for i, label in enumerate(class_names)}
    names = tuple(types.one_line(name, limit=80) for name in class_names)
    return Corpus(str(file), [Row(x, label=number[y]) for x, y in found if x], class_names=names)


def _ordered(class_names: set[str]) -> tuple[str, ...]:
    """Names in their order, numbers in theirs."""
    are_numbers = all(name.isdecimal() for name in class_names)
    return tuple(sorted(class_names, key=int if are_numbers else None))


def _column(
    file: pathlib.Path, header: list[str], asked: str, usual: Sequence[str], what: str
) -> int:
    names = (asked.lower(),) if asked else usual
    found = next((header.index(name) for name in names if name in header), None)
    if found is None:
        raise UserError(
            f"{file}: has no column {' or '.join(names)}, only"
            f" {types.one_line(', '.join(header), limit=100)}; set --{what}_column"
        )
    return found


def _repaired(text: str) -> str:
    """One line of text; entities of HTML that lost their `&`, as in AG's news, are put right."""
    text = re.sub(r" (#\d{1,4}|quot|amp|lt|gt|nbsp);", r"&\1;", text.replace("\\", " "))
    return " ".join(html.unescape(text).split())


def _dialogue(options: Options) -> Corpus:
    """Dialogues, one a line; or, with a separator of line breaks, one whole play."""
    file = _place("dialogue", options)
    text = text_of(file)
    separator = options.separator.replace("\\n", "\n").replace("\\t", "\t")
    is_play = "\n" in separator
    dialogues = [text] if is_play else text.split("\n")
    turns = [_turns(dialogue, separator) for dialogue in dialogues]
    pairs = [
        Row(answer, source=before, group=str(number))
        for number, said in enumerate(turns)
        for before, answer in zip(said, said[1:], strict=False)
    ]
    if not pairs:
        raise UserError(
            f"{file}: no turn of it follows another; need one dialogue a line, its turns separated"
            f" by {separator or 'the end of a sentence'!r}; see --separator"
        )
    if not is_play:
        return Corpus(str(file), pairs)
    # What is said later is the test part; the turn between the two is in neither.
    at = len(pairs) - round(options.holdout * len(pairs))
    return Corpus(str(file), pairs[:at], pairs[at + 1 :] if options.holdout else None)


def _turns(dialogue: str, separator: str) -> list[str]:
    if separator:
        parts = dialogue.split(separator)
    else:
        parts = re.split(r"(?<=[.?!])\s+(?=[^\s.?!])|(?<=[a-z][.?!])(?=[A-Z][a-z])", dialogue)
    # Above a speech of a play its speaker is named: "First Citizen:".
    spoken = (re.sub(r"\A\s*[^\n:]{1,40}:\n", "", part) for part in parts)
    return [" ".join(part.split()) for part in spoken if part.strip()]


def _place(kind: str, options: Options) -> pathlib.Path:
    if not options.data_dir:
        raise UserError(f"dataset {kind} needs --data_dir, where its text is")
    place = pathlib.Path(os.path.expanduser(options.data_dir))
    if not place.exists():
        raise UserError(f"{place}: does not exist; set --data_dir to the text")
    return place


def text_of(file: pathlib.Path) -> str:
    r"""Reads a file of text.

    Args:
      file: in UTF-8, with line breaks of any system.

    Returns:
      What it holds; line breaks are `\n`.

    Raises:
      UserError: it cannot be read, is too large, or not UTF-8; the message names the first line
        that is not.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); give a file of text") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{file}: is larger than {MAX_BYTES >> 20} MiB; give a part of it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{file}: line {line} is not UTF-8 (byte {content[error.start]:#04x}); convert the file"
            " to UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(file: pathlib.Path) -> list[str]:
    """Reads a file of sentences, one a line.

    Args:
      file: see `text_of`.

    Returns:
      The lines that are not blank, two or more.

    Raises:
      UserError: as of `text_of`, or there are fewer.
    """
    lines = _filled(text_of(file))
    if len(lines) < 2:
        raise UserError(f"{file}: holds fewer than two sentences, one a line; give more")
    return lines


READERS: Mapping[str, Callable[[Options], Corpus]] = {
    "grammar": _grammar,
    "lines": _lines,
    "characters": _characters,
    "coco": lambda options: _texygen("coco", options),
    "emnlp_news": lambda options: _texygen("emnlp_news", options),
    "csv": _csv,
    "dialogue": _dialogue,
}
