"""Scores in training: the reference, the best step as a function of the log, several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import parallel, sample
from jaxgan.metrics import evaluate
from jaxgan.run import scoring
from jaxgan.types import UserError
from tests.helpers import runs, tiny


def line(step, protocol="a", **values):
    return {"step": step, scoring.PROTOCOL: protocol, **{f"eval/{k}": v for k, v in values.items()}}


LINES = [
    {"step": 1, "gen/loss": 0.1},
    line(2, frechet_distance=3.0, score=5.0),
    line(4, frechet_distance=1.0, score=4.0),
    {"step": 4, "gen/loss": 0.0},
    line(6, frechet_distance=2.0, score=5.0),
]


@pytest.mark.parametrize(
    ("metric", "steps", "best"),
    [
        ("frechet_distance", [2, 4, 6], 4),
        ("score", [2, 4, 6], 2),  # the first of equals
        ("frechet_distance", [2, 6, 9], 6),  # 4 is not saved
        ("frechet_distance", [1, 9], None),
        ("recall", [2, 4, 6], None),
    ],
)
def test_the_best_saved_step_is_read_from_the_log(metric, steps, best):
    assert scoring.best_step(LINES, metric, steps) == best


def test_scores_measured_in_another_way_do_not_compare():
    lines = [*LINES, line(8, "b", frechet_distance=9.0), line(10, "b", frechet_distance=8.0)]
    assert scoring.best_step(lines, "frechet_distance", [2, 4, 6, 8, 10]) == 10


def test_every_metric_with_a_direction_is_one_that_compare_makes():
    vectors = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    probs = np.full((20, 2), 0.5)
    found = evaluate.compare(*[{"features": vectors, "probs": probs}] * 2)
    assert set(evaluate.BETTER) <= set(found) and set(evaluate.BETTER.values()) == {
        "higher",
        "lower",
    }


@pytest.mark.parametrize(("text", "step"), [("newest", 6), ("best", 4), ("2", 2)])
def test_a_checkpoint_is_asked_for_by_name_or_number(text, step):
    options = {"lines": LINES, "metric": "frechet_distance", "steps": [2, 4, 6]}
    assert scoring.choose_step(text, **options) == step


@pytest.mark.parametrize(
    ("text", "lines", "message"),
    [
        ("best", [], "no saved step has a score of score; train with --eval_every"),
        ("5", LINES, "--checkpoint=5 is not one of newest, best, 2, 4, 6"),
        ("bset", LINES, "--checkpoint=bset is not one of"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line(text, lines, message):
    with pytest.raises(UserError, match=message):
        scoring.choose_step(text, lines=lines, metric="score", steps=[2, 4, 6])


@pytest.mark.parametrize("num", [1, 8, 13])
def test_rows_spread_over_all_devices_whether_they_divide_or_not(num):
    rows = np.arange(2.0 * num).reshape(num, 2)
    placed = parallel.spread()(rows)
    assert placed.shape == (-(-num // 8) * 8, 2)
    assert placed.sharding.device_set == set(jax.devices())
    np.testing.assert_array_equal(placed[:num], rows)


@pytest.mark.parametrize("num", [5, 16, 21])
def test_eight_devices_sample_what_one_samples(num):
    gen = tiny.DenseGen(num_classes=3)
    z = jax.random.normal(jax.random.key(0), (num, tiny.LATENT_DIM))
    label = jnp.arange(num) % 3
    variables = gen.init(jax.random.key(1), z, label, train=False)
    one = sample.generate(gen, variables, z, label, batch_size=10)
    eight = sample.generate(gen, variables, z, label, batch_size=10, place=parallel.spread())
    assert eight.shape == one.shape == (num, 4, 4, 1)
    np.testing.assert_allclose(eight, one, atol=1e-6)
    # In training the variables are on every device already.
    there = parallel.replicate(variables, parallel.make_mesh())
    again = sample.generate(gen, there, z, label, batch_size=10, place=parallel.spread())
    np.testing.assert_allclose(again, one, atol=1e-6)


OPTIONS = {"image_shape": (8, 8, 1), "kind": "classifier", "num": 20}


def test_a_reference_that_cannot_be_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="python -m experiments.classifier --dataset=digits"):
        scoring.ImageScorer(dataset="digits", data_dir=str(tmp_path), weights="", **OPTIONS)
    net = runs.classifier_file()
    with pytest.raises(UserError, match="no array named .*test"):
        scoring.ImageScorer(
            dataset="arrays", data_dir=str(runs.data_file()), weights=str(net), **OPTIONS
        )
    options = {**OPTIONS, "image_shape": (12, 12, 1)}
    with pytest.raises(UserError, match=r"which sees \[B, 8, 8, 1\]"):
        scoring.ImageScorer(dataset="digits", data_dir="", weights=str(net), **options)
    few = {**runs.images(), "test_image": runs.images()["image"][:9]}
    np.savez(tmp_path / "few.npz", **few)
    with pytest.raises(UserError, match="9 reference images are too few; need 10 at least"):
        scoring.ImageScorer(
            dataset="arrays", data_dir=str(tmp_path / "few.npz"), weights=str(net), **OPTIONS
        )
