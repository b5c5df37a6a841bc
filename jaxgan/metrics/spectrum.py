"""The power of images at the Nyquist frequency, where upsampling leaves checkerboards.

See "Watch your Up-Convolution" by Durall et al. (https://arxiv.org/abs/2003.01826).
"""

import numpy as np

CHUNK = 500  # images at a time


def nyquist_power(images: np.ndarray) -> float:
    """Measures what alternates from pixel to pixel, along rows or columns.

    Args:
      images: [N, H, W, C], uint8 or float in [-1, 1].

    Returns:
      The mean of the periodogram, under a Hann window, over all frequencies (u, v) of which one is
      the highest that the side has; in squares of a value in [-1, 1]. Of white noise it is the
      variance.
    """
    height, width = images.shape[1:3]
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    window = (window / np.sqrt(np.square(window).sum())).astype(np.float32)
    total = 0.0
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        if chunk.dtype == np.uint8:
            chunk = chunk.astype(np.float32) / 127.5 - 1.0
        chunk = chunk - chunk.mean((1, 2), keepdims=True)
        power = np.square(np.abs(np.fft.fft2(chunk * window[..., None], axes=(1, 2))))
        lines = power[:, height // 2].sum() + power[:, :, width // 2].sum()
        total += float(lines - power[:, height // 2, width // 2].sum())
    return total / (len(images) * images.shape[3] * (height + width - 1))


def nyquist_ratio(real: np.ndarray, fake: np.ndarray) -> float:
    """Compares that power of samples with that of real images.

    Args:
      real: [N, H, W, C], uint8 or float in [-1, 1].
      fake: [M, H, W, C].

    Returns:
      1 where both have as much; well above for checkerboards, well below for blurred samples.
    """
    least = np.square(1 / 255)  # about the rounding of 8-bit images
    return (nyquist_power(fake) + least) / (nyquist_power(real) + least)
