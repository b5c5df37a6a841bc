"""Checkpoints of every format there has been are still restored, bit for bit.

`tests/fixtures/format_N` holds one step saved by the first version that wrote format N; 0 is that
without a manifest. When the format changes, raise `manifest.FORMAT`, and write the new one with

    python -m tests.faults.formats_test

The ones before stay as they are, for ever.
"""

import json
import pathlib
import shutil
import sys

import pytest

from jaxgan.run import checkpoint, manifest
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import tiny

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures"
STEP = 30


def _folder(tmp_path, number):
    return shutil.copytree(FOLDER / f"format_{number}", tmp_path / "checkpoints")


@pytest.mark.parametrize("number", range(manifest.FORMAT + 1))
def test_a_checkpoint_of_every_format_is_restored(tmp_path, capsys, number):
    folder = _folder(tmp_path, number)
    with checkpoint.manager(folder) as manager:
        restored = checkpoint.restore(manager, small.state(0.0))
    assert tiny.equal(restored, small.state(step=STEP))
    step, variables = checkpoint.restore_generator(folder)
    assert step == STEP and tiny.equal(variables, small.state().gen_ema)
    assert ("has no manifest: it is not verified" in capsys.readouterr().out) == (number == 0)


def test_a_newer_format_says_so_and_is_not_skipped(tmp_path):
    folder = _folder(tmp_path, manifest.FORMAT)
    path = folder / str(STEP) / manifest.NAME
    content = json.loads(path.read_text())
    del content["sha256"]
    content |= {"format": manifest.FORMAT + 1, "jaxgan": "9.9"}
    content["sha256"] = manifest._digest_of(content)
    path.write_text(json.dumps(content))
    with checkpoint.manager(folder) as manager:
        with pytest.raises(UserError, match=r"jaxgan 9.9 in checkpoint format \d.*update"):
            checkpoint.restore(manager, small.state())
    assert (folder / str(STEP)).is_dir()


def test_fixtures_are_small_and_name_no_machine():
    for kind, limit in {"format": 100_000, "run": 200_000}.items():
        files = [path for path in FOLDER.glob(f"{kind}_*/**/*") if path.is_file()]
        assert 20 < len(files) and sum(path.stat().st_size for path in files) < limit
        assert not any(b"/tmp" in path.read_bytes() for path in files)


if __name__ == "__main__":
    with checkpoint.manager(FOLDER / f"format_{manifest.FORMAT}") as made:
        checkpoint.save(made, small.state(step=STEP))
    for said in FOLDER.rglob("commit_success.txt"):  # they name the folder, and nobody reads them
        said.write_text("Checkpoint commit was successful\n")
    sys.exit(f"wrote {FOLDER}: commit it")
