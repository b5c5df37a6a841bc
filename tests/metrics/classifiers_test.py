"""Networks of classifiers: recognised by their parameters, folded without a change, whitened."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import classifiers, features
from jaxgan.types import UserError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trained():
    """A colour classifier whose norms have seen data, and its variables."""
    net = classifiers.ColourClassifier(num_classes=3, widths=(4, 6), folded=False)
    images = jax.random.uniform(KEY, (8, 9, 12, 3), minval=-1.0)
    variables = jax.jit(net.init)(KEY, images)
    _, stats = net.apply(variables, images, train=True, mutable=["batch_stats"])
    return net, {**variables, **stats}, images


def test_norms_folded_into_convolutions_leave_every_output_as_it_was(trained):
    net, variables, images = trained
    params = classifiers.folded(variables)
    assert classifiers.network(params) == net.clone(folded=True)
    expected = net.apply(variables, images)
    for name, value in classifiers.checked(params).apply({"params": params}, images).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_a_colour_classifier_serves_features_and_refuses_grey_and_large_images(trained):
    _, variables, images = trained
    feature_fn = features.classifier_features(classifiers.folded(variables))
    out = feature_fn(images)
    assert out["features"].shape == (8, 6) and out["probs"].shape == (8, 3)
    np.testing.assert_allclose(out["probs"].sum(1), 1, rtol=1e-5)
    for shape in ((2, 9, 12, 1), (2, 64, 64, 3)):
        with pytest.raises(UserError, match=r"which sees \[B, 32, 32, 3\]"):
            feature_fn(jnp.zeros(shape))


def test_maps_of_a_colour_classifier_lead_to_its_features(trained):
    _, variables, images = trained
    params = classifiers.folded(variables)
    maps = features.classifier_maps(params)(images)
    assert [m.shape for m in maps] == [(8, 9, 12, 24), (8, 5, 6, 4), (8, 3, 3, 6)]
    expected = features.classifier_features(params)(images)["features"]
    np.testing.assert_allclose(maps[-1].max((1, 2)), expected, rtol=1e-5)


def test_parameters_of_other_networks_and_missing_ones_are_one_line(trained):
    _, variables, _ = trained
    params = classifiers.folded(variables)
    with pytest.raises(UserError, match="layers are those of no network here"):
        classifiers.checked({"Conv_0": params["Conv_0"], "Dense_0": params["Dense_0"]})
    broken = {**params, "Conv_2": {"kernel": params["Conv_2"]["kernel"]}}
    with pytest.raises(UserError, match=r"Conv_2/bias is missing, where the network has \[4\]"):
        classifiers.checked(broken)


@pytest.mark.parametrize("halvings", [0, 1])
def test_whitened_patches_are_uncorrelated_and_of_one_scale(halvings):
    random = np.random.default_rng(0)
    smooth = random.normal(size=(200, 1, 1, 3)) * 40 + random.normal(size=(200, 16, 16, 3)) * 20
    images = np.clip(smooth + 128, 0, 255).astype(np.uint8)
    stem = classifiers.whitening(images, halvings)
    side, stride = classifiers.stem_window(halvings)
    assert stem["kernel"].shape == (side, side, 3, classifiers.STEM)
    real = jnp.asarray(images, jnp.float32) / 127.5 - 1
    seen = jax.lax.conv_general_dilated(
        real, stem["kernel"], (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    seen = (np.asarray(seen) + stem["bias"]).reshape(-1, classifiers.STEM)
    half = classifiers.STEM // 2
    np.testing.assert_allclose(seen[:, :half], -seen[:, half:], atol=1e-4)
    np.testing.assert_allclose(np.cov(seen[:, :half].T), np.eye(half), atol=0.05)


def test_grey_patches_have_fewer_patterns_than_there_are_channels():
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1), np.uint8)
    stem = classifiers.whitening(images, 0)
    assert stem["kernel"].shape == (2, 2, 1, classifiers.STEM)
    assert np.isfinite(stem["kernel"]).all() and np.any(stem["kernel"][..., 3] != 0)
    assert not np.any(stem["kernel"][..., 4])
