"""Imports go one way, read from the source: a file may be understood from those below it."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = [
    {"types"},
    {"collectives", "structure", "cpu"},
    {"latents", "images", "ema", "penalties", "regularizers", "frozen"}
    | {"categorical", "sentences"}
    | {"losses", "augment", "nets", "data"},
    {"state", "metrics", "translate"},
    {"steps", "parallel"},
    {"sample", "retouch", "onnx", "invert"},
    {"run"},
    {"experiments"},
]
# Within a layer: only these, so that the order between them is a decision too.
SIDEWAYS = {("data", "images"), ("sentences", "categorical")}
# What steps are given as arguments, they must not reach for.
FORBIDDEN = {("steps", "nets"), ("steps", "data"), ("losses", "nets"), ("nets", "losses")}
FILES = sorted([*(ROOT / "jaxgan").rglob("*.py"), *(ROOT / "experiments").glob("*.py")])


def _unit(module: str) -> str:
    """What a module belongs to: "jaxgan.steps.combine" -> "steps"; "" for the package itself."""
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    return parts[1] if len(parts) > 1 else ""


@functools.cache
def _imports(path: pathlib.Path) -> frozenset[str]:
    """Every module that a file imports, wherever in it, "jaxgan.x" for `from jaxgan import x`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module)
            if node.module in ("jaxgan", "experiments", "absl"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _name(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _edges():
    """(file, unit that imports, unit imported) for imports between parts of the project."""
    for path in FILES:
        ours = _unit(_name(path))
        for module in _imports(path):
            if module.split(".")[0] in ("jaxgan", "experiments"):
                theirs = _unit(module)
                if theirs and theirs != ours and not theirs.startswith("__"):
                    yield path, ours, theirs


def _layer(unit: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if unit in layer]
    assert found, f"{unit} is in no layer: give it one in {pathlib.Path(__file__).name}"
    return found[0]


def test_there_is_something_to_read():
    assert len(FILES) > 20 and len(list(_edges())) > 40


def test_every_file_has_a_layer():
    for path in FILES:
        unit = _unit(_name(path))
        assert not unit or _layer(unit) >= 0


def test_imports_go_down():
    wrong = [
        f"{path.relative_to(ROOT)} imports {theirs}"
        for path, ours, theirs in _edges()
        if not ours or (_layer(theirs) >= _layer(ours) and (ours, theirs) not in SIDEWAYS)
    ]
    assert wrong == []


def test_steps_take_networks_and_data_as_arguments():
    wrong = [str(path) for path, ours, theirs in _edges() if (ours, theirs) in FORBIDDEN]
    assert wrong == []


def test_permissions_are_used():
    # One that nobody uses is a hole that nobody sees.
    assert SIDEWAYS <= {(ours, theirs) for _, ours, theirs in _edges()}


def test_only_the_command_line_reads_flags():
    # data.stream: Grain's worker processes read absl flags, which nobody parses elsewhere.
    allowed = {"jaxgan.run.cli", "jaxgan.run.flagfiles", "jaxgan.data.stream"}
    readers = {
        _name(path) for path in FILES if _imports(path) & {"absl.flags", "absl.app", "argparse"}
    }
    assert readers == allowed


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_libraries_that_must_not_be_needed_are_not_imported(path):
    packages = {module.split(".")[0] for module in _imports(path)}
    assert not packages & {"tensorflow", "torch", "pickle", "dill", "yaml", "pytest", "tests"}
