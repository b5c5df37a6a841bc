"""Manifests: what is written down, what is refused, and that nothing but the declared errors come.

Damage to real checkpoints is in tests/faults/checkpoint_test.py.
"""

import hashlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan import __version__
from jaxgan.run import manifest
from jaxgan.types import UserError


@pytest.fixture
def folder(tmp_path):
    """Two parts, a file beside them, and the manifest of all."""
    made = tmp_path / "saved"
    for name in ("a/d/array", "a/_METADATA", "b/d/array", "note"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode() * 9)
    (made / "commit_success.txt").write_text("before")
    manifest.write(made)
    return made


def test_a_manifest_says_what_every_file_is(folder):
    content = json.loads((folder / "manifest.json").read_text())
    assert content["format"] == manifest.FORMAT and content["jaxgan"] == __version__
    assert list(content["files"]) == ["a/_METADATA", "a/d/array", "b/d/array", "note"]
    data = (folder / "a" / "d" / "array").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert content["files"]["a/d/array"] == {"size": len(data), "sha256": digest}
    assert manifest.verify(folder)


def test_what_changes_after_it_or_lies_beside_the_parts_does_not_matter(folder):
    (folder / "commit_success.txt").write_text("after")
    (folder / "stray").write_text("mine")
    assert manifest.verify(folder)


def test_only_the_parts_asked_for_matter(folder):
    (folder / "b" / "d" / "array").unlink()
    assert manifest.verify(folder, parts=("a",))
    with pytest.raises(manifest.Damaged, match="b/d/array is missing"):
        manifest.verify(folder)


def test_no_manifest_is_no_damage(folder):
    (folder / "manifest.json").unlink()
    assert not manifest.verify(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["files"].pop("note"), "does not have its stated sha256"),
        (lambda c: c.update(sha256=1), "does not have its stated sha256"),
        (lambda c: c.pop("sha256"), "is not a manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(folder, change, said):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(manifest.Damaged, match=said):
        manifest.verify(folder)


def test_special_files_are_refused(folder):
    os.mkfifo(folder / "a" / "pipe")
    with pytest.raises(manifest.Damaged, match="a/pipe is a link, or not a file"):
        manifest.verify(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=9,
)
ENTRIES = st.dictionaries(
    st.sampled_from(["a/d/array", "../x", "/etc/passwd", ""]),
    st.fixed_dictionaries({}, optional={"size": JSON, "sha256": JSON}) | JSON,
)
CONTENTS = st.fixed_dictionaries(
    {}, optional={"format": JSON, "jaxgan": JSON, "files": ENTRIES | JSON}
)


@settings(max_examples=25, deadline=None)
@given(content=CONTENTS | JSON, signed=st.booleans())
def test_any_json_gives_a_declared_error_or_is_a_manifest(tmp_path_factory, content, signed):
    folder = tmp_path_factory.mktemp("saved")
    if signed and isinstance(content, dict):  # by somebody who knows how
        content = {**content, "sha256": manifest._digest_of(content)}
    (folder / "manifest.json").write_text(json.dumps(content))
    try:
        manifest.verify(folder)
    except (manifest.Damaged, UserError):
        return
    assert content["files"] == {}  # nothing is there, and nothing was to be


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_the_declared_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("saved")
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(manifest.Damaged):
        manifest.verify(folder)
