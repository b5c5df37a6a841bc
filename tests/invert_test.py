"""Inversion: starts, descent from several of them, and directions in which samples differ."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import invert

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(3, 16)).astype(np.float32)


def _make(variables, latent, label):
    """Images that are linear in latents, and in which a label is a step of brightness."""
    made = (latent @ variables).reshape(-1, 4, 4, 1)
    return made if label is None else made + label[:, None, None, None].astype(jnp.float32)


def _images(num=5):
    latent = RANDOM.normal(size=(num, 3)).astype(np.float32)
    return latent, np.asarray(_make(WEIGHTS, latent, None))


def test_nearest_samples_come_first():
    _, pool = _images(20)
    rows = invert.nearest(pool[[3, 7]], pool, 4)
    assert rows.shape == (2, 4)
    np.testing.assert_array_equal(rows[:, 0], [3, 7])
    distances = np.square(pool[[3, 7], None] - pool[rows]).sum((2, 3, 4))
    assert (np.diff(distances, axis=1) >= 0).all()


def test_every_class_is_among_the_starts():
    _, pool = _images(20)
    label = np.arange(20) % 3
    rows = invert.nearest(pool[:2], pool, 4, label=label)
    np.testing.assert_array_equal(label[rows], [[0, 0, 1, 1, 2, 2]] * 2)


@pytest.mark.parametrize("batch_size", [100, 8])
def test_latents_of_what_was_made_are_found(batch_size):
    latent, images = _images()
    taken = []
    found = invert.invert(
        _make,
        WEIGHTS,
        images,
        np.zeros((5, 4, 3), np.float32),
        steps=120,
        batch_size=batch_size,
        done=taken.append,
    )
    np.testing.assert_allclose(found.latent, latent, atol=0.05)
    np.testing.assert_allclose(found.image, images, atol=0.2)
    assert found.label is None and (found.distance < 0.1).all()
    assert sum(taken) == 120 * (1 if batch_size == 100 else 3)


def test_the_best_start_and_its_label_are_kept():
    latent, images = _images()
    images = images + np.float32(1.0)  # class 1
    start = np.repeat(latent[:, None], 3, axis=1)
    label = np.repeat(np.arange(3, dtype=np.int32)[None], 5, axis=0)
    found = invert.invert(_make, WEIGHTS, images, start, label=label, steps=12, rate=1e-3)
    np.testing.assert_array_equal(found.label, np.ones(5))
    assert (found.distance < 1e-2).all()


def test_latents_stay_within_the_bound():
    _, images = _images()
    found = invert.invert(
        _make, WEIGHTS, 9 * images, np.zeros((5, 1, 3), np.float32), steps=60, bound=0.5
    )
    assert np.abs(found.latent).max() == 0.5


def test_tuning_makes_the_images_and_keeps_other_samples():
    """In a linear generator both are least squares: normal equations give what tuning comes to."""
    latent, _ = _images(2)
    drawn = RANDOM.normal(size=(200, 3)).astype(np.float32)
    label, of_drawn = np.array([1, 0], np.int32), np.arange(200, dtype=np.int32) % 2
    images = RANDOM.normal(size=(2, 4, 4, 1)).astype(np.float32)
    found = invert.Inverted(latent, label, images, np.ones(2))
    taken = []
    tuned = invert.tuned(
        lambda variables, *given: _make(variables["params"], *given),
        {"params": WEIGHTS, "stats": 1},
        images,
        found,
        drawn,
        of_drawn,
        steps=300,
        rate=0.05,
        weight=0.5,
        done=taken.append,
    )
    # Both are means over as many pixels and images.
    target = (images - label[:, None, None, None]).reshape(2, 16)
    near, kept = latent.T @ latent / 2, drawn.T @ drawn / 200
    expected = np.linalg.solve(near + 0.5 * kept, latent.T @ target / 2 + 0.5 * kept @ WEIGHTS)
    np.testing.assert_allclose(tuned["params"], expected, atol=0.15)
    assert np.abs(WEIGHTS - expected).max() > 0.5 and sum(taken) == 300 and tuned["stats"] == 1


def test_components_of_latents_have_their_length():
    scale = np.array([3.0, 1.0, 0.1])
    latent = RANDOM.normal(size=(5000, 3)) * scale
    directions, shares = invert.components(latent, None, 2)
    np.testing.assert_allclose(np.abs(directions), [[3, 0, 0], [0, 1, 0]], atol=0.15)
    np.testing.assert_allclose(shares, np.square(scale)[:2] / np.square(scale).sum(), atol=0.02)


def test_components_of_features_are_directions_of_latents():
    latent = RANDOM.normal(size=(5000, 3))
    features = latent[:, [2]] * [5.0, 0.0] + latent[:, [0]] * [0.0, 2.0]
    directions, _ = invert.components(latent, features, 2)
    np.testing.assert_allclose(np.abs(directions), [[0, 0, 1], [1, 0, 0]], atol=0.05)
