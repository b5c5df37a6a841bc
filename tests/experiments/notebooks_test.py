"""The notebooks run from top to bottom."""

import json
import os
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))


def test_there_are_three_without_outputs():
    assert [path.stem for path in NOTEBOOKS] == ["own_code", "restore_photos", "ring"]
    cells = [cell for path in NOTEBOOKS for cell in json.loads(path.read_text())["cells"]]
    assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.slow  # each starts a process of its own, compiles and trains
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_with_few_steps(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.read(path, 4)
    for cell in book.cells:
        cell.source = re.sub(r"^NUM_STEPS = \d+$", "NUM_STEPS = 20", cell.source, flags=re.M)
        cell.source = cell.source.replace("every=500", "every=10")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    client = nbclient.NotebookClient(
        book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises what a cell raises
    shown = [out for cell in book.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in shown)
