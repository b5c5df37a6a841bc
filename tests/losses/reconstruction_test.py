"""Losses against the true image: hand numbers, NumPy and SciPy, derivatives, by the table."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy import ndimage

from jaxgan import losses
from jaxgan.losses import RECONSTRUCTION, reconstruction
from jaxgan.metrics import classifiers, features, similarity
from jaxgan.types import UserError

NAMES = sorted(RECONSTRUCTION)
WINDOWED = ("ssim", "multi_scale_ssim")
C1 = 0.02**2  # SSIM's constant for luminance
# White against black, and against grey, of 2 x 2 pixels or of one window, worked by hand.
HAND = {
    "l1": (2.0, 1.0),
    "l2": (4.0, 1.0),
    "charbonnier": (np.sqrt(4 + 1e-6) - 1e-3, np.sqrt(1 + 1e-6) - 1e-3),
    # Contrasts are equal; counted from black, means are 2 and 0, 2 and 1.
    "ssim": (4 / (4 + C1), 1 / (5 + C1)),
    # Of one scale, that; but below .01 its logarithm goes on as the tangent.
    "multi_scale_ssim": (1 - 0.01 * np.exp(100 * C1 / (4 + C1) - 1), 1 / (5 + C1)),
    # The transform is 4 times the difference at one frequency of four, and has no imaginary part.
    "frequency": (1.0, 0.5),
    "amplitude": (0.0, 1.0),
    "focal_frequency": (4.0, 1.0),
}


@functools.cache
def _images(name):
    """Output and target, two each, that differ by .1 or more in every pixel."""
    side = {"ssim": 12, "multi_scale_ssim": 23}.get(name, 4)  # one scale, two scales
    random = np.random.default_rng(0)
    target = random.uniform(-1, 1, (2, side, side + 1, 2))
    step = random.uniform(0.1, 0.9, target.shape) * random.choice([-1, 1], target.shape)
    return jnp.asarray(target + step, jnp.float32), jnp.asarray(target, jnp.float32)


@functools.cache
def _derivatives(name):
    """Compiled: (output, target, direction) -> loss [B], gradient, its change in the direction."""

    def derivatives(output, target, direction):
        grad = jax.grad(lambda x: RECONSTRUCTION[name](x, target).sum())
        return RECONSTRUCTION[name](output, target), *jax.jvp(grad, (output,), (direction,))

    return jax.jit(derivatives)


def _assert_finite_differences(derivatives, output, target):
    """Compares gradients and their changes with differences along a random direction."""
    direction = jnp.asarray(np.random.default_rng(1).normal(size=output.shape), jnp.float32)
    _, grad, change = derivatives(output, target, direction)
    ahead, behind = (derivatives(output + s * direction, target, direction) for s in (1e-3, -1e-3))
    slope = (ahead[0] - behind[0]) / 2e-3
    np.testing.assert_allclose((grad * direction).sum((1, 2, 3)), slope, rtol=5e-3, atol=5e-4)
    tolerance = 5e-3 * np.abs(change).max() + 1e-4
    np.testing.assert_allclose((ahead[1] - behind[1]) / 2e-3, change, rtol=0, atol=tolerance)


def _fourier(x):
    """The transform of each channel of [B, H, W, C], as its definition has it."""
    down, across = (scipy.linalg.dft(side) for side in x.shape[1:3])
    return np.einsum("uh,bhwc,wv->buvc", down, np.asarray(x, np.complex128), across)


def _scipy_ssim(a, b):
    """Wang et al. of [B, H, W, C] in [0, 2]: the terms' means [B, C]."""

    def blurred(x):
        for axis in (1, 2):
            x = ndimage.gaussian_filter1d(x, 1.5, axis=axis, radius=5)
        return x[:, 5:-5, 5:-5]

    mean_a, mean_b, c2 = blurred(a), blurred(b), 0.06**2
    variances = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
    contrast = (2 * (blurred(a * b) - mean_a * mean_b) + c2) / (variances + c2)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _reference(name, output, target):
    """The published formulas in float64."""
    output, target = (np.asarray(x, np.float64) for x in (output, target))
    d, axes = output - target, (1, 2, 3)
    if name == "charbonnier":
        return (np.hypot(d, 1e-3) - 1e-3).mean(axes)
    if name == "ssim":
        return 1 - _scipy_ssim(output + 1, target + 1)[0]
    if name == "multi_scale_ssim":  # of two scales
        halved = [x[:, :22].reshape(2, 11, 2, 12, 2, 2).mean((2, 4)) for x in (output, target)]
        weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
        fine, coarse = _scipy_ssim(output + 1, target + 1)[1], _scipy_ssim(*np.add(halved, 1))[0]
        return 1 - fine ** weights[0] * coarse ** weights[1]
    if name == "frequency":
        f = _fourier(d)
        return (np.abs(f.real) + np.abs(f.imag)).mean(axes) / 2
    if name == "amplitude":
        return np.abs(np.abs(_fourier(output)) - np.abs(_fourier(target))).mean(axes)
    if name == "focal_frequency":
        f = np.abs(_fourier(d)) / np.sqrt(d.shape[1] * d.shape[2])
        return (f / f.max((1, 2), keepdims=True) * f**2).mean(axes)
    return {"l1": np.abs(d), "l2": d**2}[name].mean(axes)


