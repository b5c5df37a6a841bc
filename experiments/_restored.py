"""How well `experiments.restore` restores: samples beside the truth, decibels, textures, rivals."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import auto as tqdm

from experiments import _pictures, _restoration, _rivals
from jaxgan import images, sample
from jaxgan.data import degrade, resize
from jaxgan.metrics import restoration, retrieval
from jaxgan.run.experiment import Score
from jaxgan.sample import Translator
from jaxgan.types import Key, PyTree, UserError

SHOWN = 128  # pixels a side at most of what samples show of a picture
Entries = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a generator makes of held-out pictures.

    Attributes:
      config: the flags of the run.
      translator: how its generator is applied.
      held: opens the pictures.
      whole: restores them as they are; else a part of one size of each.
    """

    config: Any
    translator: Translator
    held: Callable[[], _pictures.Held]
    whole: bool = False

    def __call__(self, variables: PyTree, key: Key, num: int) -> Entries:
        """Restores pictures, one after the other.

        Args:
          variables: of the generator.
          key: of the degradation; consumed.
          num: pictures at most.

        Returns:
          "source" as G sees it, "image" it makes of it and the "truth", uint8 [N, H, W, C] each; of
          pictures of several sizes [N] objects.
        """
        held = self.held()
        found: dict[str, list[np.ndarray]] = {"source": [], "image": [], "truth": []}
        num = min(num, len(held.truth))
        # A bar on a terminal, of whole pictures alone, which take their time.
        for number in tqdm.trange(num, disable=None if self.whole else True, desc="pictures"):
            source, truth = self._example(held, number, jax.random.fold_in(key, number))
            made = restore(self.translator, variables, source)
            found["source"].append(source)
            found["image"].append(images.to_uint8(made))
            found["truth"].append(truth)
        return {name: _stacked(each) for name, each in found.items()}

    def _example(self, held: _pictures.Held, number: int, key: Key) -> tuple[Any, np.ndarray]:
        """What G sees of a picture, float [h, w, c], and the picture, uint8 [H, W, C]."""
        truth = self._truth(held.truth[number])
        source = None if held.source is None else np.asarray(images.from_uint8(held.source[number]))
        if not self.whole:
            side = min(SHOWN, *(min(x.shape[:2]) for x in held.truth))
            truth = _middle(truth, side - side % self.translator.scale)
            source = None if source is None else _middle(source, side)
        if source is None:
            degraded = _restoration.TASKS[self.config.task].degrade(self.config)
            source = np.asarray(degraded(key, images.from_uint8(truth[None]))[0])
        return source, truth

    def _truth(self, picture: np.ndarray) -> np.ndarray:
        """A picture in the channels that G makes, its sides multiples of the scale."""
        scale = self.translator.scale
        height, width = (side - side % scale for side in picture.shape[:2])
        picture = picture[:height, :width]
        channels = self.translator.channels
        if picture.shape[-1] < channels:
            return np.repeat(picture, channels, -1)
        if picture.shape[-1] == channels:
            return picture
        if self.config.task == "superres":
            y = _luminance(picture)
            return y if y.dtype == np.uint8 else images.to_uint8(y)
        return images.to_uint8(degrade.grey(images.from_uint8(picture[None])))[0]


def restore(translator: Translator, variables: PyTree, source: np.ndarray) -> np.ndarray:
    """Applies a generator to what it sees of one picture.

    Args:
      translator: how it is applied.
      variables: of the generator.
      source: [h, w, c] float, the mask in the last channel where it sees one.

    Returns:
      [H, W, C] float in [-1, 1].
    """
    if not translator.masked:
        return sample.translate(translator, variables, source)
    return sample.translate(translator, variables, source[..., :-1], mask=source[..., -1:])


