"""The package itself: its parts come when they are used."""

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
