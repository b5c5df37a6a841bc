"""Degradations: what is drawn, what is not, and the same from every one of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import parallel
from jaxgan.data import blur, degrade, jpeg, resize
from jaxgan.types import UserError

KEY = jax.random.key(3)
# Every one of them, with its amounts drawn where it can draw them.
BLIND = {
    "noise": {"sigma": (0.0, 55.0)},
    "poisson": {"peak": (4.0, 40.0)},
    "shrink": {"factor": 2},
    "blur": {"sigma": (0.3, 1.5)},
    "motion": {"length": (1.0, 5.0)},
    "jpeg": {"quality": (5, 95)},
    "holes": {"share": (0.1, 0.4), "side": 3},
    "grey": {},
    "dark": {"gamma": (1.0, 3.0), "sigma": (0.0, 10.0)},
}
DETERMINISTIC = {"shrink", "grey"}


def random_images(shape=(8, 12, 10, 3), seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


def made(name):
    return functools.partial(degrade.DEGRADATIONS[name], **BLIND[name])


@functools.cache
def compiled(name):
    return jax.jit(made(name))


@functools.cache
def degraded(name):
    return np.asarray(compiled(name)(KEY, random_images()))


def test_the_list_of_this_file_is_complete():
    assert set(BLIND) == set(degrade.DEGRADATIONS)


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_as_documented_for_grey_and_colour(name, channels):
    images = jnp.zeros((2, 11, 14, channels))
    found = jax.eval_shape(made(name), KEY, images)
    size = (6, 7) if name == "shrink" else (11, 14)
    assert found.shape == (2, *size, {"grey": 1, "holes": channels + 1}.get(name, channels))
    assert found.dtype == images.dtype


@pytest.mark.parametrize("name", BLIND)
def test_one_key_gives_one_result_with_and_without_jit(name):
    eager = np.asarray(made(name)(KEY, random_images()))
    # JPEG and photons round: an image may have a tie.
    ties = {"jpeg": 0.01, "poisson": 0.01}.get(name, 0)
    assert (np.abs(eager - degraded(name)) > 1e-5).mean() <= ties
    other = np.asarray(compiled(name)(jax.random.key(4), random_images()))
    assert (other == degraded(name)).all() == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", BLIND)
def test_rows_are_independent_of_each_other(name):
    images = random_images()
    images[1:4], images[5:] = 0.1, -0.3
    changed = np.asarray(compiled(name)(KEY, images))
    np.testing.assert_allclose(changed[[0, 4]], degraded(name)[[0, 4]], atol=1e-6)
    same = np.asarray(compiled(name)(KEY, random_images((1, 12, 10, 3)).repeat(8, 0)))
    distinct = len({row.tobytes() for row in same})
    assert distinct == (1 if name in DETERMINISTIC else 8)


@pytest.mark.parametrize("name", BLIND)
def test_a_batch_over_eight_devices_is_that_of_one(name):
    rows = jax.sharding.NamedSharding(parallel.make_mesh(), jax.sharding.PartitionSpec("data"))
    shared = compiled(name)(KEY, jax.device_put(random_images(), rows))
    np.testing.assert_allclose(shared, degraded(name), atol=1e-6)


@pytest.mark.parametrize("name", BLIND)
def test_no_key_is_used_twice(name):
    with jax.debug_key_reuse(True):
        jax.jit(made(name)).trace(jax.random.key(5), random_images())
    assert np.isfinite(degraded(name)).all()


def test_noise_has_the_deviation_asked_for_and_is_not_clipped():
    images = np.full((8, 40, 40, 3), 1.0, np.float32)
    found = np.asarray(degrade.gaussian_noise(KEY, images, sigma=50.0)) - 1
    np.testing.assert_allclose(found.std((1, 2, 3)) * 127.5, 50, rtol=0.05)
    np.testing.assert_allclose(found.mean(), 0, atol=0.01)
    noise = jnp.full((1, 1, 1, 1), 2.0)
    # 2 standard deviations of 25.5 are 51, and 127.5 are 1.
    np.testing.assert_allclose(degrade.add_noise(0.5 + 0 * noise, noise, jnp.array([25.5])), 0.9)


def test_a_range_gives_each_image_its_own_deviation_evenly():
    found = np.asarray(degrade.gaussian_noise(KEY, jnp.zeros((500, 12, 12, 1)), sigma=(10.0, 40.0)))
    deviation = np.sort(found.std((1, 2, 3)) * 127.5)
    np.testing.assert_allclose(deviation, np.linspace(10, 40, 500), atol=6)


def test_photons_have_the_variance_of_their_mean():
    images = np.broadcast_to(np.float32([-1, -0.5, 0, 1]).reshape(4, 1, 1, 1), (4, 80, 80, 1))
    found = np.asarray(degrade.poisson_noise(KEY, images, peak=20.0))
    count = (found + 1) * 10
    np.testing.assert_allclose(count, np.round(count), atol=1e-5)
    np.testing.assert_allclose(count.mean((1, 2, 3)), [0, 5, 10, 20], atol=0.3)
    np.testing.assert_allclose(count.var((1, 2, 3)), [0, 5, 10, 20], atol=1.5)


def test_fixed_amounts_are_those_of_the_twins():
    images = random_images()
    kernel = blur.gaussian_kernel(jnp.full(8, 1.6), 6)
    np.testing.assert_allclose(
        degrade.gaussian_blur(KEY, images, sigma=1.6), blur.filtered(images, kernel), atol=1e-6
    )
    np.testing.assert_allclose(
        degrade.compression(KEY, images, quality=30), jpeg.compress(images, jnp.full(8, 30))
    )
    shrunk = degrade.DEGRADATIONS["shrink"](KEY, images, factor=2)
    np.testing.assert_array_equal(shrunk, resize.shrink(images, factor=2))
    dark = degrade.darkness(KEY, images, gamma=2.5, sigma=0.0)
    np.testing.assert_array_equal(dark, degrade.darken(images, jnp.full(8, 2.5)))


def test_motion_keeps_the_mean_and_goes_in_a_direction_of_each_images_own():
    point = np.zeros((8, 31, 31, 1), np.float32)
    point[:, 15, 15] = 1
    found = np.asarray(degrade.motion_blur(KEY, point, length=9.0))
    np.testing.assert_allclose(found.sum((1, 2, 3)), 1, atol=1e-5)
    y, x = np.mgrid[-15:16, -15:16]
    variance = (found[..., 0] * (x**2 + y**2)).sum((1, 2))
    np.testing.assert_allclose(variance, 81 / 12 + 1 / 6, rtol=0.1)


def test_qualities_of_a_range_include_both_ends():
    images = random_images((100, 8, 8, 1))
    found = np.asarray(degrade.compression(KEY, images, quality=(30, 31)))
    ends = [np.asarray(jpeg.compress(images, jnp.full(100, q))) for q in (30, 31)]
    first, second = ((np.abs(found - end) < 1e-6).all((1, 2, 3)) for end in ends)
    assert (first | second).all() and (first & ~second).any() and (second & ~first).any()


def test_holes_are_where_the_mask_says():
    images = random_images()
    found = np.asarray(degrade.holes(KEY, images, share=0.5, side=2))
    picture, mask = found[..., :3], found[..., 3:]
    np.testing.assert_array_equal(picture, np.where(mask == 1, 0, images))
    np.testing.assert_allclose(mask.mean((1, 2, 3)), 0.5, atol=2 / 120)


def test_grey_is_bt_601():
    images = jnp.array([1.0, -1, -1, -1, 1, -1, -1, -1, 1, 0.5, 0.5, 0.5]).reshape(1, 1, 4, 3)
    expected = [2 * 0.299 - 1, 2 * 0.587 - 1, 2 * 0.114 - 1, 0.5]
    np.testing.assert_allclose(degrade.grey(images).ravel(), expected, atol=1e-6)
    np.testing.assert_array_equal(degrade.grey(images[..., :1]), images[..., :1])


def test_darkening_is_a_power_of_brightness():
    images = jnp.array([-1.0, 0.0, 0.5, 1.0]).reshape(1, 1, 4, 1)
    found = degrade.darken(images, jnp.array([2.0]))
    np.testing.assert_allclose(found.ravel(), [-1, -0.5, 0.125, 1], atol=1e-6)


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("noise", {"sigma": -3.0}, "sigma -3.0 is not possible; use a number at least 0, or a"),
        ("noise", {"sigma": (9.0, 3.0)}, r"sigma \(9.0, 3.0\) .* the lower first"),
        ("noise", {"sigma": float("nan")}, "sigma nan"),
        ("noise", {"sigma": float("inf")}, "sigma inf"),
        ("poisson", {"peak": 0.0}, "peak 0.0 .* above 0"),
        ("blur", {"sigma": (-1.0, 2.0)}, "sigma"),
        ("motion", {"length": 0.5}, "length 0.5 .* at least 1"),
        ("jpeg", {"quality": 0}, "quality 0 .* at least 1 and at most 100"),
        ("jpeg", {"quality": (50, 101)}, "quality"),
        ("jpeg", {"quality": 30.5}, "quality 30.5 .* whole numbers"),
        ("holes", {"share": 1.5}, "share 1.5 .* at most 1,"),
        ("holes", {"side": 0}, "side 0"),
        ("dark", {"gamma": 0.5}, "gamma 0.5 .* at least 1"),
        ("shrink", {"factor": 0}, "factor 0"),
    ],
)
def test_impossible_options_are_one_line_before_anything_compiles(name, options, words):
    with pytest.raises(UserError, match=words) as caught:
        degrade.DEGRADATIONS[name](KEY, random_images(), **options)
    assert "\n" not in str(caught.value)
