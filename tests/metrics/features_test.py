import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import images as images_lib
from jaxgan import parallel
from jaxgan.metrics import classifiers, features
from jaxgan.types import UserError


@pytest.fixture(scope="module")
def params():
    net = classifiers.DigitClassifier(num_classes=3, width=4, features=6)
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]


def random_bytes(num, side=8):
    return np.random.default_rng(0).integers(0, 256, (num, side, side, 1)).astype(np.uint8)


def test_classifier_features_are_the_penultimate_layer_and_the_classes(params):
    out = features.classifier_features(params)(jnp.zeros((2, 8, 8, 1)))
    assert out["features"].shape == (2, 6)
    assert out["probs"].shape == (2, 3)
    np.testing.assert_allclose(out["probs"].sum(1), 1, rtol=1e-6)
    logits = out["features"] @ params["Dense_1"]["kernel"]
    np.testing.assert_allclose(jax.nn.softmax(logits), out["probs"], rtol=1e-5)


def test_maps_lead_to_the_features(params):
    images = images_lib.from_uint8(jnp.asarray(random_bytes(2)))
    maps = features.classifier_maps(params)(images)
    assert [m.shape for m in maps] == [(2, 4, 4, 4), (2, 2, 2, 8), (2, 2, 2, 8)]
    assert all(float(m.min()) >= 0 for m in maps)
    dense = params["Dense_0"]
    expected = jax.nn.relu(maps[-1].reshape(2, -1) @ dense["kernel"] + dense["bias"][None])
    found = features.classifier_features(params)(images)["features"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 28, 28, 1), (8, 8, 1)])
def test_images_that_do_not_fit_the_classifier_are_refused(params, shape):
    with pytest.raises(UserError, match=r"which sees \[B, 8, 8, 1\]"):
        features.classifier_features(params)(jnp.zeros(shape))
    with pytest.raises(UserError, match=r"which sees \[B, 8, 8, 1\]"):
        features.classifier_maps(params)(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"Conv_1": {"kernel": np.zeros((3, 3, 4, 9))}},
            r"Conv_1/kernel has shape \[3, 3, 4, 9\],",
        ),
        ({"Conv_0": {"kernel": np.zeros((1, 5, 1, 4))}}, r"Conv_0/kernel .* has \[5, 5, 1, 4\]"),
        (
            {"Dense_0": {"kernel": np.zeros((0, 6))}},
            r"Dense_0/kernel has shape \[0, 6\], .*\[8, 6\]",
        ),
        ({"Dense_0": {"bias": None}}, r"Dense_0/bias is missing, where the network has \[6\]"),
        ({"Dense_1": {"bias": np.zeros(4)}}, r"Dense_1/bias has shape \[4\], .* \[3\]"),
    ],
)
def test_a_classifier_of_wrong_shapes_is_one_line(params, changed, said):
    ((layer, arrays),) = changed.items()
    kept = {k: v for k, v in {**params[layer], **arrays}.items() if v is not None}
    with pytest.raises(UserError, match=f"the classifier's {said}") as caught:
        features.classifier_features({**params, layer: kept})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(8, 8, 1), (15, 30, 1), (64, 64, 3), (130, 20, 1)])
def test_a_classifier_serves_images_of_the_size_it_was_trained_on(shape):
    halvings = classifiers.halvings_for(shape)
    net = classifiers.DigitClassifier(num_classes=3, width=2, features=4, halvings=halvings)
    blank = jnp.zeros((1, *shape))
    params = jax.jit(net.init)(jax.random.key(0), blank)["params"]
    assert features.classifier_features(params)(blank)["probs"].shape == (1, 3)
    assert not classifiers.misfit(params, shape)
    assert classifiers.misfit(params, (2 * shape[0], *shape[1:]))


def test_extract_fills_the_last_batch_and_drops_what_it_filled(params):
    images, feature_fn = random_bytes(11), features.classifier_features(params)
    shapes = []

    def recorded(batch):
        shapes.append(batch.shape)
        return feature_fn(batch)

    out = features.extract(recorded, images, batch_size=4)
    assert shapes == [(4, 8, 8, 1)] * 3
    whole = feature_fn(images / np.float32(127.5) - 1)
    assert out["features"].shape == (11, 6)
    np.testing.assert_allclose(out["features"], whole["features"], rtol=1e-4, atol=1e-5)


def test_bytes_and_floats_give_the_same_features(params):
    images, feature_fn = random_bytes(5), features.classifier_features(params)
    floats = images / np.float32(127.5) - 1
    np.testing.assert_allclose(
        features.extract(feature_fn, images)["probs"],
        features.extract(feature_fn, floats)["probs"],
        rtol=1e-5,
    )


def test_eight_devices_give_the_features_of_one(params):
    mesh, images = parallel.make_mesh(), random_bytes(20)
    feature_fn = features.classifier_features(params)

    def place(batch):
        return parallel.shard_batch({"image": batch}, mesh)["image"]

    sharded = features.extract(feature_fn, images, batch_size=16, place=place)
    one = features.extract(feature_fn, images)
    np.testing.assert_allclose(sharded["features"], one["features"], rtol=1e-4, atol=1e-5)


def test_user_features_take_any_function_of_images():
    feature_fn = features.user_features(lambda images: images[:, ::2])
    out = features.extract(feature_fn, np.zeros((3, 4, 4, 1), np.float32))
    assert out["features"].shape == (3, 8)
    with pytest.raises(UserError, match="one vector for each image"):
        features.user_features(lambda images: images.mean())(jnp.zeros((3, 4, 4, 1)))
