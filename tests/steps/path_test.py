"""The step of path lengths, on a generator whose lengths are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import state as states
from jaxgan import steps

RATE = 0.1


def _state(scale):
    """Players of one number each; the opponent plays no part."""
    tx = optax.sgd(RATE)
    players = [states.init_player({"params": {"scale": jnp.float32(scale)}}, tx) for _ in range(2)]
    return states.init_state(*players, path=steps.init_path()), tx


def _latents(key, variables, batch):
    return jax.random.normal(key, (batch["image"].shape[0], 2, 4))


def _synthesize(key, variables, w):
    """One pixel, the sum of w times the parameter: every length is scale |y|."""
    del key
    return (variables["params"]["scale"] * w.sum((1, 2)))[:, None, None, None]


def test_the_step_follows_the_penaltys_gradient_and_moves_the_mean():
    state, tx = _state(2.0)
    step = jax.jit(steps.path_length_step(_latents, _synthesize, tx, weight=3.0))
    after, metrics = step(jax.random.key(0), state, {"image": jnp.zeros((512, 1, 1, 1))})
    # The gradient at each w is scale y, so the length, a root mean square over layers of the norm
    # over 4 numbers, is 2 scale |y|, and its mean 4 E|y| with E|y| = sqrt(2 / pi).
    mean = float(metrics["gen/path"])
    np.testing.assert_allclose(mean, 0.01 * 4 * np.sqrt(2 / np.pi), rtol=0.1)
    assert float(after.extra["path"]) == mean and after.extra["path"].dtype == jnp.float32
    # With y from the penalty itself: mean (2 s |y| - a)^2, whose derivative in s is found from it.
    penalty = float(metrics["gen/path_penalty"])
    lengths_mean = mean / 0.01
    lengths_square = penalty + 2 * mean * lengths_mean - mean**2
    grad = 3.0 * (2 * lengths_square / 2.0 - 2 * mean * lengths_mean / 2.0)
    np.testing.assert_allclose(after.gen.params["scale"], 2.0 - RATE * grad, rtol=1e-4)
    assert float(after.disc.params["scale"]) == 2.0


def test_lengths_settle_at_their_running_mean():
    state, tx = _state(1.0)
    step = jax.jit(steps.path_length_step(_latents, _synthesize, tx, weight=0.5, shrink=1))
    batch = {"image": jnp.zeros((256, 1, 1, 1))}
    for number in range(200):
        state, metrics = step(jax.random.key(number), state, batch)
    # What is left is the spread of |y|: no scale but 0 has none, and the mean follows the scale.
    assert 0 < float(state.gen.params["scale"]) < 1
    assert float(metrics["gen/path_penalty"]) < 0.4
