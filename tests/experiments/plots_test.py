"""The picture of accuracies: where its lines are, and the numbers on its axis."""

import numpy as np
import pytest

from experiments import _plots


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (52.3, 97.1, [50, 60, 70, 80, 90, 100]),
        (98.1, 98.8, [98.1, 98.2, 98.3, 98.4, 98.5, 98.6, 98.7, 98.8]),
        (70, 70, None),
    ],
)
def test_axes_have_round_numbers(low, high, expected):
    found = _plots.ticks(low, high)
    assert found[0] <= low and found[-1] >= high and len(found) <= 10
    if expected:
        np.testing.assert_allclose(found, expected)


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


def test_a_line_for_each_arm_rises_with_its_accuracy(tmp_path):
    rows = _rows({5: {"a": 0.6, "b": 0.7}, 50: {"a": 0.9, "b": 0.95}})
    _plots.accuracies(tmp_path / "p.png", rows, {"a": "real", "b": "shifted"})
    lines = {"a": [(5, 60, 2), (50, 90, 2)], "b": [(5, 70, 2), (50, 95, 2)]}
    picture = _plots.draw(lines, x="x", y="y").astype(int)
    assert (tmp_path / "p.png").stat().st_size > 1000 and picture.shape == (460, 900, 3)
    inside = picture[:, : 900 - _plots.RIGHT]  # without the names
    blue = (np.abs(inside - [0x1F, 0x77, 0xB4]).max(2) < 30).nonzero()  # of the second line
    first, last = blue[1].argmin(), blue[1].argmax()
    assert blue[0][first] > blue[0][last] + 50


def test_a_row_by_itself_is_drawn():
    picture = _plots.draw({"a": [(150, 97.0, 0.5)], "b": [(150, 98.0, 0.0)]}, x="x", y="y")
    assert picture.min() < 100
