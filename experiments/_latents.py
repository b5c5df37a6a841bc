"""The latents that `experiments.invert` searches, and the images and directions it shows."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import images, invert, latents, sample
from jaxgan.data import folder, photos
from jaxgan.types import Array, PyTree, UserError

POOL = 2048  # samples that an image's starts are the nearest of, if they fit
NUMBERS = 2**26  # of a pool's pixels at most
WIDEST = 3.0  # standard deviations of a normal latent's components
FEATURES = 16  # pixels a side that images are averaged to, where directions are those of images
REACH = 3.0  # standard deviations that an edit goes to either side
COLUMNS = 7  # pictures of an edit


@dataclasses.dataclass(frozen=True)
class Space:
    """Where latents are searched: w of a style-based generator, z of any other.

    Attributes:
      sampler: of the generator.
      layered: searches a w for each layer, W+ of "Image2StyleGAN" by Abdal et al.
        (https://arxiv.org/abs/1904.03189).
    """

    sampler: sample.Sampler
    layered: bool = False

    @property
    def styled(self) -> bool:
        """Whether the generator has w."""
        return hasattr(self.sampler.gen, "latents")

    @property
    def name(self) -> str:
        """What these latents are called."""
        return ("w+" if self.layered else "w") if self.styled else "z"

    @property
    def bound(self) -> float:
        """What components stay within."""
        if self.styled:
            return math.inf
        return {latents.normal: WIDEST, latents.uniform: 1.0}.get(self.sampler.prior, math.inf)

    def draw(self, variables: PyTree, key: Any, label: np.ndarray | None, num: int) -> np.ndarray:
        """Draws latents as samples have them, [num, D]: of all layers the same."""
        z = self.sampler.draw(key, num)
        if not self.styled:
            return np.asarray(z)
        return np.asarray(_mapped(self.sampler.gen, variables, z, label))

    def spread(self, latent: np.ndarray) -> np.ndarray:
        """Latents [..., D] as they are searched: [..., layers * D] where each layer has its own."""
        if not self.layered:
            return latent
        return np.concatenate([latent] * self.sampler.gen.num_layers, axis=-1)  # pyright: ignore

    def make(self, variables: PyTree, latent: Array, label: Array | None) -> Array:
        """Makes images of latents, drawn or searched."""
        gen: Any = self.sampler.gen
        if not self.styled:
            return gen.apply(variables, latent, label, train=False)
        each = latent.reshape(latent.shape[0], -1, gen.features)  # of one for all layers, or of all
        ws = jnp.broadcast_to(each, (len(each), gen.num_layers, gen.features))
        return gen.apply(variables, ws, method=_synthesized)


def _synthesized(module: Any, ws: Array) -> Array:
    return module.synthesis(ws, fixed_noise=True)


def _mapped(gen: Any, variables: PyTree, z: Array, label: Any) -> Array:
    def first(variables: PyTree, z: Array, label: Any) -> Array:
        return gen.apply(variables, z, label, train=False, method="latents")[:, 0]

    return jax.jit(first)(variables, z, label)


def read(text: str, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Reads images of one size.

    Args:
      text: --images: a file, several with commas between them, or a folder.
      shape: height, width and channels that the generator makes.

    Returns:
      [H, W, C] float32 in [-1, 1], by the names of the files without their kind.

    Raises:
      UserError: there is none, or one is of another size or has other channels.
    """
    if not text:
        raise UserError("--images is empty; name image files, or a folder of them")
    found: dict[str, np.ndarray] = {}
    for part in text.split(","):
        path = pathlib.Path(part).expanduser()
        if not path.exists():
            raise UserError(f"--images={part}: there is no such file or folder")
        names = folder.scan(path) if path.is_dir() else [""]
        for name in names:
            file = path / name if name else path
            plain = pathlib.PurePosixPath(name or path.name).with_suffix("").as_posix()
            plain = plain.replace("/", "_")
            key = plain if plain not in found else f"{plain}_{len(found)}"
            found[key] = _image(file, shape)
    return found


def _image(path: pathlib.Path, shape: Sequence[int]) -> np.ndarray:
    photo = photos.read(path)
    pixels = photo.pixels.astype(np.float32) / photo.largest
    height, width, channels = shape
    if pixels.shape[:2] != (height, width):
        high, wide = pixels.shape[:2]
        raise UserError(
            f"{path}: {high} x {wide} pixels (height x width), and the generator makes {height} x "
            f"{width}; crop or scale it"
        )
    if channels == 1 and pixels.shape[-1] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey, written as colours
    if pixels.shape[-1] != channels:
        kinds = {1: "grey", 3: "in colour"}
        raise UserError(
            f"{path} is {kinds[pixels.shape[-1]]}, and the generator makes images of {channels} "
            f"channel{'s' * (channels > 1)}; convert it"
        )
    return pixels * 2 - 1


def pool_size(shape: Sequence[int], num: int) -> int:
    """How many samples to choose starts from.

    Args:
      shape: of an image.
      num: starts of an image.

    Returns:
      `POOL`, or fewer where images are large, but as many as are needed.
    """
    return max(num, 64, min(POOL, NUMBERS // math.prod(shape)))


def features(x: np.ndarray) -> np.ndarray:
    """What directions are found by where latents have no components of their own: small images.

    Args:
      x: [N, H, W, C] images.

    Returns:
      [N, F] their pixels, averaged to at most `FEATURES` a side.
    """
    num, height, width, channels = x.shape
    high, wide = (max(1, side // FEATURES) for side in (height, width))
    x = x[:, : height - height % high, : width - width % wide]
    x = x.reshape(num, height // high, high, width // wide, wide, channels)
    return x.mean((2, 4)).reshape(num, -1)


def edited(
    space: Space, variables: PyTree, found: invert.Inverted, number: int, directions: np.ndarray
) -> np.ndarray:
    """Moves one image's latent along directions.

    Args:
      space: of latents.
      variables: of the generator.
      found: latents of images.
      number: of the image.
      directions: [K, D], each as long as one step.

    Returns:
      A picture [h, w, C] uint8: a row a direction, the image itself in the middle.
    """
    ways = np.linspace(-REACH, REACH, COLUMNS)
    directions = space.spread(directions)
    moved = found.latent[number] + ways[None, :, None] * directions[:, None]  # [K, columns, D]
    flat = moved.reshape(-1, moved.shape[-1]).astype(np.float32)
    label = None if found.label is None else np.full(len(flat), found.label[number], np.int32)
    made = invert.made(space.make, variables, flat, label)
    return images.grid(images.to_uint8(made), columns=COLUMNS)


def pairs(real: np.ndarray, made: np.ndarray, *, columns: int = 16) -> np.ndarray:
    """Lays images out above what was made of them.

    Args:
      real: [N, H, W, C] in [-1, 1].
      made: [N, H, W, C].
      columns: images in a row at most.

    Returns:
      A picture [h, w, C] uint8: a row of images, one of reconstructions, and so on.
    """
    columns = min(columns, len(real))
    white = np.ones((-len(real) % columns, *real.shape[1:]), real.dtype)
    rows = [np.concatenate([x, white]).reshape(-1, columns, *x.shape[1:]) for x in (real, made)]
    both = np.stack(rows, axis=1).reshape(-1, *real.shape[1:])
    return images.grid(images.to_uint8(both), columns=columns)