def test_every_loss_has_hand_numbers_and_its_name():
    assert set(HAND) == set(RECONSTRUCTION)
    for name, loss in RECONSTRUCTION.items():
        assert loss is getattr(losses, name) and name in losses.__all__
        assert list(inspect.signature(loss).parameters)[:2] == ["output", "target"]


@pytest.mark.parametrize("name", NAMES)
def test_hand_numbers(name):
    side = 11 if name in WINDOWED else 2
    white = jnp.ones((2, side, side, 1))
    found = jax.jit(RECONSTRUCTION[name])(white, jnp.concatenate([-white[:1], 0 * white[:1]]))
    np.testing.assert_allclose(found, HAND[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_published_formula_in_float64(name):
    output, target = _images(name)
    output = target + 0.3 * (output - target)  # alike, so that the similarity is positive
    found, _, _ = _derivatives(name)(output, target, target)
    np.testing.assert_allclose(found, _reference(name, output, target), rtol=1e-4)
    assert found.shape == (2,) and found.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_equal_images_have_zero_loss_and_gradient(name):
    _, target = _images(name)
    for image in (target, jnp.zeros_like(target), jnp.ones_like(target)):
        value, grad, change = _derivatives(name)(image, image, target)
        assert (value == 0).all() and (grad == 0).all()
        assert np.isfinite(change).all()


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_finite_far_outside_the_range(name):
    output, target = _images(name)
    flat, rough = jnp.ones_like(target), jnp.sign(target)
    for a, b in ((flat, -flat), (flat, flat), (rough, -rough), (rough, flat), (output, target)):
        for size in (1e4, 1e-20):
            found = _derivatives(name)(size * a, size * b, output)
            assert all(np.isfinite(x).all() for x in found), (size, a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_down_the_gradient_lowers_the_loss(name):
    output, target = _images(name)
    value, grad, _ = _derivatives(name)(output, target, output)
    size = 1e-2 / np.abs(grad).max()
    assert (_derivatives(name)(output - size * grad, target, output)[0] < value).all()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "focal_frequency"])
def test_derivatives_are_those_of_finite_differences(name):
    _assert_finite_differences(_derivatives(name), *_images(name))


@pytest.mark.parametrize("name", NAMES)
def test_output_and_target_may_change_places(name):
    output, target = _images(name)
    there, back = (_derivatives(name)(*x, target)[0] for x in ((output, target), (target, output)))
    np.testing.assert_allclose(there, back, rtol=1e-6)


def test_focal_frequency_differentiates_as_if_its_weights_were_constants():
    output, target = _images("focal_frequency")
    _, grad, change = _derivatives("focal_frequency")(output, target, target)
    spectrum = _fourier(output - target)
    weight = np.abs(spectrum) / np.abs(spectrum).max((1, 2), keepdims=True)
    # Of the mean of w |F d|^2 / H W over H W C frequencies; the transform's adjoint is conj F conj.
    scale = 2 / (4 * 5 * 4 * 5 * 2)
    expected = scale * _fourier((weight * spectrum).conj()).real
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)
    expected = scale * _fourier((weight * _fourier(target)).conj()).real
    np.testing.assert_allclose(change, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_jit_equals_no_jit_and_examples_do_not_see_each_other(name):
    output, target = _images(name)
    value, _, _ = _derivatives(name)(output, target, target)
    single = RECONSTRUCTION[name](output[:1], target[:1])
    np.testing.assert_allclose(single, value[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    half = [x.astype(jnp.bfloat16) for x in _images(name)]
    found = jax.jit(RECONSTRUCTION[name])(*half)
    exact, _, _ = _derivatives(name)(*(x.astype(jnp.float32) for x in half), _images(name)[0])
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_unequal_shape_are_refused(name):
    with pytest.raises(AssertionError):
        RECONSTRUCTION[name](jnp.zeros((2, 12, 12, 3)), jnp.zeros((2, 12, 12, 1)))


@pytest.mark.parametrize("name", WINDOWED)
def test_images_that_the_window_does_not_fit_are_one_line(name):
    image = jnp.zeros((2, 16, 10, 3))
    with pytest.raises(UserError, match=r"16 x 10 pixels are too small .* needs 11 a side; use la"):
        RECONSTRUCTION[name](image, image)


def test_multi_scale_ssim_is_one_minus_the_metric_where_that_is_defined():
    output, target = _images("multi_scale_ssim")
    output = target + 0.3 * (output - target)
    expected = 1 - similarity.multi_scale_ssim(output, target)
    found, _, _ = _derivatives("multi_scale_ssim")(output, target, target)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_logarithm_goes_on_as_its_tangent():
    above, below = np.array([0.0101, 0.5, 1.0]), np.array([0.0099, 0.0, -1.0])
    both = jnp.asarray(np.concatenate([above, below]), jnp.float32)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(reconstruction._extended_log)))(both)
    expected = np.concatenate([np.log(above), np.log(0.01) + (below - 0.01) * 100])
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, [*(1 / above), 100, 100, 100], rtol=1e-5)


