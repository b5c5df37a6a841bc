"""The command line: a frozen dataclass becomes absl flags, and a mistake ends in one line.

Nothing is defined at import. `main(Config, run)` defines a flag for each field of `Config`, parses,
builds the config and calls `run(config)`. A field checks itself when the config is built, so a
config built in Python is held to the same bounds as one from flags.
"""

import dataclasses
import difflib
import logging as std_logging
import math
import numbers
import os
import signal
import sys
import typing
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, dataclass_transform

import numpy as np
from absl import app, flags, logging

from jaxgan import types
from jaxgan.parallel import processes
from jaxgan.run import early, flagfiles
from jaxgan.types import UserError

C = TypeVar("C")
T = TypeVar("T")

MAX_TEXT = 4096  # as paths
LARGEST = 2**31 - 1  # steps are counted in 32 bits on the devices, and seeds cut off after 32


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

    The type of the flag is that of the field's annotation: int, float, bool or str.

    Args:
      default: the value without a flag.
      help: one sentence, with the unit.
      choices: the values accepted; empty for any.
      minimum: the smallest number accepted.
      above: numbers must be larger than this.
      below: numbers must be smaller than this.
      changeable: whether a run may resume with another value.

    Returns:
      A dataclass field. Floats must be finite, whole numbers fit into 32 bits, and text into one
      line of a flagfile.
    """
    limits = {"choices": tuple(choices), "minimum": minimum, "above": above, "below": below}
    return dataclasses.field(
        default=default, metadata={"help": help, "changeable": changeable, **limits}
    )


@dataclass_transform(frozen_default=True)
def config(**defaults: Any) -> Callable[[type[C]], type[C]]:
    """Makes a config of a class, with other defaults for some of the fields that it inherits.

    Args:
      **defaults: by the name of the field; what the field accepts and its help stay.

    Returns:
      A class decorator, in place of `dataclasses.dataclass(frozen=True)`.
    """

    def make(cls: type[C]) -> type[C]:
        inherited: dict[str, dataclasses.Field] = {}
        for base in reversed(cls.__mro__):
            inherited |= base.__dict__.get("__dataclass_fields__", {})
        annotations = dict(cls.__dict__.get("__annotations__", {}))
        for name, default in defaults.items():
            annotations[name] = inherited[name].type
            metadata = inherited[name].metadata
            setattr(cls, name, dataclasses.field(default=default, metadata=metadata))
        cls.__annotations__ = annotations
        return dataclasses.dataclass(frozen=True)(cls)

    return make


def integers(config: Any, name: str) -> tuple[int, ...]:
    """Reads a field that lists numbers.

    Args:
      config: the config.
      name: of the field, whose value is such as "128,64".

    Returns:
      The numbers, each 1 or more.

    Raises:
      UserError: it is not a list of positive numbers.
    """
    text = getattr(config, name)
    parts = [part.strip() for part in text.split(",")]
    values = tuple(int(part) for part in parts if part.isdecimal() and len(part) < 10)
    if len(values) < len(parts) or min(values) < 1:
        raise UserError(f"--{name}={text} is not a list of positive numbers such as 128,64")
    return values


def floats(config: Any, name: str) -> tuple[float, ...]:
    """Reads a field that lists numbers that need not be whole.

    Args:
      config: the config.
      name: of the field, whose value is such as "0.1,1".

    Returns:
      The numbers, each above 0.

    Raises:
      UserError: it is not a list of numbers above 0.
    """
    text = getattr(config, name)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise UserError(f"--{name}={text} is not a list of numbers above 0 such as 0.1,1")
    return values


def span(config: Any, name: str) -> float | tuple[float, float]:
    """Reads a field that holds a number, or a range of which one is drawn.

    Args:
      config: the config.
      name: of the field, whose value is such as "25" or "0,55".

    Returns:
      The number, or both ends of the range, each 0 or more.

    Raises:
      UserError: it is neither.
    """
    text = getattr(config, name)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 <= value < math.inf for value in values):
        raise UserError(f"--{name}={text} is neither a number such as 25 nor a range such as 0,55")
    if values[0] > values[-1]:
        raise UserError(f"--{name}={text} is a range whose lower end must come first")
    return values[0] if values[0] == values[-1] else (values[0], values[1])


def check(config: Any) -> None:
    """Checks every field of a config against its declaration.

    Args:
      config: a dataclass with fields from `field`; call it in `__post_init__`.

    Raises:
      UserError: a value is not accepted; the message names flag, value and what is accepted.
    """
    annotations = typing.get_type_hints(type(config))
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if spec.metadata:
            problem = _problem(value, spec, annotations[spec.name])
            if problem:
                raise UserError(f"--{spec.name}={types.one_line(value)} {problem}")


class _Plain(std_logging.Formatter):
    """Warnings as those of the rest of the program read, without the place in the code."""

    def format(self, record: std_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def main(config_type: type[C], run: Callable[[C], Any]) -> None:
    """Parses the command line into a config and runs it; does not return.

    Exit codes: 0 done; 1 training had to stop; 2 a mistake in what was asked; 128 + n ended by
    signal n (130 Ctrl-C, 143 SIGTERM).

    Args:
      config_type: a frozen dataclass whose fields come from `field`.
      run: called with the config.
    """
    early.begin()
    flags.disclaim_key_flags()  # they belong to the experiment, not to this file: --helpshort
    names = define(config_type)

    def with_config(argv: list[str]) -> None:
        del argv
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax logs every file it writes
            logging.get_absl_handler().setFormatter(_Plain())
        config = config_type(**{name: flags.FLAGS[name].value for name in names})
        with processes.fail_together():
            run(config)

    def one_line_for_mistakes(argv: list[str]) -> None:
        or_one_line(lambda: with_config(argv))

    def parsed(argv: list[str]) -> list[str]:
        return or_one_line(lambda: flagfiles.parse(argv))

    app.run(one_line_for_mistakes, flags_parser=parsed)


def define(config_type: type, *, registry: flags.FlagValues | None = None) -> list[str]:
    """Defines a flag for each field of a config.

    Args:
      config_type: a dataclass whose fields come from `field`.
      registry: takes the flags; None for absl's own, which the command line is parsed into.

    Returns:
      The names of the flags.
    """
    registry = flags.FLAGS if registry is None else registry
    kinds = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    annotations = typing.get_type_hints(config_type)  # also those that are written as text
    names = []
    for spec in dataclasses.fields(config_type):
        help_text, kind = spec.metadata["help"], annotations[spec.name]
        if kind not in kinds:
            name = f"{config_type.__name__}.{spec.name}"
            raise TypeError(f"{name} is annotated {kind}; a flag is an int, float, bool or str")
        if spec.metadata["choices"]:
            help_text += f" One of: {', '.join(map(str, spec.metadata['choices']))}."
        kinds[kind](spec.name, spec.default, help_text, flag_values=registry)
        names.append(spec.name)
    return names


def from_flags(config_type: type[C], argv: Sequence[str]) -> C:
    """Makes a config of flags and flagfiles, beside the command line.

    Args:
      config_type: a dataclass whose fields come from `field`.
      argv: `--name=value`, `--flagfile=NAME`.

    Returns:
      The config.

    Raises:
      UserError: it has no such flag, or does not take the value.
    """
    registry = flags.FlagValues()
    names = define(config_type, registry=registry)
    try:
        registry(["", *flagfiles.words(argv)])
    except (flags.Error, ValueError) as error:
        raise UserError(types.one_line(error)) from error
    return config_type(**{name: registry[name].value for name in names})


def as_flags(config: Any, *, without: Collection[str] = ()) -> str:
    """Writes a config as the lines of a flagfile that reproduce it.

    Args:
      config: a dataclass with fields from `field`.
      without: names of fields that are left out.

    Returns:
      One `--name=value` a line.
    """
    annotations = typing.get_type_hints(type(config))
    values = {k: v for k, v in dataclasses.asdict(config).items() if k not in without}
    # A float given as a whole number is written as the flag will read it.
    values = {k: float(v) if annotations[k] is float else v for k, v in values.items()}
    return "".join(f"--{name}={value}\n" for name, value in values.items())


def or_one_line(action: Callable[[], T]) -> T:
    """Calls a function; a person's mistake in it ends the process with one line on stderr.

    Args:
      action: what to do.

    Returns:
      Its result.

    Raises:
      SystemExit: with the exit code, see `main`; any other error is a bug and passes through.
    """
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
    except KeyboardInterrupt as error:
        # Before training, or of a program that evaluates, samples or compares: the run's own loop
        # saves its state and says so.
        print(f"{str(error) or 'interrupted'}: stopped; no training to save", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 128 + signal.SIGINT))
    except BrokenPipeError:  # the reader of our output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _problem(value: Any, spec: dataclasses.Field, kind: type) -> str:
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
    if kind is bool and not isinstance(value, bool | np.bool_):
        return "is neither true nor false"
    if kind is int and not isinstance(value, numbers.Integral):
        return "is not a whole number"
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
    """What is wrong with text; accepted text comes back unchanged from the run's flagfile."""
    if not isinstance(value, str | os.PathLike):
        return "is not text"
    value = os.fspath(value)
    if len(value) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
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
