import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import evaluate, features, frechet
from jaxgan.types import UserError


def feature_fn(images):
    x = images.reshape(len(images), -1)
    return {"features": x[:, :6], "probs": jnp.eye(2)[(x[:, 0] > 0).astype(int)]}


def random_images(seed, num=60, side=12, low=0):
    random = np.random.default_rng(seed)
    return random.integers(low, 256, (num, side, side, 1)).astype(np.uint8)


REAL, FAKE, TRAIN = random_images(0), random_images(1, low=120), random_images(2, num=70)


@pytest.fixture(scope="module")
def result():
    return evaluate.evaluate(REAL, FAKE, feature_fn, floor=TRAIN, splits=2)


def test_reports_every_metric_with_what_it_needs_to_be_compared(result):
    assert set(result) == {
        *("frechet_distance", "kernel_distance", "kernel_distance_error", "sliced_wasserstein"),
        *("precision", "recall", "density", "coverage", "score", "score_std", "real_score"),
        *("ms_ssim", "real_ms_ssim", "nyquist_ratio", "floor", "ratio", "nearer_to_train"),
        *("train_distance", "test_distance", "num_real", "num_fake", "num_floor"),
        *("feature_dim", "seed", "k", "warnings"),
    }
    assert (result["num_real"], result["num_fake"], result["num_floor"]) == (60, 60, 70)
    assert result["feature_dim"] == 6
    assert result["warnings"] == []


def test_samples_that_differ_score_above_the_floor(result):
    assert result["frechet_distance"] > 3 * result["floor"]["frechet_distance"]
    assert result["kernel_distance"] > result["floor"]["kernel_distance"]
    assert result["recall"] < result["floor"]["recall"]
    assert result["nyquist_ratio"] < 0.5 < result["floor"]["nyquist_ratio"] < 2  # half the range


def test_is_repeatable_and_the_metric_is_that_of_the_features(result):
    again = evaluate.evaluate(REAL, FAKE, feature_fn, floor=TRAIN, splits=2, batch_size=13)
    assert again.pop("floor") == pytest.approx(result["floor"], rel=1e-5, abs=1e-6)
    assert again.pop("warnings") == []
    expected = {name: result[name] for name in again}
    assert again == pytest.approx(expected, rel=1e-5, abs=1e-6)
    a, b = (features.extract(feature_fn, x)["features"] for x in (REAL, FAKE))
    assert result["frechet_distance"] == pytest.approx(frechet.frechet_distance(a, b))


def test_scores_do_not_depend_on_the_order_of_files_sorted_by_class():
    order = np.argsort(REAL[:, 0, 0, 0])
    options = {"splits": 2, "floor": TRAIN}
    apart = evaluate.evaluate(REAL[order], FAKE[order], feature_fn, **options)
    assert apart["score"] == pytest.approx(evaluate.evaluate(REAL, FAKE, feature_fn)["score"], 0.1)
    vectors = np.repeat(np.eye(4, dtype=np.float32), 50, 0)
    few = {"features": vectors[::4] + 0.0}
    mixed = evaluate.compare({"features": vectors}, few)
    assert mixed["sliced_wasserstein"] < 0.1  # the first fifty are of one class


def test_copies_are_looked_for_among_the_images_trained_on():
    copies = {"real": TRAIN, "fake": TRAIN[:60], "floor": REAL}
    assert evaluate.evaluate(**copies, feature_fn=feature_fn, trained_on="real")["ratio"] == 0
    assert evaluate.evaluate(**copies, feature_fn=feature_fn)["ratio"] > 1
    assert "ratio" not in evaluate.evaluate(**copies, feature_fn=feature_fn, trained_on="")


def test_features_without_classes_and_small_images_leave_out_what_they_lack():
    small = features.user_features(lambda images: images[:, 0, :4, 0])
    result = evaluate.evaluate(REAL[:, :8, :8], FAKE[:, :8, :8], small)
    assert "score" not in result
    assert "ms_ssim" not in result
    assert "floor" not in result


@pytest.mark.parametrize(
    ("num", "message"), [(6, "rank deficient"), (20, "compare it at equal numbers"), (30, None)]
)
def test_too_few_samples_are_said_in_words(num, message):
    assert bool(evaluate.sample_warnings(num, 6)) is (message is not None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = evaluate.evaluate(REAL[:num], FAKE, feature_fn, k=2, splits=1)
    assert [str(warning.message) for warning in said] == result["warnings"]
    assert message is None or message in result["warnings"][0]


def floats(value):
    images = np.zeros((9, 12, 12, 1), np.float32)
    images[4, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (np.zeros((0, 12, 12, 1), np.uint8), "there are none"),
        ([], "there are none"),
        ([np.zeros((4, 4, 1)), np.zeros((5, 4, 1))], r"2 sizes \(\[4, 4, 1\], \[5, 4, 1\]\)"),
        (np.zeros((9, 12, 12, 2), np.uint8), "C of 1 or 3"),
        (np.zeros((9, 12, 12), np.uint8), "C of 1 or 3"),
        (np.zeros((9, 12, 12, 3), np.uint8), "differ in size or channels"),
        (np.zeros((9, 14, 12, 1), np.uint8), "differ in size or channels"),
        (np.zeros((9, 12, 12, 1), np.int64), "int64; need uint8"),
        (floats(np.nan), "1 hold NaN or infinity, the first is number 4"),
        (floats(np.inf), "NaN or infinity"),
        (floats(255), r"lie in \[0, 255\]"),
        (FAKE[:5], "5 fake images are too few; need 6 at least"),
    ],
)
def test_bad_input_is_one_clear_line(fake, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate.evaluate(REAL, fake, feature_fn)
    assert "\n" not in str(error.value)


def test_features_that_are_not_finite_are_refused():
    broken = features.user_features(lambda images: jnp.full((len(images), 3), jnp.nan))
    with pytest.raises(UserError, match="features of the real images are not finite"):
        evaluate.evaluate(REAL, FAKE, broken)