def test_a_small_charbonnier_loss_keeps_its_digits():
    _, target = _images("charbonnier")
    found, _, _ = _derivatives("charbonnier")(jnp.full_like(target, 1e-6), 0 * target, target)
    np.testing.assert_allclose(found, [5e-10, 5e-10], rtol=1e-5)  # d^2 / 2 epsilon


def test_a_shifted_image_has_the_same_amplitudes_and_other_frequencies():
    _, target = _images("amplitude")
    shifted = jnp.roll(target, (1, 2), (1, 2))
    np.testing.assert_allclose(_derivatives("amplitude")(shifted, target, target)[0], 0, atol=1e-5)
    assert (_derivatives("frequency")(shifted, target, target)[0] > 0.1).all()


def test_focus_on_the_worst_frequency_grows_with_alpha():
    output, target = _images("focal_frequency")
    loss = jax.jit(losses.focal_frequency)
    values = [loss(output, target, alpha=a) for a in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(values[0], np.square(output - target).mean((1, 2, 3)), rtol=1e-5)
    assert (values[0] > values[1]).all() and (values[1] > values[2]).all()


def test_total_variation_by_hand_and_its_derivatives():
    image = jnp.array([[0.0, 1.0], [0.0, 0.5]])[None, :, :, None]
    both = jnp.concatenate([image, jnp.ones_like(image)]).astype(jnp.bfloat16)
    value, pull = jax.vjp(jax.jit(losses.total_variation), both)
    # Down 0 and -.5, across 1 and .5.
    np.testing.assert_array_equal(value, [0.25 + 0.75, 0])
    assert value.dtype == jnp.float32
    # Signs of the differences, below minus above and right minus left, by 1 / 2 each.
    (grad,) = pull(jnp.ones(2))
    np.testing.assert_array_equal(grad[0, :, :, 0], [[-0.5, 1.0], [-0.5, 0.0]])
    assert (grad[1] == 0).all()
    with pytest.raises(UserError, match="1 x 5 pixels are too small for total variation.* needs 2"):
        losses.total_variation(jnp.zeros((1, 1, 5, 3)))


def test_feature_matching_is_a_sum_of_means_and_spares_the_real_ones():
    real = [jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.zeros((2, 2, 1, 1), jnp.bfloat16)]
    fake = [jnp.array([[0.0, 4.0], [0.0, 1.0]]), jnp.ones((2, 2, 1, 1), jnp.bfloat16)]
    value, pull = jax.vjp(jax.jit(losses.feature_matching), real, fake)
    np.testing.assert_allclose(value, [(1 + 2) / 2 + 1, 1 / 2 + 1])
    assert value.dtype == jnp.float32
    real_grads, fake_grads = pull(jnp.ones(2))
    assert all((grad == 0).all() for grad in real_grads)
    np.testing.assert_array_equal(fake_grads[0], [[-0.5, 0.5], [0, 0.5]])
    for wrong in ([], fake[:1]):
        with pytest.raises(UserError, match=f"features of {len(wrong)} and 2 layers cannot be"):
            losses.feature_matching(real, wrong)


def test_perceptual_distance_compares_directions_in_maps_and_vectors_as_they_are():
    def distance(a, b):
        pair = [jnp.asarray(x, jnp.bfloat16).reshape(1, 1, 1, 2) for x in (a, b)]
        kinds = (lambda x: [x]), (lambda x: [x[:, 0, 0]]), (lambda x: [x, x[:, 0, 0]])
        found = [jax.jit(losses.perceptual_distance, static_argnums=0)(f, *pair) for f in kinds]
        assert all(x.shape == (1,) and x.dtype == jnp.float32 for x in found)
        np.testing.assert_allclose(found[0] + found[1], found[2], rtol=1e-6)
        return found[0][0], found[1][0]

    # Unit vectors (.6, .8) and (.8, .6).
    np.testing.assert_allclose(distance((3, 4), (4, 3)), [2 * 0.2**2, 1.0], rtol=1e-5)
    np.testing.assert_allclose(distance((3, 4), (6, 8)), [0.0, (9 + 16) / 2], atol=1e-6)
    with pytest.raises(UserError, match="features of 0 and 0 layers"):
        losses.perceptual_distance(lambda x: (), jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)))
    with pytest.raises(AssertionError):  # one array, where a sequence of them is asked for
        losses.perceptual_distance(lambda x: x, jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)))


