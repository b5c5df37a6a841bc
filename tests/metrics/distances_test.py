import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import distances
from jaxgan.types import UserError


def test_squared_equals_the_definition():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(7, 5)), random.normal(size=(9, 5))
    expected = np.square(x[:, None] - y[None]).sum(-1)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    np.testing.assert_allclose(distances.squared(x, y), expected, rtol=1e-5)


def test_centring_keeps_distances_of_far_sets_exact():
    random = np.random.default_rng(1)
    x, y = (1e3 + random.normal(size=(2, 50, 3))).astype(np.float32)
    exact = np.sqrt(np.square(x[:, None].astype(np.float64) - y[None]).sum(-1)).min(1)
    np.testing.assert_allclose(distances.nearest(*distances.centred(x, y)), exact, rtol=1e-4)


def test_nearest_does_not_depend_on_chunks(monkeypatch):
    x, y = np.random.default_rng(2).normal(size=(2, 40, 3)).astype(np.float32)
    whole = distances.nearest(jnp.asarray(x), jnp.asarray(y))
    monkeypatch.setattr(distances, "MAX_PAIRS", 1)  # a row at a time
    np.testing.assert_allclose(distances.nearest(jnp.asarray(x), jnp.asarray(y)), whole, rtol=1e-5)


def test_sets_that_do_not_match_are_refused():
    with pytest.raises(UserError, match=r"\[3, 2\] and \[3, 4\]"):
        distances.centred(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"\[0, 2\]"):
        distances.centred(np.zeros((0, 2)))
