"""Published methods without training that `experiments.evaluate --rivals=...` runs beside ours."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan import images
from jaxgan.run import cli
from jaxgan.types import UserError, lookup

Method = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]  # input [-1, 1], shape -> uint8


def method(name: str, config: Any) -> Method:
    """Opens a method.

    Args:
      name: of the method: bm3d, nlm (non-local means) or bicubic (Pillow's).
      config: of the run, for what the method must know of the degradation.

    Returns:
      `(input [h, w, c] float in [-1, 1], shape of the truth) -> [H, W, C] uint8`.

    Raises:
      UserError: there is no such method, it is not for the run's task, or its package is missing.
    """
    make, tasks, package = lookup(METHODS, name, "--rivals: method")
    if config.task not in tasks:
        raise UserError(
            f"--rivals={name} is for --task={' and '.join(tasks)}, not --task={config.task}"
        )
    try:
        return make(config)
    except ImportError as error:
        raise UserError(
            f"--rivals={name} needs the package {package}: pip install {package}"
        ) from error


def _sigma(config: Any) -> float:
    sigma = cli.span(config, "noise")
    if config.photons or isinstance(sigma, tuple):
        raise UserError(
            f"--rivals: must know the noise, which --noise={config.noise} draws for each image; "
            "evaluate with --noise=25, say"
        )
    return sigma / 255


def _bm3d(config: Any) -> Method:
    """See "Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering" by Dabov et al.

    (https://doi.org/10.1109/TIP.2007.901238), in the package of its authors.
    """
    import bm3d  # pyright: ignore[reportMissingImports]

    sigma = _sigma(config)

    def run(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        filtered = bm3d.bm3d if shape[-1] == 1 else bm3d.bm3d_rgb
        made = filtered(_unit(source).squeeze(), sigma)
        return _bytes(made, shape)

    return run


def _nlm(config: Any) -> Method:
    """See "A Non-Local Algorithm for Image Denoising" by Buades et al.

    (https://doi.org/10.1109/CVPR.2005.38), in scikit-image.
    """
    from skimage import restoration  # pyright: ignore[reportMissingImports]

    sigma = _sigma(config)
    run = functools.partial(
        restoration.denoise_nl_means,
        patch_size=7,
        patch_distance=10,
        h=0.7 * sigma,
        sigma=sigma,
        channel_axis=-1,
    )
    return lambda source, shape: _bytes(run(_unit(source)), shape)


def _bicubic(config: Any) -> Method:
    """Pillow's."""
    from PIL import Image

    del config

    def run(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        picture = Image.fromarray(images.to_uint8(source).squeeze())
        made = picture.resize(shape[1::-1], Image.Resampling.BICUBIC)
        return np.asarray(made).reshape(shape)

    return run


METHODS = {
    "bm3d": (_bm3d, ("denoise",), "bm3d"),
    "nlm": (_nlm, ("denoise",), "scikit-image"),
    "bicubic": (_bicubic, ("superres",), "pillow"),
}


def _unit(source: np.ndarray) -> np.ndarray:
    return (np.asarray(source, np.float64) + 1) / 2


def _bytes(made: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return images.to_uint8(2 * np.asarray(made).reshape(shape) - 1)