def test_perceptual_distance_has_finite_derivatives_where_features_are_dead():
    @jax.jit
    def derivatives(output, target, direction):
        loss = lambda x: losses.perceptual_distance(lambda y: [jax.nn.relu(y)], x, target)  # noqa: E731
        grad = jax.grad(lambda x: loss(x).sum())
        return loss(output), *jax.jvp(grad, (output,), (direction,))

    output, target = (2 + x for x in _images("l1"))
    for a, b in ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (0.0, 0.0), (1e4, -1e4), (1e4, 1e4)):
        found = derivatives(a * output, b * target, output)
        assert all(np.isfinite(x).all() for x in found), (a, b)
    _assert_finite_differences(derivatives, output, target)


def test_a_classifier_serves_as_the_network_of_a_perceptual_distance():
    net = classifiers.DigitClassifier(num_classes=3, width=4, features=6)
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    target, output = jax.random.uniform(jax.random.key(1), (2, 3, 8, 8, 1), minval=-1.0)
    maps = features.classifier_maps(params)
    loss = jax.jit(jax.value_and_grad(lambda x: losses.perceptual_distance(maps, x, target).sum()))
    value, grad = loss(output)
    assert value > 0.1 and np.isfinite(grad).all() and (np.abs(grad).max((1, 2, 3)) > 0).all()
    assert loss(output - 1e-2 * grad / np.abs(grad).max())[0] < value
    assert loss(target)[0] < 1e-9
