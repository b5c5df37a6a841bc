"""Losses of images against the true ones, for restoration, translation and cycles.

Each row of `RECONSTRUCTION` is a function `(output, target) -> [B]`, for terms of a `Game`:

    loss = losses.RECONSTRUCTION["charbonnier"]
    gen_terms = {"pixels": lambda seen: 100 * loss(seen.fake["image"], seen.batch["image"])}

They are means over all of an image, computed in float32 whatever it is stored in, 0 for equal
images, and finite with finite gradients there and far outside the range. Distances of features are
`feature_matching`, between activations of D, and `perceptual_distance`, of any fixed network.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp

from jaxgan import structure
from jaxgan.types import Array, UserError

ReconstructionLoss = Callable[[Array, Array], Array]  # output, target [B, H, W, C] -> [B]
FeaturesFn = Callable[[Array], Sequence[Array]]  # images -> [B, h, w, C] or [B, D], one a layer

_FLOOR = 0.01  # of the terms whose logarithm multi-scale SSIM takes
_AMPLITUDE = 1e-4  # rounds the cone of an amplitude off at its tip
_LENGTH = 1e-3  # that of a feature without a direction


def l1(output: Array, target: Array) -> Array:
    """Mean absolute difference.

    The reconstruction term of "Image-to-Image Translation with Conditional Adversarial Networks" by
    Isola et al. (https://arxiv.org/abs/1611.07004), equation 3, and the cycle's of CycleGAN:

      mean |output - target|

    Args:
      output: [B, ...], such as images [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.

    Returns:
      [B] float32, in [0, 2] for images.
    """
    output, target = _pair(output, target)
    return _example_mean(_absolute(output - target))


def l2(output: Array, target: Array) -> Array:
    """Mean squared difference, which PSNR is the logarithm of.

      mean (output - target)^2

    Args:
      output: [B, ...], such as images [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.

    Returns:
      [B] float32, in [0, 4] for images.
    """
    output, target = _pair(output, target)
    return _example_mean(jnp.square(output - target))


def charbonnier(output: Array, target: Array, *, epsilon: float = 1e-3) -> Array:
    """Absolute difference that is smooth at zero.

    See "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution" by Lai et al.
    (https://arxiv.org/abs/1704.03915), section 3; less epsilon, so that equal images have 0:

      mean sqrt(d^2 + epsilon^2) - epsilon  =  mean d^2 / (sqrt(d^2 + epsilon^2) + epsilon)

    Args:
      output: [B, ...], such as images [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.
      epsilon: differences below it count by their squares; above 0, in the units of the pixels.

    Returns:
      [B] float32, in [0, 2] for images.
    """
    output, target = _pair(output, target)
    squared = jnp.square(output - target)
    # The right form: in the left one, two nearly equal numbers are subtracted.
    return _example_mean(squared / (jnp.sqrt(squared + epsilon**2) + epsilon))


def ssim(output: Array, target: Array) -> Array:
    """One minus the structural similarity.

    See "Loss Functions for Image Restoration with Neural Networks" by Zhao et al.
    (https://arxiv.org/abs/1511.08861), section 3, and `structure.terms` for the index:

      1 - mean(luminance * contrast)

    Windows see the pixels near a border less, and no window sees an error that is everywhere the
    same well: another loss beside it, such as L1, keeps colours.

    Args:
      output: [B, H, W, C] in [-1, 1], H and W of 11 or more.
      target: the same shape, the truth.

    Returns:
      [B] float32 in [0, 2].

    Raises:
      UserError: the images are smaller than the window.
    """
    output, target = _windowed_pair(output, target)
    luminance, contrast = structure.terms(output, target, low=-1.0, high=1.0)
    return 1.0 - _example_mean(luminance * contrast)


def multi_scale_ssim(output: Array, target: Array) -> Array:
    """One minus the structural similarity over up to five scales.

    See "Loss Functions for Image Restoration with Neural Networks" by Zhao et al.
    (https://arxiv.org/abs/1511.08861), section 3, and `structure.scale_terms` for the terms t,
    whose powers w go with the scales:

      1 - prod t^w  =  1 - exp(sum w log t)

    A negative t has no such power, and at zero its derivative is infinite: below .01 log t goes on
    as its tangent, 100 t - 1 + log .01. There, where images have less in common than unrelated
    ones, the gradient fades, and the L1 that the paper mixes in takes over. Images under 176 pixels
    have fewer scales, as in `metrics.similarity`.

    Args:
      output: [B, H, W, C] in [-1, 1], H and W of 11 or more.
      target: the same shape, the truth.

    Returns:
      [B] float32 in [0, 1].

    Raises:
      UserError: the images are smaller than the window.
    """
    output, target = _windowed_pair(output, target)
    terms = jnp.stack(structure.scale_terms(output, target, low=-1.0, high=1.0), axis=-1)
    weights = jnp.array([structure.scale_weights(min(output.shape[1:3]))], jnp.float32)
    return -jnp.expm1((weights * _extended_log(terms)).sum(-1))


def frequency(output: Array, target: Array) -> Array:
    """Mean absolute difference of the Fourier transforms' real and imaginary parts.

    See "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" by Cho et al.
    (https://arxiv.org/abs/2108.05054), section 3.4, which adds .1 of it to L1 at each scale:

      mean (|Re F(d)| + |Im F(d)|) / 2,  F(d)_uv = sum_hw d_hw exp(-2 pi i (u h / H + v w / W))

    of the difference d, a channel at a time. As in the authors' code
    (https://github.com/chosj95/MIMO-UNet) the transform is a plain sum, so that noise counts about
    sqrt(H W / 2) times as much as in L1, and the mean is over two numbers a frequency.

    Args:
      output: [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.

    Returns:
      [B] float32, 0 or more.
    """
    output, target = _pair(output, target)
    spectrum = _spectrum(output - target)
    return 0.5 * _example_mean(_absolute(spectrum.real) + _absolute(spectrum.imag))


def amplitude(output: Array, target: Array) -> Array:
    """Mean absolute difference of the Fourier transforms' amplitudes, whatever their phases.

    See "Fourier Space Losses for Efficient Perceptual Image Super-Resolution" by Fuoli et al.
    (https://arxiv.org/abs/2106.00783), section 3, here without its window and with the transform of
    `frequency`:

      mean ||F(output)| - |F(target)||

    Images that are shifted have the same amplitudes: it needs another loss beside it.

    Args:
      output: [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.

    Returns:
      [B] float32, 0 or more.
    """
    output, target = _pair(output, target)

    def amplitudes(x: Array) -> Array:
        # A frequency that an image lacks has no phase: the root's derivative there is NaN.
        return jnp.sqrt(_power(_spectrum(x)) + _AMPLITUDE**2)

    return _example_mean(_absolute(amplitudes(output) - amplitudes(target)))


def focal_frequency(output: Array, target: Array, *, alpha: float = 1.0) -> Array:
    """Squared difference of the Fourier transforms, weighted by where it is large.

    See "Focal Frequency Loss for Image Reconstruction and Synthesis" by Jiang et al.
    (https://arxiv.org/abs/2012.12821), section 3:

      mean w |F(d)|^2,  w = |F(d)|^alpha / max_uv |F(d)|^alpha

    of the difference d, a channel at a time. The transform is divided by sqrt(H W), so that without
    the weights it would be L2, and no gradient passes through them: they only say which frequencies
    to mend first. The authors add it to another loss.

    Args:
      output: [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.
      alpha: how far it turns to the worst frequencies, 0 or more.

    Returns:
      [B] float32, in [0, 4] for images.
    """
    output, target = _pair(output, target)
    power = _power(_spectrum(output - target) / math.sqrt(math.prod(output.shape[1:3])))
    weight = jax.lax.stop_gradient(power) ** (alpha / 2)
    largest = weight.max((1, 2), keepdims=True)
    return _example_mean(weight / jnp.maximum(largest, jnp.finfo(jnp.float32).tiny) * power)


RECONSTRUCTION: Mapping[str, ReconstructionLoss] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "ssim": ssim,
    "multi_scale_ssim": multi_scale_ssim,
    "frequency": frequency,
    "amplitude": amplitude,
    "focal_frequency": focal_frequency,
}


def total_variation(image: Array) -> Array:
    """Mean difference of neighbouring pixels, down and across: how rough an image is.

    See "Decomposition of Images by the Anisotropic Rudin-Osher-Fatemi Model" by Esedoglu and Osher
    (https://doi.org/10.1002/cpa.20045); here means, so that images of all sizes compare:

      mean |x_(h+1,w) - x_hw| + mean |x_(h,w+1) - x_hw|

    Args:
      image: [B, H, W, C] in [-1, 1], H and W of 2 or more.

    Returns:
      [B] float32 in [0, 4].

    Raises:
      UserError: the image is a single row or column.
    """
    chex.assert_rank(image, 4)
    _check_size(image, 2, "total variation")
    image = jnp.asarray(image, jnp.float32)
    down, across = jnp.diff(image, axis=1), jnp.diff(image, axis=2)
    return _example_mean(_absolute(down)) + _example_mean(_absolute(across))


def feature_matching(real_features: Sequence[Array], fake_features: Sequence[Array]) -> Array:
    """Difference of the discriminator's activations on true images and on G's in their place.

    See "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs" by Wang et
    al. (https://arxiv.org/abs/1711.11585), equation 4, without its weight of 10:

      sum_layers mean |D_layer(x) - D_layer(G(z))|

    G alone minimises it, with `nets.patch.Discriminator(with_features=True)` for example as
    `feature_matching(seen.real_out["features"], seen.fake_out["features"])`. The authors' code
    (https://github.com/NVIDIA/pix2pixHD) also multiplies by 4 / (layers + 1), and takes the mean
    over discriminators.

    Args:
      real_features: one [B, ...] a layer, of true images; they get no gradient.
      fake_features: the same shapes, of what G made in the place of each.

    Returns:
      [B] float32, 0 or more.

    Raises:
      UserError: there are no layers, or their numbers differ.
    """
    real_features = jax.lax.stop_gradient(list(real_features))
    return _sum_layers(l1, fake_features, real_features)


def perceptual_distance(features: FeaturesFn, output: Array, target: Array) -> Array:
    """Distance of images as a fixed network sees them.

    Feature maps are compared as in "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric" by Zhang et al. (https://arxiv.org/abs/1801.03924), equation 1, with weights of 1: they
    are made unit vectors at each position,

      sum_layers mean_hw |y_hw / |y_hw| - x_hw / |x_hw||^2

    and vectors as in "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" by
    Johnson et al. (https://arxiv.org/abs/1603.08155), equation 2, as they are: mean (y - x)^2.

    `metrics.features.classifier_maps` makes such a function of the project's classifiers. Theirs
    is no published LPIPS: compare it with itself only.

    Args:
      features: images [B, H, W, C] in [-1, 1] -> for each layer a map [B, h, w, C] or a vector
        [B, D]; its parameters are its own, and are not trained.
      output: [B, H, W, C] in [-1, 1].
      target: the same shape, the truth.

    Returns:
      [B] float32, 0 or more; of each map in [0, 4], and after a ReLU in [0, 2].

    Raises:
      UserError: the function returns no layers.
    """
    output, target = _pair(output, target)
    return _sum_layers(_layer_distance, features(output), features(target))


def _sum_layers(
    distance: ReconstructionLoss, seen: Sequence[Array], wanted: Sequence[Array]
) -> Array:
    if not len(seen) or len(seen) != len(wanted):
        raise UserError(
            f"features of {len(seen)} and {len(wanted)} layers cannot be compared; there must be "
            "one array a layer, of the same layers"
        )
    return jnp.stack([distance(*layer) for layer in zip(seen, wanted, strict=True)]).sum(0)


def _layer_distance(seen: Array, wanted: Array) -> Array:
    seen, wanted = _pair(seen, wanted)
    chex.assert_rank(seen, {2, 4})
    if seen.ndim == 2:
        return l2(seen, wanted)
    return jnp.square(_unit(seen) - _unit(wanted)).sum(-1).mean((1, 2))


def _unit(x: Array) -> Array:
    """Vectors along the last axis, of length 1; shorter where there is hardly any."""
    # After a ReLU many are all zero: without an epsilon their gradient is NaN, and with a tiny one
    # the first step away from zero is a jump.
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + _LENGTH**2)


def _absolute(x: Array) -> Array:
    """|x| with derivative 0 at 0. That of `jnp.abs` is 1: it would push equal pixels down."""
    return x * jnp.sign(x)


def _extended_log(t: Array) -> Array:
    """Logarithm, continued below `_FLOOR` by its tangent there."""
    tangent = math.log(_FLOOR) + t / _FLOOR - 1.0
    return jnp.where(t > _FLOOR, jnp.log(jnp.maximum(t, _FLOOR)), tangent)


def _spectrum(x: Array) -> Array:
    """Fourier transform [B, H, W, C] complex64 of each channel."""
    chex.assert_rank(x, 4)
    return jnp.fft.fft2(x, axes=(1, 2))


def _power(spectrum: Array) -> Array:
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def _pair(output: Array, target: Array) -> tuple[Array, Array]:
    """Both in float32."""
    chex.assert_equal_shape([output, target])
    return jnp.asarray(output, jnp.float32), jnp.asarray(target, jnp.float32)


def _windowed_pair(output: Array, target: Array) -> tuple[Array, Array]:
    """Both in float32, if the window of SSIM fits."""
    chex.assert_rank(output, 4)
    _check_size(output, structure.WINDOW, "SSIM")
    return _pair(output, target)


def _check_size(image: Array, least: int, what: str) -> None:
    height, width = image.shape[1:3]
    if min(height, width) < least:
        raise UserError(
            f"images of {height} x {width} pixels are too small for {what}, which needs {least} a "
            "side; use larger ones, or a loss of pixels, such as charbonnier"
        )


def _example_mean(values: Array) -> Array:
    """[B], averaged within each example."""
    return values.reshape(values.shape[0], -1).mean(1)
