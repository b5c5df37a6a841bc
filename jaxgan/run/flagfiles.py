"""Command lines and flagfiles, read so that nothing in them is ignored silently.

A flagfile that is not found at its path is looked for by name among those of the experiments, with
or without its ending: `--flagfile=mnist_best`.
"""

import difflib
import importlib.util
import itertools
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from jaxgan import types
from jaxgan.types import UserError

MAX_FLAGFILES = 100
MAX_FLAGFILE = 2**20  # characters
COMMAND_LINE = "on the command line"
ENDING = ".flags"
SUGGESTED = 3  # flags, where one is unknown


class _Given(NamedTuple):
    """A word of the command line, or a line of a flagfile."""

    text: str
    place: str
    depth: int  # of flagfiles around it


def parse(argv: list[str]) -> list[str]:
    """Parses flags, refusing what absl would ignore silently.

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
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown(error.flagname, given)) from error
    except (flags.Error, ValueError) as error:  # absl raises the latter for --noflag=value
        raise UserError(types.one_line(error)) from error
    if len(rest) > 1:
        word = types.one_line(rest[1], limit=80)
        raise UserError(f'unexpected argument "{word}"; flags are written --name=value')
    _warn_of_duplicates(given)
    return rest


def words(argv: Sequence[str]) -> list[str]:
    """Writes flagfiles out.

    Args:
      argv: flags, some of them perhaps `--flagfile=PATH` or `--flagfile=NAME`.

    Returns:
      The flags, with the lines of the flagfiles in place of their names.

    Raises:
      UserError: a flagfile is wrong.
    """
    return [one.text for one in _given(argv)]


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
    shown = types.one_line(path)
    if not path:
        raise UserError("--flagfile needs the path of a file: --flagfile=PATH")
    path = _found(os.path.expanduser(path))
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
        hint = "" if os.path.lexists(path) else _bundled_hint(path)
        raise UserError(f"cannot read flagfile {types.one_line(path)}: {reason}{hint}")
    return text


def bundled() -> dict[str, pathlib.Path]:
    """Lists the flagfiles that come with the experiments.

    Returns:
      The path of each by its name without ending, in alphabetical order.
    """
    spec = importlib.util.find_spec("experiments")
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in pathlib.Path(folder, "flags").iterdir()]
    return {path.stem: path for path in sorted(files) if path.suffix == ENDING}


def _found(path: str) -> str:
    """The path of a flagfile; of a bundled one where no file is there and its name is given."""
    if os.path.lexists(path) or os.path.basename(path) != path:
        return path
    return str(bundled().get(path.removesuffix(ENDING), path))


def _bundled_hint(path: str) -> str:
    """Names bundled flagfiles like one that is not there; where it is a bare name, them all."""
    known, name = bundled(), os.path.basename(path).removesuffix(ENDING)
    near = [name] if name in known else difflib.get_close_matches(name, known, n=SUGGESTED)
    if near:
        return f"; did you mean the bundled {_listed(near)}?"
    return "" if os.path.basename(path) != path else f"; bundled are {', '.join(known)}"


def _unknown(name: str, given: Sequence[_Given]) -> str:
    """Says that there is no such flag, where it was given, and which are called nearly so."""
    words = {word: one.place for one in given for word in _names(one.text)}
    place = words.get(name, COMMAND_LINE)
    where = "" if place == COMMAND_LINE else f" {place}"
    near = _nearest(name, flags.FLAGS)
    hint = f"; did you mean {_listed([f'--{one}' for one in near])}?" if near else ""
    return f"unknown flag --{types.one_line(name, limit=80)}{where}{hint}"


def _names(word: str) -> tuple[str, ...]:
    """What absl may call the flag in a word."""
    name = word.lstrip("-").partition("=")[0]
    return name, name.removeprefix("no")


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """The flags that hold a name as one of their words or in them, then those spelled like it."""
    names = sorted(known)
    ours = [
        n for n in names if not str(flags.FLAGS.find_module_defining_flag(n)).startswith("absl")
    ]
    holding = [n for n in ours if name in n.split("_")]
    holding += [n for n in ours if len(name) > 1 and name in n]
    like = difflib.get_close_matches(name, names, n=SUGGESTED)
    like += difflib.get_close_matches(name.removeprefix("no"), names, n=1)
    return list(dict.fromkeys([*holding, *like]))[:SUGGESTED]


def _listed(words: Sequence[str]) -> str:
    """Writes "a", "a or b", "a, b or c"."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _warn_of_duplicates(given: Sequence[_Given]) -> None:
    """Warns of a flag with two values, unless the command line overrides a flagfile."""
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
