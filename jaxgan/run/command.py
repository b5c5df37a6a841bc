"""The command `jaxgan`: runs any experiment of the package, from any folder.

`jaxgan mnist --flagfile=quickstart` does what `python -m experiments.mnist` does with that flag.
"""

import ast
import importlib.util
import pathlib
import pkgutil
import runpy
import sys
from collections.abc import Mapping, Sequence

from jaxgan import __version__, types
from jaxgan.run import cli, flagfiles
from jaxgan.types import UserError

PACKAGE = "experiments"
HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull", "help")


def main() -> None:
    """Runs the experiment named first on the command line; without one, lists them all.

    Exit codes are those of `cli.main`.
    """
    cli.or_one_line(lambda: _run(sys.argv[1:]))


def available() -> dict[str, str]:
    """Lists the experiments without importing any.

    Returns:
      The first line of each one's docstring, by its name, in alphabetical order.

    Raises:
      UserError: they are not installed beside this package.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = {
        module.name: pathlib.Path(folder, f"{module.name}.py")
        for folder in folders
        for module in pkgutil.iter_modules([folder])
        if not module.name.startswith("_") and not module.ispkg
    }
    if not paths:
        raise UserError(f"the package {PACKAGE} is not installed; install jaxgan again")
    return {name: _summary(path) for name, path in sorted(paths.items())}


def _run(argv: Sequence[str]) -> None:
    found = available()
    if argv[:1] == ["--version"]:
        print(f"jaxgan {__version__}")
    elif not argv or argv[0] in HELP:
        print(_usage(found))
    else:
        types.lookup(found, argv[0], "experiment")
        sys.argv = [sys.argv[0], *argv[1:]]
        # As __main__, as `python -m` does: a run records the module's own name.
        runpy.run_module(f"{PACKAGE}.{argv[0]}", run_name="__main__", alter_sys=True)


def _usage(found: Mapping[str, str]) -> str:
    recipes = {name: _comment(path) for name, path in flagfiles.bundled().items()}
    width, wide = max(map(len, found)), max(map(len, recipes), default=0)
    return "\n".join(
        [
            "usage: jaxgan EXPERIMENT --flag=value ...",
            "",
            *(f"  {name:{width}}  {summary}" for name, summary in found.items()),
            "",
            "flagfiles, for --flagfile=NAME:",
            "",
            *(f"  {name:{wide}}  {summary}" for name, summary in recipes.items()),
            "",
            "jaxgan EXPERIMENT --helpshort lists the flags of an experiment.",
        ]
    )


def _comment(path: pathlib.Path) -> str:
    """The comment that a flagfile begins with: what it is for, and what it gives."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _summary(path: pathlib.Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


if __name__ == "__main__":
    main()
