import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import modes
from jaxgan.types import UserError

RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)


def test_even_modes_have_no_divergence_and_one_mode_has_the_most():
    assert modes.modes_and_kl(np.arange(80) % 8, 8) == (8, pytest.approx(0.0))
    assert modes.modes_and_kl(np.zeros(80, int), 8) == (1, pytest.approx(np.log(8)))


def test_divergence_worked_by_hand():
    expected = 0.75 * np.log(0.75 / 0.25) + 0.25 * np.log(0.25 / 0.25)
    assert modes.modes_and_kl([0, 0, 0, 1], 4) == (2, pytest.approx(expected))


def test_a_perfect_sampler_of_stacked_digits_reaches_the_published_floor():
    labels = np.random.default_rng(0).integers(0, 1000, 26_000)
    found, kl = modes.modes_and_kl(labels, 1000)
    assert found == 1000
    assert abs(kl - 0.0194) < 0.002


def test_a_perfect_sampler_of_the_ring_reaches_the_published_floor():
    random = np.random.default_rng(0)
    samples = RING[random.integers(0, 8, 25_000)] + 0.01 * random.normal(size=(25_000, 2))
    result = modes.mixture_modes(samples, RING, 0.01)
    assert result["modes"] == 8
    assert abs(result["high_quality"] - 0.9889) < 0.003
    assert result["kl"] < 0.001


def test_a_mode_counts_only_with_a_sample_of_high_quality():
    samples = np.array([[1.0, 0.0], [1.0, 0.029], [0.0, 1.031]])
    result = modes.mixture_modes(samples, RING, 0.01)
    assert result["modes"] == 1
    assert result["high_quality"] == pytest.approx(2 / 3)
    assert result["kl"] == pytest.approx(modes.modes_and_kl([0, 0, 2], 8)[1])


def test_stacked_labels_read_a_digit_from_each_channel():
    def feature_fn(images):  # the class is the brightness
        digit = jnp.round((images[:, 0, 0, 0] + 1) * 4.5).astype(int)
        return {"probs": jnp.eye(10)[digit]}

    digits = np.array([[1, 2, 3], [0, 9, 5]])
    images = np.broadcast_to(digits[:, None, None] / 4.5 - 1, (2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(modes.stacked_labels(feature_fn, images), [123, 95])
    with pytest.raises(UserError, match="a digit a channel"):
        modes.stacked_labels(feature_fn, images[..., :1])


@pytest.mark.parametrize("labels", [[], [0, 8], [-1], [[0]]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(UserError, match=r"in \[0, 8\)"):
        modes.modes_and_kl(labels, 8)


def test_samples_of_a_diverged_generator_are_refused():
    with pytest.raises(UserError, match="not finite"):
        modes.mixture_modes(np.full((3, 2), np.nan), RING, 0.01)
    with pytest.raises(UserError, match="do not match"):
        modes.mixture_modes(np.zeros((3, 5)), RING, 0.01)


@pytest.mark.parametrize(("num_modes", "num"), [(8, 2500), (25, 2500), (1000, 26_000)])
def test_the_floor_is_what_perfect_samplers_show(num_modes, num):
    random = np.random.default_rng(0)
    draws = [
        modes.modes_and_kl(random.integers(0, num_modes, num), num_modes)[1] for _ in range(200)
    ]
    assert modes.kl_floor(num_modes, num) == pytest.approx(np.mean(draws), rel=0.1)


RESULTS = {
    "protocol": "ring",
    "seeds": 2,
    "modes": [8, 8],
    "high_quality": [95.0, 97.0],
    "kl": [0.01, 0.03],
    "floor": {"modes": 8, "high_quality": 98.889, "kl": 0.0014},
    "seconds": 12.4,
}


def test_a_row_has_every_number_with_its_floor():
    assert modes.table_row(RESULTS) == (
        "| ring | modes 8.0 +- 0.0 (perfect 8.0) | high quality 96.00 +- 12.71 % (perfect 98.89 %)"
        " | kl 0.0200 +- 0.1271 (perfect 0.0014) | 2 seeds | 12 s |"
    )
    one = {name: value[:1] if isinstance(value, list) else value for name, value in RESULTS.items()}
    del one["high_quality"]
    assert modes.table_row({**one, "seeds": 1}) == (
        "| ring | modes 8.0 (perfect 8.0) | kl 0.0100 (perfect 0.0014) | 1 seed | 12 s |"
    )


def test_results_are_written_whole(tmp_path):
    modes.save_results(tmp_path / "results.json", RESULTS)
    assert json.loads((tmp_path / "results.json").read_text()) == RESULTS
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
