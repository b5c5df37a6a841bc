"""Power at the Nyquist frequency, against what is known of noise and of patterns."""

import numpy as np
import pytest

from jaxgan.metrics import spectrum


def test_of_white_noise_is_its_variance():
    noise = np.random.default_rng(0).normal(0, 0.3, (1200, 12, 20, 3)).astype(np.float32)
    assert spectrum.nyquist_power(noise) == pytest.approx(0.09, rel=0.03)


def test_of_bytes_is_that_of_their_floats():
    image = np.random.default_rng(1).integers(0, 256, (7, 9, 8, 1), np.uint8)
    floats = image.astype(np.float32) / 127.5 - 1.0
    assert spectrum.nyquist_power(image) == pytest.approx(spectrum.nyquist_power(floats))


@pytest.mark.parametrize("axis", [1, 2])
def test_faint_stripes_are_found_and_gradients_are_not(axis):
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)[None, :, None, None] * np.ones((4, 1, 32, 1))
    stripes = 0.1 * (-1.0) ** np.arange(32).reshape([-1 if i == axis else 1 for i in range(4)])
    assert spectrum.nyquist_power(ramp) < 1e-6  # no jump at the border is taken for detail
    assert spectrum.nyquist_ratio(ramp, ramp + stripes) > 100


def test_of_blurred_images_is_less_and_of_equal_ones_the_same():
    noise = np.random.default_rng(2).normal(0, 0.3, (50, 16, 16, 1)).astype(np.float32)
    blurred = (noise + np.roll(noise, 1, 1)) / 2
    assert spectrum.nyquist_ratio(noise, noise[::-1]) == pytest.approx(1.0)
    assert spectrum.nyquist_ratio(noise, blurred) < 0.7
