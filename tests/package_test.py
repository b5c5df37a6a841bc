"""The package itself: its parts come when they are used."""

import pathlib
import subprocess
import sys

import pytest

import jaxgan


def test_parts_are_imported_when_used_and_not_before():
    code = """
import sys, jaxgan
assert not [name for name in sys.modules if name.startswith(("jaxgan.", "jax.", "flax"))]
assert "steps" in dir(jaxgan) and "__version__" in dir(jaxgan)
assert callable(jaxgan.steps.train_step) and "jaxgan.steps" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_part_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jaxgan' has no attribute 'stepps'"):
        jaxgan.stepps  # noqa: B018


def test_the_version_to_cite_is_that_of_the_package():
    root = pathlib.Path(__file__).parent.parent
    assert f"version: {jaxgan.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"## {jaxgan.__version__}\n" in (root / "CHANGELOG.md").read_text()


@pytest.mark.slow  # imports and renders every module
def test_the_pages_of_the_docstrings_are_made_without_a_warning(tmp_path):
    pytest.importorskip("pdoc")
    argv = ["-m", "pdoc", "--docformat", "google", "-o", str(tmp_path), "jaxgan"]
    result = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True)
    assert "Warn" not in result.stderr + result.stdout, result.stderr
    assert (tmp_path / "jaxgan" / "steps" / "game.html").is_file()
