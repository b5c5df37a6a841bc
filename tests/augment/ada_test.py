"""ADA: the identity at p = 0, its stages, and the controller in a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import types
from jaxgan.augment import ada

KEY = jax.random.key(5)
ONE, HALF, ZERO = (jnp.float32(p) for p in (1.0, 0.5, 0.0))


def _images(channels=3, size=4):
    random = np.random.default_rng(channels)
    return random.uniform(-1, 1, (size, 7, 6, channels)).astype(np.float32)


EVERYTHING = ",".join(ada.STAGES)


def test_without_chance_all_stages_are_the_identity_and_with_certainty_none_is():
    images = _images()
    compiled = jax.jit(lambda key, p: ada.pipeline(EVERYTHING, p=p)(key, images))
    with jax.debug_key_reuse(True):
        same, changed = (compiled(jax.random.key(5), p) for p in (ZERO, ONE))
    np.testing.assert_array_equal(same, images)
    assert changed.shape == images.shape and np.isfinite(changed).all()
    assert (np.abs(changed - images).max((1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        *((name, 3) for name in ada.STAGES),
        # To compile all at once takes 5 s.
        *(pytest.param(EVERYTHING, n, marks=pytest.mark.slow) for n in (1, 3)),
    ],
)
def test_gradients_are_those_of_the_identity_without_chance_and_finite_with(names, channels):
    images = _images(channels)

    @jax.jit
    def slopes(images, p):
        def total(images):
            result = ada.pipeline(names, p=p)(jax.random.key(5), images)
            return jnp.square(result).sum(), result

        return jax.grad(total, has_aux=True)(images)

    grads, same = slopes(images, ZERO)
    np.testing.assert_array_equal(same, images)
    np.testing.assert_allclose(grads, 2 * images, rtol=1e-5, atol=1e-6)
    grads, changed = slopes(images, ONE)
    assert np.isfinite(grads).all() and np.isfinite(changed).all()
    assert (np.abs(grads).max((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", ada.STAGES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_keeps_shape_and_dtype(name, channels):
    images = jnp.asarray(_images(channels, 2), jnp.bfloat16)
    result = jax.eval_shape(ada.pipeline(name, p=1.0), KEY, images)
    assert result.shape == images.shape and result.dtype == jnp.bfloat16


def test_noise_and_holes_happen_with_probability_p():
    flat = np.ones((2000, 8, 8, 1), np.float32)
    noisy = np.asarray(ada.noise(KEY, flat, HALF)) - 1
    hit = np.abs(noisy).max((1, 2, 3)) > 0
    np.testing.assert_allclose(hit.mean(), 0.5, atol=0.052)
    np.testing.assert_allclose(np.square(noisy[hit]).mean(), 0.01, rtol=0.25)  # E[sigma^2]
    holes = (np.asarray(ada.cutout(KEY, flat, HALF)) == 0).sum((1, 2, 3))
    np.testing.assert_allclose((holes > 0).mean(), 0.5, atol=0.052)
    assert holes.max() == 16 and holes[holes > 0].min() == 4


def test_the_controller_moves_p_to_where_the_heuristic_points():
    now = ada.init_controller(p=0.5)
    signs = [1.0, 1.0, 0.0, 0.8] + [0.5, 0.5, 0.5, 0.5]  # means .7, above .6, then .5
    seen = []
    for sign in signs:
        now = ada.adapt(now, jnp.float32(sign), num_images=64, ramp=2560)
        seen.append(float(now["p"]))
    np.testing.assert_allclose(seen, [0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.5], rtol=1e-6)


def test_the_controller_goes_from_never_to_always_in_a_ramp_of_images_and_stays_within():
    def body(now, _):
        now = ada.adapt(now, ONE, num_images=100, ramp=8000)
        return now, now["p"]

    _, p = jax.lax.scan(body, ada.init_controller(), length=100)
    np.testing.assert_allclose(np.asarray(p)[[3, 39, 79, 99]], [0.05, 0.5, 1.0, 1.0], rtol=1e-5)
    low = ada.init_controller()
    for _ in range(4):
        low = ada.adapt(low, jnp.float32(-1.0), num_images=100)
    assert float(low["p"]) == 0.0


def test_mistakes_are_named_with_their_remedy():
    with pytest.raises(types.UserError, match='"blits" is not one of .*did you mean "blit"'):
        ada.pipeline("blits", p=0.1)
    with pytest.raises(types.UserError, match="p 1.5 is not a probability; use a number"):
        ada.pipeline("blit", p=1.5)
