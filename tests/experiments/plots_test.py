"""The picture of accuracies: its lines, their bands, and one row by itself."""

import sys

import numpy as np
import PIL.Image
import pytest

from experiments import _plots
from jaxgan.types import UserError


def _rows(points):
    return {
        f"labelled-{x}": {
            "examples": 10 * x,
            "arms": {
                arm: {"accuracy": [y, 0.02], "recall": [[0, 0]] * 10} for arm, y in each.items()
            },
        }
        for x, each in points.items()
    }


def test_each_way_has_a_line_over_its_labels_with_a_band(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(_plots, "draw", lambda path, charts: drawn.extend(charts))
    rows = _rows({50: {"a": 0.9, "b": 0.95}, 5: {"a": 0.6, "b": 0.7}})
    _plots.accuracies(tmp_path / "p.png", rows, {"a": "real", "b": "shifted"})
    (chart,) = drawn
    assert chart.log_x and list(chart.lines) == ["(a) real", "(b) shifted"]
    line = chart.lines["(b) shifted"]
    np.testing.assert_allclose([line.x, line.y, line.half], [[5, 50], [70, 95], [2, 2]])


def test_lines_are_drawn_and_so_is_a_row_by_itself(tmp_path):
    pytest.importorskip("matplotlib")
    for points in ({5: {"a": 0.6}, 50: {"a": 0.9}}, {150: {"a": 0.9}}):
        _plots.accuracies(tmp_path / "p.png", _rows(points), {"a": "real"})
        with PIL.Image.open(tmp_path / "p.png") as picture:
            blue = np.abs(np.asarray(picture.convert("RGB")).astype(int) - [31, 119, 180]).max(2)
        assert (blue < 30).sum() > 20


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r'pip install "jaxgan\[plots\]"'):
        _plots.check()
