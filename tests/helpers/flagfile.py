"""The flagfiles of experiments/flags, read as configs."""

import os
import pathlib
from typing import Any

from tests.helpers import command

FOLDER = command.ROOT / "experiments" / "flags"
FLAGFILES = sorted(FOLDER.glob("*.flags"))


def values(path: pathlib.Path) -> dict[str, str]:
    """The flags of a file, as text."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    return dict(line.removeprefix("--").split("=", 1) for line in lines)


def fits(config: type, path: pathlib.Path) -> bool:
    """Whether an experiment has every flag of a file."""
    return set(values(path)) <= set(config.__dataclass_fields__)


def config(kind: type, path: pathlib.Path) -> Any:
    """The config that a file makes."""
    fields = kind.__dataclass_fields__
    given = {name: type(fields[name].default)(value) for name, value in values(path).items()}
    return kind(**{**given, "workdir": os.devnull})
