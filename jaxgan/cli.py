"""The command line: a frozen dataclass becomes absl flags, and a mistake becomes one line.

Nothing is defined at import. `main(Config, run)` defines a flag for each field of `Config`, parses,
builds the config and calls `run(config)`. A field checks itself when the config is built, so a
config built in Python is held to the same bounds as one from flags.
"""

import dataclasses
import difflib
import itertools
import math
import numbers
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from absl import app, flags, logging

from jaxgan import processes, types
from jaxgan.types import UserError

C = TypeVar("C")
LARGEST = 2**31 - 1  # steps are counted in 32 bits on the devices, and seeds cut off after 32
MAX_FLAGFILES = 100
MAX_FLAGFILE = 2**20  # characters
COMMAND_LINE = "on the command line"


def field(
    default: Any,
    help: str,
    *,
    choices: Sequence[str | int] = (),
    minimum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    changeable: bool = False,
) -> Any:
    """Declares a field of a config: its flag, its help, and what it accepts.

    Args:
      default: the value without a flag; int, float, bool or str.
      help: one sentence, with the unit.
      choices: the values accepted; empty for any.
      minimum: the smallest number accepted.
      above: numbers must be larger than this.
      below: numbers must be smaller than this.
      changeable: whether a run may be taken up again with another value.

    Returns:
      A dataclass field. Floats must be finite, whole numbers fit into 32 bits, and text into one
      line of a flagfile.
    """
    limits = {"choices": tuple(choices), "minimum": minimum, "above": above, "below": below}
    return dataclasses.field(
        default=default, metadata={"help": help, "changeable": changeable, **limits}
    )


def check(config: Any) -> None:
    """Checks every field of a config against its declaration.

    Args:
      config: a dataclass with fields from `field`; call it in `__post_init__`.

    Raises:
      UserError: a value is not accepted; the message names flag, value and what is accepted.
    """
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if spec.metadata:
            problem = _problem(value, spec)
            if problem:
                raise UserError(f"--{spec.name}={types.one_line(value)} {problem}")


def main(config_type: type[C], run: Callable[[C], Any]) -> None:
    """Parses the command line into a config and runs it; does not return.

    Exit codes: 0 done; 1 training had to stop; 2 a mistake in what was asked; 128 + n ended by
    signal n (130 Ctrl-C, 143 SIGTERM).

    Args:
      config_type: a frozen dataclass whose fields come from `field`.
      run: called with the config.
    """
    flags.disclaim_key_flags()  # they belong to the experiment, not to this file: --helpshort
    names = [_define(spec) for spec in dataclasses.fields(config_type)]  # pyright: ignore

    def with_config(argv: list[str]) -> None:
        del argv
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it writes
        config = config_type(**{name: flags.FLAGS[name].value for name in names})
        with processes.together():
            run(config)

    def one_line_for_mistakes(argv: list[str]) -> None:
        _or_one_line(lambda: with_config(argv))

    app.run(one_line_for_mistakes, flags_parser=lambda argv: _or_one_line(lambda: _parse(argv)))


def as_flags(config: Any) -> str:
    """Writes a config as the lines of a flagfile that reproduce it.

    Args:
      config: a dataclass with fields from `field`.

    Returns:
      One `--name=value` a line.
    """
    return "".join(f"--{name}={value}\n" for name, value in dataclasses.asdict(config).items())


def _define(spec: dataclasses.Field) -> str:
    """Defines the flag of one field; returns its name."""
    help_text, default = spec.metadata["help"], spec.default
    if spec.metadata["choices"]:
        help_text += f" One of: {', '.join(map(str, spec.metadata['choices']))}."
    define = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }[type(default)]
    define(spec.name, default, help_text)
    return spec.name


def _problem(value: Any, spec: dataclasses.Field) -> str:
    """What is wrong with a value, with the remedy; empty if nothing is."""
    limits = spec.metadata
    if limits["choices"] and value not in limits["choices"]:
        names = [str(choice) for choice in limits["choices"]]
        near = difflib.get_close_matches(str(value), names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return f"is not one of {', '.join(names)}{hint}"
    if isinstance(spec.default, str):
        return _text_problem(value)
    if not isinstance(value, numbers.Real):
        return "is not a number"
    if isinstance(value, numbers.Integral) and abs(int(value)) > LARGEST:
        return f"is beyond {LARGEST}, the largest whole number accepted"
    if not math.isfinite(value):
        return "is not a finite number"
    if limits["minimum"] is not None and value < limits["minimum"]:
        return f"is below {limits['minimum']}, the smallest value accepted"
    if limits["above"] is not None and value <= limits["above"]:
        return f"must be above {limits['above']}"
    if limits["below"] is not None and value >= limits["below"]:
        return f"must be below {limits['below']}"
    return ""


def _text_problem(value: Any) -> str:
    """What is wrong with text; whatever passes comes back unchanged from the run's flagfile."""
    if not isinstance(value, str | os.PathLike):
        return "is not text"
    value = os.fspath(value)
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        return "holds a line break or another character that cannot stand in a flagfile"
    if value != value.strip():
        return "starts or ends with a space; take it away"
    if value.startswith(("'", '"')):
        return "starts with a quote; write it without quotes"
    if value.startswith("--"):
        return "looks like the next flag; was a value left out?"
    if value.startswith("~") and os.path.expanduser(value) == value:
        return "names a user who has no home directory"
    return ""


class _Given(NamedTuple):
    """A word of the command line, or a line of a flagfile."""

    text: str
    place: str
    depth: int  # of flagfiles around it


def _parse(argv: list[str]) -> list[str]:
    """Parses flags, refusing what absl would pass over in silence."""
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


def _or_one_line(action: Callable[[], Any]) -> Any:
    """Runs something; a person's mistake ends in its line on stderr and exit code 2."""
    try:
        return action()
    except UserError as error:
        print(f"error: {types.one_line(error, limit=2000)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        if "nable to initialize backend" not in str(error):
            raise
        # JAX itself says which platforms there are and how to choose one.
        print(f"error: no device: {types.one_line(error, limit=1000)}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        print("interrupted before training began; nothing to save", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
