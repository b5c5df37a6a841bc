"""Lint, format and types, so that one command checks everything."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = {
    "lint": ["-m", "ruff", "check", "--no-cache", "."],
    "format": ["-m", "ruff", "format", "--no-cache", "--check", "."],
    "types": ["-m", "basedpyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_code_is_clean(name):
    result = subprocess.run(
        [sys.executable, *COMMANDS[name]], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]


def test_no_notebook_or_dataset_is_tracked():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    sizes = {
        n: (ROOT / n).stat().st_size for n in tracked.stdout.split("\0") if (ROOT / n).is_file()
    }
    assert sizes, "git tracks nothing here"
    large = {name: size for name, size in sizes.items() if size > 400_000}
    assert not large
