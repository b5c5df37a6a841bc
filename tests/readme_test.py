"""The README's example runs as it stands; commands have the flags they are given."""

import dataclasses
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def _blocks(text):
    """(heading above, language, content) of every fenced block."""
    heading, blocks = "", []
    pattern = re.compile(
        r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
    )
    for match in pattern.finditer(text):
        if match["heading"] is not None:
            heading = match["heading"].strip()
        else:
            blocks.append((heading, match["language"], match["code"]))
    return blocks


def test_a_block_is_found_under_its_heading():
    text = "# A\n\n```bash\n# not a heading\n```\n\n## B\n\n```python\nx = 1\n```\n"
    assert _blocks(text) == [("A", "bash", "# not a heading\n"), ("B", "python", "x = 1\n")]


def test_the_example_in_your_own_code_runs_as_it_stands(tmp_path):
    blocks = _blocks((ROOT / "README.md").read_text())
    python = [(heading, code) for heading, language, code in blocks if language == "python"]
    assert [heading for heading, _ in python] == ["In your own code"]
    (tmp_path / "example.py").write_text(python[0][1])
    result = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "example.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize(
    "name", ["README.md", "BUILD.md", "experiments/README.md", "experiments/GUIDE.md"]
)
def test_flags_of_the_commands_exist(name):
    ours = {"flagfile", "helpshort", "helpfull"}  # absl's own
    commands = re.findall(r"experiments\.(\w+)((?:[ \\\n]+--[^\s`|]+)+)", (ROOT / name).read_text())
    assert commands
    for experiment, text in commands:
        config = importlib.import_module(f"experiments.{experiment}").Config
        known = ours | {field.name for field in dataclasses.fields(config)}
        flags = set(re.findall(r"--(\w+)", text))
        assert flags <= known, (experiment, text)


@pytest.mark.parametrize(
    "name", ["README.md", "BUILD.md", "experiments/README.md", "experiments/GUIDE.md"]
)
def test_files_that_are_named_are_there(name):
    place = ROOT / name
    text = place.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (place.parent / target).is_file(), target
    for flagfile in re.findall(r"--flagfile=(experiments/\S+?\.flags)\b", text):
        assert (ROOT / flagfile).is_file(), flagfile


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
