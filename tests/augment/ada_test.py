"""ADA: the identity at p = 0, rates and ranges of its draws, and the controller in a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import steps, types
from jaxgan.augment import ada
from jaxgan.losses import ADVERSARIAL
from tests import tiny

KEY = jax.random.key(5)
ONE, HALF, ZERO = (jnp.float32(p) for p in (1.0, 0.5, 0.0))
MANY = (2000, 16, 16, 3)


def _images(channels=3, size=4):
    random = np.random.default_rng(channels)
    return random.uniform(-1, 1, (size, 7, 6, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def everything():
    """All stages in one compiled function of (key, images, p), and its gradient."""

    def total(images, key, p):
        result = ada.pipeline(",".join(ada.STAGES), p=p)(key, images)
        return jnp.square(result).sum(), result

    return jax.jit(jax.grad(total, has_aux=True))


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_p_of_0_is_the_identity_and_p_of_1_changes_every_image(everything, channels):
    images = _images(channels)
    grads, same = everything(images, KEY, ZERO)
    np.testing.assert_array_equal(same, images)
    np.testing.assert_allclose(grads, 2 * images, rtol=1e-5, atol=1e-6)
    grads, changed = everything(images, KEY, ONE)
    assert changed.shape == images.shape
    assert np.isfinite(grads).all() and np.isfinite(changed).all()
    assert (np.abs(changed - images).max((1, 2, 3)) > 0.01).all()
    assert (np.abs(grads).max((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", sorted(set(ada.STAGES) - {"geometry"}))
@pytest.mark.parametrize("channels", [2, 4])
def test_any_number_of_channels_keeps_shape_and_dtype(name, channels):
    images = jnp.asarray(_images(channels, 2), jnp.bfloat16)
    result = ada.pipeline(name, p=1.0)(KEY, images)
    assert result.shape == images.shape and result.dtype == jnp.bfloat16


def _linear(matrix):
    return np.asarray(matrix)[:, :2, :2]


def test_blits_mirror_turn_and_move_as_often_as_they_should():
    drawn = ada.blit_matrix(KEY, HALF, MANY)
    linear, moved = _linear(drawn), np.asarray(drawn)[:, :2, 2]
    assert set(np.unique(linear)) <= {-1.0, 0.0, 1.0}
    mirrored = np.linalg.det(linear) < 0
    np.testing.assert_allclose(mirrored.mean(), 0.25, atol=0.045)  # 4.6 deviations
    quarter = linear[:, 0, 0] == 0
    np.testing.assert_allclose(quarter.mean(), 0.25, atol=0.045)
    np.testing.assert_array_equal(moved, np.round(moved))
    # U(-2, 2) rounds to 0 one time in four, in both directions at once one in sixteen.
    assert np.abs(moved).max() == 2
    np.testing.assert_allclose((moved == 0).all(1).mean(), 0.5 + 0.5 / 16, atol=0.052)


def test_geometry_scales_turns_and_moves_as_often_as_it_should():
    drawn = ada.geometry_matrix(KEY, HALF, MANY)
    linear = _linear(drawn)
    area = np.abs(np.linalg.det(linear))  # of the inverse: 1 / scale^2
    scaled = np.abs(area - 1) > 1e-4
    np.testing.assert_allclose(scaled.mean(), 0.5, atol=0.052)
    deviation = np.std(-0.5 * np.log2(area[scaled]))
    np.testing.assert_allclose(deviation, 0.2, atol=0.022)
    turned = np.abs(linear[:, 0, 1]) > 1e-6
    np.testing.assert_allclose(turned.mean(), 0.5, atol=0.052)  # by either turn
    singular = np.linalg.svd(linear, compute_uv=False)
    stretched = singular[:, 0] / singular[:, 1] > 1 + 1e-4
    np.testing.assert_allclose(stretched.mean(), 0.5, atol=0.052)
    moved = np.asarray(drawn)[:, :2, 2]
    np.testing.assert_allclose((moved != 0).all(1).mean(), 0.5, atol=0.052)


def test_colour_matrices_keep_what_they_should():
    matrix = np.asarray(ada.color_matrix(KEY, HALF, MANY))
    grey = matrix[:, :, :3].sum(2)  # where grey (1, 1, 1) goes: along itself
    np.testing.assert_allclose(grey, np.repeat(grey[:, :1], 3, 1), atol=1e-4)
    np.testing.assert_allclose((grey[:, 0] < 0).mean(), 0.25, atol=0.045)  # flipped
    contrast = np.abs(grey[:, 0])
    changed = np.abs(contrast - 1) > 1e-4
    np.testing.assert_allclose(changed.mean(), 0.5, atol=0.052)
    np.testing.assert_allclose(np.log2(contrast[changed]).std(), 0.5, atol=0.055)
    np.testing.assert_allclose((matrix[:, 0, 3] != 0).mean(), 0.5, atol=0.052)
    # Across the grey axis: a turn times contrast times saturation, so two equal singular values.
    across = matrix[:, :, :3] @ (np.eye(3) - 1 / 3)
    singular = np.linalg.svd(across, compute_uv=False)
    np.testing.assert_allclose(singular[:, 0], singular[:, 1], rtol=1e-3)
    vivid = singular[:, 0] / contrast
    saturated = np.abs(vivid - 1) > 1e-3
    np.testing.assert_allclose(saturated.mean(), 0.5, atol=0.052)
    np.testing.assert_allclose(np.log2(vivid[saturated]).std(), 1.0, atol=0.11)


def test_grey_images_have_neither_hue_nor_saturation():
    matrix = np.asarray(ada.color_matrix(KEY, ONE, (2000, 4, 4, 1)))
    np.testing.assert_allclose(np.log2(np.abs(matrix[:, 0, 0])).std(), 0.5, atol=0.04)
    np.testing.assert_allclose((matrix[:, 0, 0] < 0).mean(), 0.5, atol=0.052)


def test_an_amplified_band_dims_the_others_to_keep_the_power_of_natural_images():
    # So rare that hardly ever two bands of an image are amplified at once.
    gains = np.asarray(ada.band_gains(KEY, jnp.float32(0.02), (5000, 8, 8, 1)))
    power = np.square(gains) @ (np.array([10, 1, 1, 1]) / 13)
    assert (np.abs(power - 1) < 1e-4).mean() > 0.99
    hit = np.abs(gains - 1).max(1) > 1e-5
    np.testing.assert_allclose(hit.mean(), 1 - 0.98**4, atol=0.018)
    for band in range(4):  # the band that stands out, relative to another one, is 2^N(0, 1)
        ratio = np.log2(gains[hit, band] / gains[hit, band - 1])
        ratio = ratio[np.abs(ratio) > 1e-4]
        np.testing.assert_allclose(np.sqrt(np.square(ratio).mean()), 1.0, atol=0.25)


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


def test_the_controller_goes_from_0_to_1_in_a_ramp_of_images_and_stays_within():
    def body(now, _):
        now = ada.adapt(now, ONE, num_images=100, ramp=8000)
        return now, now["p"]

    _, p = jax.lax.scan(body, ada.init_controller(), length=100)
    np.testing.assert_allclose(np.asarray(p)[[3, 39, 79, 99]], [0.05, 0.5, 1.0, 1.0], rtol=1e-5)
    low = ada.init_controller()
    for _ in range(4):
        low = ada.adapt(low, jnp.float32(-1.0), num_images=100)
    assert float(low["p"]) == 0.0


def test_p_in_the_state_drives_a_step_and_follows_its_logits():
    gen, disc, tx = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False), optax.sgd(0.1)
    batch = tiny.batch(side=4)

    @jax.jit
    def step(key, state, batch):
        augment = ada.pipeline("cutout", p=state.extra["ada"]["p"])
        inner = steps.disc_step(
            gen, disc, tx, ADVERSARIAL["hinge"], latent_dim=tiny.LATENT_DIM, augment=augment
        )
        state, metrics = inner(key, state, batch)
        now = ada.adapt(
            state.extra["ada"], metrics["disc/sign"], num_images=16, ramp=160, interval=1
        )
        return state.replace(extra={**state.extra, "ada": now}), metrics

    start = tiny.dense_state(gen, disc, tx, tx, ada=ada.init_controller(p=0.5))
    after, metrics = step(KEY, start, batch)
    expected = 0.6 if metrics["disc/sign"] > 0.6 else 0.4
    np.testing.assert_allclose(after.extra["ada"]["p"], expected, rtol=1e-6)
    calm = start.replace(extra={"ada": ada.init_controller(p=0.0)})
    without, plain = step(KEY, calm, batch)
    logits = disc.apply(calm.disc.variables, batch["image"], train=True)
    np.testing.assert_allclose(plain["disc/real"], logits.mean(), rtol=1e-5)
    np.testing.assert_allclose(plain["disc/sign"], np.sign(logits).mean(), rtol=1e-6)
    assert float(metrics["disc/real"]) != float(plain["disc/real"])
    assert tiny.largest_difference(after.disc.params, without.disc.params) > 0


def test_mistakes_are_named_with_their_remedy():
    with pytest.raises(types.UserError, match='"blits" is not one of .*did you mean "blit"'):
        ada.pipeline("blits", p=0.1)
    with pytest.raises(types.UserError, match="p 1.5 is not a probability; use a number"):
        ada.pipeline("blit", p=1.5)
