"""Translation: pictures of any size through a trained generator of images, a tile at a time.

A network that says how far it sees (`reach`) and where tiles may begin (`multiple`, see
`nets.restoration`) is applied to tiles that overlap by as much, so that memory does not grow with
the picture and the tiles are the whole. All windows of a picture have one shape, which compiles
once; a network of another kind, such as one that normalises over the image, sees it whole.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgan.data import masks
from jaxgan.types import Array, PyTree, UserError

# Pixels a side of a tile, and at most of what is made of it: SRResNet then needs 1 GB to grow
# pictures 4 times.
TILE, MADE = 512, 768
# Of row and column numbers [h] and [w], the pixels there: [h, w, C] float in [-1, 1], and of a
# masked translator a further channel, 1 in holes.
Read = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Translator:
    """How a trained generator of images from images is applied to pictures.

    Attributes:
      gen: the generator, `gen(x [B, h, w, c], *, train) -> [B, h * scale, w * scale, channels]`.
        With `multiple` and `reach` it is applied to tiles; it then pads as `restoration.padded`
        does, if at all.
      source_channels: of the picture it sees, 1 (grey) or 3, without the mask.
      channels: of the picture it makes, 1 or 3.
      scale: how many times the sides grow.
      masked: whether it also sees a mask: its input is then that of `data.masks.punch`.
      least: pixels a side that a picture needs at least.
    """

    gen: nn.Module
    source_channels: int = 3
    channels: int = 3
    scale: int = 1
    masked: bool = False
    least: int = 1

    @property
    def tiled(self) -> bool:
        """Whether it can be applied to tiles."""
        return hasattr(self.gen, "reach") and hasattr(self.gen, "multiple")

    @property
    def tile(self) -> int:
        """Pixels a side of a tile where nothing else is asked for."""
        return max(1, min(TILE, MADE // self.scale))

    @property
    def multiple(self) -> int:
        """Pixels: what tiles begin at multiples of."""
        return getattr(self.gen, "multiple", 1)

    @property
    def overlap(self) -> int:
        """Pixels on each side of a tile that the network sees too: its reach, rounded up."""
        return -(-getattr(self.gen, "reach", 0) // self.multiple) * self.multiple


class Piece(NamedTuple):
    """A part of a translated picture.

    Attributes:
      top: its first row in the translated picture.
      left: its first column.
      pixels: [h, w, channels] float32 in [-1, 1].
    """

    top: int
    left: int
    pixels: np.ndarray


class Window(NamedTuple):
    """Where on one axis the network looks, and what is kept of it.

    Attributes:
      start: the first pixel it sees.
      first: the first pixel that is kept.
      stop: the first one that is not kept any more.
    """

    start: int
    first: int
    stop: int


def translate(
    translator: Translator,
    variables: PyTree,
    picture: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    tile: int = 0,
) -> np.ndarray:
    """Translates a picture of any size.

    Args:
      translator: what to apply.
      variables: of its generator, usually a state's `gen_ema`.
      picture: [H, W, source_channels] float in [-1, 1].
      mask: [H, W] or [H, W, 1], of a masked translator: 1 (or True) in holes and 0 elsewhere.
      tile: pixels a side of the picture that are done at a time; fewer need less memory and more
        time. The network sees as much more on each side as it reaches. 0 for 512, and where the
        picture grows for as many as make 768. A network without `reach` sees the whole.

    Returns:
      [H * scale, W * scale, channels] float32 in [-1, 1].

    Raises:
      UserError: the picture is too small, or not of such channels; a mask lacks, or has another
        size, or is not needed.
    """
    chex.assert_rank(picture, 3)
    size, wanted = picture.shape[:2], translator.source_channels
    if picture.shape[-1] != wanted:
        raise UserError(f"a picture of {picture.shape[-1]} channels; the network sees {wanted}")
    if translator.masked != (mask is not None):
        raise UserError("the network needs a mask" if translator.masked else "it takes no mask")
    if mask is not None:
        if mask.shape[:2] != size:
            raise UserError(f"a mask of {mask.shape[:2]} for a picture of {size}, height and width")
        mask = mask.reshape(*size, 1).astype(np.float32)

    def read(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        here = np.ix_(rows, columns)
        seen = picture[here]
        return seen if mask is None else np.concatenate([seen, mask[here]], -1)

    made = np.empty((*(side * translator.scale for side in size), translator.channels), np.float32)
    for top, left, part in pieces(translator, variables, read, size, tile=tile):
        made[top : top + part.shape[0], left : left + part.shape[1]] = part
    return made


def pieces(
    translator: Translator,
    variables: PyTree,
    read: Read,
    size: tuple[int, int],
    *,
    tile: int = 0,
    wanted: Callable[[slice, slice], bool] = lambda rows, columns: True,
) -> Iterator[Piece]:
    """Translates a picture piece by piece, so that nothing of its size need be kept as floats.

    Args:
      translator: what to apply.
      variables: of its generator.
      read: gives the pixels at rows and columns.
      size: height and width of the picture.
      tile: as in `translate`.
      wanted: whether what becomes of these rows and columns of the picture is needed.

    Yields:
      Pieces that cover the translated picture, or what is wanted of it, each pixel once, row by row
      of tiles.

    Raises:
      UserError: the picture is too small.
    """
    check_size(translator, size)
    variables = jax.device_put(variables)
    axes = [_axis(translator, side, tile) for side in size]
    (rows, down, height), (columns, across, width) = axes
    scale = translator.scale
    for vertical in down:
        for horizontal in across:
            places = [slice(at.first, at.stop) for at in (vertical, horizontal)]
            if not wanted(*places):
                continue
            seen = read(
                rows[vertical.start : vertical.start + height],
                columns[horizontal.start : horizontal.start + width],
            )
            made = _applied(translator, variables, np.asarray(seen, np.float32)[None])
            kept = [
                slice((at.first - at.start) * scale, (at.stop - at.start) * scale)
                for at in (vertical, horizontal)
            ]
            yield Piece(
                vertical.first * scale, horizontal.first * scale, np.asarray(made)[0][*kept]
            )


def check_size(translator: Translator, size: tuple[int, int]) -> None:
    """Refuses pictures that the network is too large for.

    Args:
      translator: what is to be applied.
      size: height and width.

    Raises:
      UserError: one of them is below `translator.least`.
    """
    if min(size) < translator.least:
        raise UserError(
            f"{size[0]} x {size[1]} pixels (height x width) are too few; this network needs "
            f"{translator.least} or more a side"
        )


def windows(length: int, *, tile: int, overlap: int) -> list[Window]:
    """Places windows on one axis: each keeps what lies further than the overlap from its cut edges.

    Args:
      length: pixels, a multiple of the network's.
      tile: pixels kept of a window between two others, such a multiple too.
      overlap: pixels on either side of them, such a multiple too.

    Returns:
      The windows, all of `min(length, tile + 2 * overlap)` pixels; what they keep covers the axis,
      each pixel once.
    """
    seen = tile + 2 * overlap
    if length <= seen:
        return [Window(0, 0, length)]
    found, first = [], 0
    while first < length:
        start = min(max(0, first - overlap), length - seen)  # the last one reaches back
        stop = length if start + seen == length else start + seen - overlap
        found.append(Window(start, first, stop))
        first = stop
    return found


def _axis(translator: Translator, side: int, tile: int) -> tuple[np.ndarray, list[Window], int]:
    """Of one axis, which pixel is read at each place, the windows, and the length of each.

    Beyond the edge the picture goes on, reflected, until its side divides: as the network pads.
    """
    multiple = translator.multiple
    place = np.arange(side)
    if not translator.tiled:
        return place, [Window(0, 0, side)], side
    if tile < 0:
        raise UserError(
            f"tile {tile} is not possible; use 1 pixel or more, or 0 for as many as fit"
        )
    tile = -(-(tile or translator.tile) // multiple) * multiple
    seen = tile + 2 * translator.overlap
    place = np.pad(place, (0, -side % multiple), mode="reflect")
    found = windows(len(place), tile=tile, overlap=translator.overlap)
    kept = [at._replace(stop=min(at.stop, side)) for at in found if at.first < side]
    return place, kept, min(seen, len(place))


@functools.partial(jax.jit, static_argnums=0)
def _applied(translator: Translator, variables: PyTree, seen: Array) -> Array:
    if translator.masked:
        seen = masks.punch(seen[..., :-1], seen[..., -1:])
    made = translator.gen.apply(variables, seen, train=False)
    batch, height, width, _ = seen.shape
    scale = translator.scale
    chex.assert_shape(made, (batch, height * scale, width * scale, translator.channels))
    return jnp.clip(jnp.asarray(made, jnp.float32), -1.0, 1.0)
