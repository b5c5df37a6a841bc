import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import images as images_lib
from jaxgan.metrics import features
from jaxgan.nets import inception
from jaxgan.types import UserError
from tests.metrics import references

REFERENCES = json.loads((references.FOLDER / "references.json").read_text())["inception"]


@pytest.fixture(scope="module")
def state():
    blank = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    params = jax.eval_shape(inception.Inception().init, jax.random.key(0), blank)["params"]
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    names = {".".join(part.key for part in path): leaf.shape for path, leaf in flat}
    suffix = ".Conv_0.kernel"
    kernels = {k.removesuffix(suffix): s for k, s in names.items() if k.endswith(suffix)}
    return references.random_inception(kernels)


def test_has_the_94_convolutions_of_the_weights_file(state):
    assert len(state) == 94 * 5 + 2  # the file adds num_batches_tracked: 566 entries


# 94 convolutions are compiled for each size; of the sizes only `resize` knows, tested below.
SIDES = [
    pytest.param(side, marks=[] if side == 100 else pytest.mark.slow)
    for side in references.IMAGE_SIDES
]


@pytest.mark.parametrize("side", SIDES)
def test_features_equal_torch_fidelitys_on_the_same_weights(state, side):
    feature_fn = features.inception_features(inception.convert(state))
    expected = REFERENCES[str(side)]
    out = feature_fn(images_lib.from_uint8(references.random_images(side)))
    pool3 = np.asarray(out["features"])
    scale = np.linalg.norm(expected["pool3"])
    assert np.linalg.norm(pool3[:, ::32] - expected["pool3"]) < 1e-3 * scale
    np.testing.assert_allclose(np.linalg.norm(pool3, axis=1), expected["pool3_norm"], rtol=1e-3)
    logits = pool3 @ state["fc.weight"].T
    scale = np.linalg.norm(expected["logits"])
    assert np.linalg.norm(logits[:, ::32] - expected["logits"]) < 1e-3 * scale
    np.testing.assert_allclose(out["probs"], jax.nn.softmax(logits), rtol=1e-2, atol=1e-6)


def test_resize_is_tensorflows_not_the_aligned_one():
    row = jnp.asarray([0.0, 10.0, 20.0]).reshape(1, 1, 3, 1)
    image = jnp.broadcast_to(row, (1, 3, 3, 1))
    result = inception.resize(image, 6)[0, 0, :, 0]
    np.testing.assert_allclose(result, [0, 5, 10, 15, 20, 20], atol=1e-5)
    smaller = inception.resize(jnp.arange(8.0).reshape(1, 8, 1, 1).repeat(8, 2), 4)
    np.testing.assert_allclose(smaller[0, :, 0, 0], [0, 2, 4, 6], atol=1e-5)


def test_grey_images_are_seen_as_rgb_and_other_channels_refused():
    grey = images_lib.from_uint8(references.random_images(32, channels=1))
    result = inception.preprocess(grey)
    assert result.shape == (2, 299, 299, 3)
    np.testing.assert_array_equal(result[..., 0], result[..., 2])
    with pytest.raises(UserError, match="C of 1 or 3"):
        inception.preprocess(jnp.zeros((1, 8, 8, 2)))


@pytest.mark.parametrize("name", ["Mixed_6b.branch7x7_2.bn.running_var", "fc.weight"])
def test_a_missing_or_misshapen_tensor_is_named(state, name):
    without = {key: array for key, array in state.items() if key != name}
    with pytest.raises(UserError, match=f"{name} is missing"):
        inception.convert(without)
    with pytest.raises(UserError, match=rf"{name} is \[7\], and should be"):
        inception.convert({**state, name: np.zeros(7)})
