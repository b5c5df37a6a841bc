"""The curve of a language model's temperatures, and what lies beside it."""

import json
import math

import jax
import numpy as np
import PIL.Image
import pytest

from experiments import _written, curve, text
from jaxgan.losses import text as losses
from jaxgan.run import load
from jaxgan.types import UserError
from tests.experiments import text_test


def test_a_gain_is_the_distance_to_the_curve_at_the_same_diversity():
    rows = [{"bleu2": 0.9, "self_bleu2": 0.8}, {"bleu2": 0.5, "self_bleu2": 0.4}]
    trade = curve.Trade("bleu2", True, "self_bleu2")
    assert math.isclose(trade.gain(rows, {"bleu2": 0.75, "self_bleu2": 0.6}), 0.05)
    assert math.isclose(trade.gain(rows[::-1], {"bleu2": 0.6, "self_bleu2": 0.6}), -0.1)
    assert math.isnan(trade.gain(rows, {"bleu2": 0.9, "self_bleu2": 0.9}))
    assert "0.0500 better than the language model's of the same" in curve.verdict(trade, 0.05)
    assert "0.1000 worse" in curve.verdict(trade, -0.1)
    assert "beyond the curve's ends" in curve.verdict(trade, math.nan)


def test_of_the_oracle_fewer_nats_are_better_and_the_best_crossing_counts():
    rows = [{"oracle": q, "nll": d} for q, d in ((6.0, 9.0), (8.0, 8.0), (8.5, 9.0))]
    trade = curve.Trade("oracle", False, "nll")
    # At 8.5 nats the curve has 7 on its first part and 8.25 on its second: 7 is to be beaten.
    assert math.isclose(trade.gain(rows, {"oracle": 6.5, "nll": 8.5}), 0.5)
    assert math.isclose(trade.gain(rows, {"oracle": 7.5, "nll": 8.5}), -0.5)


def test_a_run_beside_its_own_curve_lies_on_it(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    place, out = str(tmp_path / "run"), tmp_path / "curve.png"
    text.run(text_test.config("mle", workdir=place, num_steps=1, save_every=1, sample_every=9))
    settings = {"workdir": place, "num": 20, "out": str(out), "temperatures": "0.5,1"}
    found = curve.run(curve.Config(**settings, beside=place))
    assert all(abs(gain) < 1e-12 for gain in found["gain"][place].values())
    assert {k: v for k, v in found["curve"][1].items() if k != "temperature"} == (
        found["beside"][place]
    )
    assert json.loads(out.with_suffix(".json").read_text())["step"] == 1
    with PIL.Image.open(out) as picture:
        assert picture.width > 1000  # three charts
    with pytest.raises(UserError, match=f"{place}: --checkpoint=best: no saved step has a score"):
        curve.run(curve.Config(**settings, beside=place, beside_checkpoint="best"))
    printed = capsys.readouterr().out
    assert "temperature 0.5" in printed and "frechet of as much training text" in printed
    trained = load.load(place)
    gen, (variables,) = trained.experiment.sample.gen, trained.members()
    held = _written.held_out(trained.config, 4)
    features = gen.apply(variables, held["text"], train=False, method="features")
    first = np.asarray(features[0, : held["length"][0]]).mean(0)
    seen = _written.embedded(gen, variables, held)
    np.testing.assert_allclose(seen[0], first, rtol=1e-5, atol=1e-8)
    logits = gen.apply(variables, held["text"], train=False) / 0.5
    nats = losses.token_cross_entropy(logits, held["text"], held["length"]).sum(1)
    colder = _written.nll(gen, variables, held, temperature=0.5)
    np.testing.assert_allclose(colder, jax.device_get(nats), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "--workdir is empty"),
        ({"workdir": "x", "temperatures": "1"}, "--temperatures=1: a curve has two or more"),
        ({"workdir": "x", "temperatures": "1,hot"}, "not a list of numbers above 0"),
        ({"workdir": "x", "out": "curve.txt"}, "ends in none of .png, .svg and .pdf"),
        ({"workdir": "x", "out": "/nowhere/curve.png"}, "there is no such folder"),
    ],
)
def test_a_mistake_is_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        curve.Config(**settings)
