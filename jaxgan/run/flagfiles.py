"""Command lines and flagfiles, read so that nothing in them is passed over in silence."""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from jaxgan import types
from jaxgan.types import UserError

MAX_FLAGFILES = 100
MAX_FLAGFILE = 2**20  # characters
COMMAND_LINE = "on the command line"


class _Given(NamedTuple):
    """A word of the command line, or a line of a flagfile."""

    text: str
    place: str
    depth: int  # of flagfiles around it


def parse(argv: list[str]) -> list[str]:
    """Parses flags, refusing what absl would pass over in silence.

    Args:
      argv: the program and its arguments.

    Returns:
      What absl leaves of them: the program.

    Raises:
      UserError: a flag, a word or a flagfile is wrong.
    """
    given = _given(argv[1:])
    try:
        rest = flags.FLAGS([argv[0], *(one.text for one in given)], known_only=False)
    except (flags.Error, ValueError) as error:  # absl raises the latter for --noflag=value
        raise UserError(types.one_line(error)) from error
    if len(rest) > 1:
        word = types.one_line(rest[1], limit=80)
        raise UserError(f'unexpected argument "{word}"; flags are written --name=value')
    _warn_of_twins(given)
    return rest


def _given(words: Sequence[str]) -> list[_Given]:
    """The words of a command line, with the lines of its flagfiles in place of their names.

    absl would skip lines that are no flags and flagfiles that include themselves, trip over a
    byte-order mark, and read a pipe a second time, when it is empty.
    """
    given, opened, rest = [], [], iter(words)
    for word in rest:
        name, equals, path = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "flagfile":
            path = path if equals else next(rest, "")
            given += _lines(path, (), opened)
        else:
            given.append(_Given(word, COMMAND_LINE, 0))
    return given


def _lines(path: str, outer: tuple[str, ...], opened: list[str]) -> Iterator[_Given]:
    """The flags in a flagfile and in those that it includes; `opened` counts them all."""
    path, shown = os.path.expanduser(path), types.one_line(path)
    if not path:
        raise UserError("--flagfile needs the path of a file: --flagfile=PATH")
    if path in outer:
        raise UserError(f"flagfile {shown} includes itself; remove its --flagfile line")
    opened.append(path)
    if len(opened) > MAX_FLAGFILES:
        raise UserError(
            f"flagfile {types.one_line(opened[0])} includes more than {MAX_FLAGFILES} others"
        )
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.strip()
        if not line or line.startswith(("#", "//")):
            continue
        name, _, value = line.lstrip("-").partition("=")
        if not line.startswith("-") or name.split() != [name]:
            text = types.one_line(line, limit=80)
            raise UserError(f'{shown}, line {number}: "{text}" is not a flag; write --name=value')
        if value[:1] in ("'", '"'):
            raise UserError(f"{shown}, line {number}: write --{name}=value without quotes")
        if name == "flagfile":
            yield from _lines(value.strip(), (*outer, path), opened)
        else:
            yield _Given(line, f"in {shown}, line {number}", len(outer) + 1)


def _text(path: str) -> str:
    """Reads a flagfile, with or without a byte-order mark."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_FLAGFILE + 1)
            reason = "longer than any flagfile" if len(text) > MAX_FLAGFILE else ""
        reason = "not a text file" if "\0" in text else reason
    except (OSError, ValueError) as error:
        text, reason = "", getattr(error, "strerror", None) or "not a text file"
    if reason:
        raise UserError(f"cannot read flagfile {types.one_line(path)}: {reason}")
    return text


def _warn_of_twins(given: Sequence[_Given]) -> None:
    """Tells of a flag with two values, but where the command line overrides a flagfile."""
    last: dict[str, tuple[Any, _Given]] = {}
    for one, following in itertools.pairwise([*given, _Given("", "", 0)]):
        name, value = _setting(one.text, following.text)
        before, there = last.get(name, (value, one))
        if str(before) != str(value) and there.depth <= one.depth:  # NaN differs from itself
            text = f"--{name} is {before} {there.place} and {value} {one.place}; {value} counts"
            print(f"warning: {types.one_line(text)}", file=sys.stderr)
        last[name] = value, one


def _setting(word: str, following: str) -> tuple[str, Any]:
    """Name and value that absl took from a word, where it is a flag; "" and None elsewhere."""
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    if not word.startswith("-") or name not in flags.FLAGS:
        negated = name.removeprefix("no")
        known = word.startswith("-") and negated != name and negated in flags.FLAGS
        return (negated, False) if known else ("", None)
    flag = flags.FLAGS[name]
    if flag.boolean and not equals:
        return name, True
    return name, flag.parser.parse(value if equals else following)
