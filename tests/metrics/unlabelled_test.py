import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import features, frechet, unlabelled
from jaxgan.types import UserError


def squares(num, *, seed=0, shape=(12, 9, 1), left=0):
    """Grey squares at random places of black images."""
    random = np.random.default_rng(seed)
    images = np.zeros((num, *shape), np.uint8)
    for image in images:
        top, side = random.integers(0, shape[0] - 3), random.integers(left, shape[1] - 3)
        image[top : top + 3, side : side + 3] = random.integers(100, 256)
    return images


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 17, 3), (64, 64, 3), (4, 4, 1)])
def test_the_decoder_mirrors_the_encoder_at_every_size(shape):
    net = unlabelled.Autoencoder(features=4, width=2)
    made, variables = jax.eval_shape(
        net.init_with_output, jax.random.key(0), jnp.zeros((2, *shape))
    )
    assert made.shape == (2, *shape)
    places = variables["params"]["encoder"]["Dense_0"]["kernel"].shape[0]
    assert places <= 7 * 7 * unlabelled.MOST_CHANNELS


@pytest.fixture(scope="module")
def params():
    return unlabelled.train_autoencoder(squares(200), num_steps=60, batch_size=32)


def test_the_code_is_standardised_and_tells_other_images_apart(params):
    feature_fn = unlabelled.encoder_features(params, image_shape=(12, 9, 1))
    seen, fresh, moved = (
        features.extract(feature_fn, images)["features"]
        for images in (squares(200), squares(200, seed=1), squares(200, seed=2, left=3))
    )
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    assert seen.var(0).mean() == pytest.approx(1, rel=1e-3)
    near, far = (frechet.frechet_distance(seen, other) for other in (fresh, moved))
    assert far > 1.5 * near


@pytest.mark.slow
def test_the_same_seed_trains_the_same_autoencoder():
    first, again, other = (
        unlabelled.train_autoencoder(squares(20), seed=seed, num_steps=2, batch_size=4)
        for seed in (0, 0, 1)
    )
    assert unlabelled.digest(first) == unlabelled.digest(again) != unlabelled.digest(other)


def test_images_all_alike_have_a_code_that_is_finite():
    params = unlabelled.train_autoencoder(np.zeros((9, 8, 8, 1), np.uint8), num_steps=2)
    assert all(np.isfinite(leaf).all() for leaf in params["Dense_0"].values())


def test_random_features_depend_on_their_seed_alone_and_keep_the_scale():
    shape = (12, 9, 1)
    params = unlabelled.random_encoder(shape, width=8)
    again, other = (unlabelled.random_encoder(shape, seed=seed, width=8) for seed in (0, 1))
    assert unlabelled.digest(params) == unlabelled.digest(again) != unlabelled.digest(other)
    noise = np.random.default_rng(0).integers(0, 256, (50, *shape), np.uint8)
    feature_fn = unlabelled.encoder_features(params, image_shape=shape)
    vectors = features.extract(feature_fn, noise)["features"]
    assert vectors.shape == (50, 128) and 0.1 < vectors.std() < 3


def test_images_of_another_size_are_refused():
    params = unlabelled.random_encoder((8, 8, 1))
    feature_fn = unlabelled.encoder_features(params, image_shape=(8, 8, 1))
    with pytest.raises(UserError, match=r"made for \['B', 8, 8, 1\]"):
        feature_fn(jnp.zeros((2, 9, 8, 1)))