def show(entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lays out input, output and truth side by side, several pictures in a row.

    Args:
      entries: "image", and what there is of "source" and "truth"; [N, H, W, C] each.

    Returns:
      [h, w, C] uint8.
    """
    names = [name for name in ("source", "image", "truth") if name in entries]
    size, columns = entries["image"].shape[1:], len(names)
    each = np.stack([images.alike(entries[name], size) for name in names], axis=1)
    rows = each.reshape(-1, *size)
    across = max(1, round((len(each) / columns) ** 0.5))
    return images.grid(rows, columns=columns * across)


def score(
    config: Any,
    translator: Translator,
    held: Callable[[], _pictures.Held],
    *,
    num: int,
    what: str = "held-out pictures",
    rivals: Sequence[str] = (),
) -> Score:
    """Makes the measure of a run: of each picture PSNR and SSIM, of all of them their texture.

    Args:
      config: the flags of the run.
      translator: how its generator is applied.
      held: opens the pictures.
      num: of them at most.
      what: they are called.
      rivals: other methods measured beside; see `_rivals`.

    Returns:
      The measure: "psnr", "ssim" and "texture" of the outputs; "input_psnr", ... of the inputs
      themselves, enlarged bicubically where they are smaller, and those of each rival; of pairs of
      one size also "small_top1" and "small_top5", how often an output is nearest to its own truth
      of all, by pixels averaged to 16 a side: what translators without pairs are measured by;
      "halves_texture", the floor of the texture: between two halves of the truth.
    """
    methods = {name: _rivals.method(name, config) for name in rivals}

    def measure(entries: Mapping[str, np.ndarray]) -> dict[str, float]:
        truth, source = list(entries["truth"]), list(entries["source"])
        found = _numbers(config, list(entries["image"]), truth)
        plain = [_copied(x, y.shape) for x, y in zip(source, truth, strict=True)]
        found |= {f"input_{k}": v for k, v in _numbers(config, plain, truth).items()}
        for name, method in methods.items():
            pairs = tqdm.tqdm(list(zip(source, truth, strict=True)), disable=None, desc=name)
            made = [method(x, y.shape) for x, y in pairs]
            found |= {f"{name}_{k}": v for k, v in _numbers(config, made, truth).items()}
        if len(truth) > 1:
            found["halves_texture"] = _texture(truth[::2], truth[1::2])
        return found

    def of(data_dir: str, rivals: Sequence[str], noise: str) -> Score:
        tested = config
        if noise:
            if config.task not in _restoration.NOISE or config.photons:
                kind = " --photons" if config.photons else ""
                raise UserError(f"--noise={noise}: --task={config.task}{kind} adds none")
            tested = dataclasses.replace(config, noise=noise)
        options = {"num": num, "what": what, "rivals": rivals}
        if not data_dir:
            return score(tested, translator, held, **options)
        opened = functools.partial(_pictures.folder, config, data_dir)
        return score(tested, translator, opened, **{**options, "num": 10**9, "what": data_dir})

    return Score(
        protocol=f"{config.task} of {what}",
        num=num,
        measure=measure,
        floor={},
        best="psnr",
        draw=Restored(config, translator, held, whole=True),
        of=of,
    )


def _numbers(
    config: Any, made: Sequence[np.ndarray], truth: Sequence[np.ndarray]
) -> dict[str, float]:
    border = config.scale if config.task == "superres" else 0
    if config.task == "superres":
        made, truth = ([_luminance(x) for x in each] for each in (made, truth))
    each = list(zip(made, truth, strict=True))
    found = {
        "psnr": float(np.mean([restoration.psnr(x, y, border=border) for x, y in each])),
        "ssim": float(np.mean([restoration.ssim(x, y, border=border) for x, y in each])),
        "texture": _texture(truth, made),
    }
    if config.task == "pairs" and len({x.shape for x in truth}) == 1:
        near = retrieval.accuracy(*(retrieval.thumbnails(np.stack(x)) for x in (made, truth)))
        found |= {f"small_{name}": share for name, share in near.items()}
    return found


def _texture(truth: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> float:
    return restoration.texture_distance(jax.random.key(0), truth, made)["mean"]


def _luminance(picture: np.ndarray) -> np.ndarray:
    """Y of a picture in colour; of one that is grey, whatever its channels, the grey."""
    grey = picture[..., :1]
    return grey if (picture == grey).all() else restoration.luminance(picture)


def _copied(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The input as an image of the truth's shape, uint8."""
    image = source[..., : shape[-1]]
    if image.shape[:2] != shape[:2]:
        image = np.asarray(resize.bicubic(image[None], shape[:2]))[0]
    return np.broadcast_to(images.to_uint8(image), shape)


def _middle(x: np.ndarray, side: int) -> np.ndarray:
    top, left = ((n - side) // 2 for n in x.shape[:2])
    return x[top : top + side, left : left + side]


def _stacked(each: list[np.ndarray]) -> np.ndarray:
    """Arrays of one shape as one, of several as objects."""
    if len({x.shape for x in each}) == 1:
        return np.stack(each)
    found = np.empty(len(each), object)
    found[:] = each
    return found
