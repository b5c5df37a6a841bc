"""Pairs of pictures, for learning to make one of the other."""

import concurrent.futures
import functools
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxgan.data import arrays, folder, pixels, reader
from jaxgan.types import UserError

HALVES = ("left", "right")


class Pair(NamedTuple):
    """The two files of a pair, by their whole paths: one and the same where both are halves of it.

    Attributes:
      source: what is given.
      image: what is to be made of it.
    """

    source: str
    image: str


def load(
    data_dir: str | os.PathLike,
    *,
    source: str | os.PathLike,
    split: str = "train",
    image_size: pixels.Size = 0,
    channels: int = 0,
    source_channels: int = 0,
    max_bad_records: int = -1,
) -> "arrays.ArraySource | PairSource":
    """Opens a folder of images together with the source of each.

    Both pictures of a pair have one size. Pairs with an unreadable file are skipped with a warning.

    Args:
      data_dir: the folder of the images; if its only folders are `train` and `test`, these are the
        splits.
      source: where their sources are. "left" or "right": each file holds both pictures side by
        side, and this half is the source (the layout of "Image-to-Image Translation with
        Conditional Adversarial Networks" by Isola et al., https://arxiv.org/abs/1611.07004). A
        suffix, ".png": `x.png` is the source of `x.jpg` beside it. Else another folder, in which
        the source of `y/x.jpg` is `y/x.png`, or of any other suffix.
      split: "train" or "test"; folders without splits are all "train".
      image_size: side in pixels, or (height, width), that both are cropped and resized to; 0 if
        all are of one size, which they then keep.
      channels: of the images, 1 or 3; 0 for 1 if all are grey and 3 otherwise.
      source_channels: the same of the sources.
      max_bad_records: unreadable files skipped before it is an error; -1 for 10 or 0.1 % of all,
        whichever is more.

    Returns:
      A source with entries "image" and "source", uint8 [B, H, W, C] each.

    Raises:
      MissingSplit: no test split.
      UserError: no such folder, no images, one without its partner or of another size than it,
        several sizes and no `image_size`, or too many unreadable files.
    """
    for number in (channels, source_channels):
        pixels.check_image_options(image_size, number)
    root = folder.split_root(pathlib.Path(os.path.expanduser(data_dir)), split)
    half = str(source) if source in HALVES else ""
    if half:
        pairs = [Pair(path, path) for path in _scan(root).values()]
    elif str(source)[:1] == "." and str(source)[1:].isalnum():
        pairs = _by_suffix(root, str(source).lower())
    else:
        other = folder.split_root(pathlib.Path(os.path.expanduser(source)), split)
        pairs = _by_stem(other, root)
    shape, source_shape = _shapes(root, pairs, half, image_size, (channels, source_channels))
    found = PairSource(
        str(root),
        pairs,
        image_shape=shape,
        source_channels=source_shape[-1],
        half=half,
        resized=bool(image_size),
        max_bad_records=max_bad_records,
    )
    size = len(pairs) * int(np.prod(shape) + np.prod(source_shape))
    if len(pairs) <= folder.MEMORY_FILES and size <= folder.MEMORY_BYTES:
        return found.in_memory()
    return found


class PairSource:
    """A dataset of pairs of image files, each decoded when it is asked for."""

    num_classes = 0

    def __init__(
        self,
        name: str,
        pairs: list[Pair],
        *,
        image_shape: tuple[int, int, int],
        source_channels: int,
        half: str = "",
        resized: bool = False,
        max_bad_records: int = -1,
    ):
        """Keeps the list of files; reads none.

        Args:
          name: what the dataset is called in messages.
          pairs: its files.
          image_shape: height, width and channels of the images.
          source_channels: of the sources, whose height and width are the same.
          half: "left" or "right" where the source is that half of each file, else empty.
          resized: crops and resizes to this shape; where not, they must have it already.
          max_bad_records: see `load`.
        """
        self.name, self.pairs, self.half, self.resized = name, pairs, half, resized
        self.image_shape, self.source_channels = image_shape, source_channels
        self.reader = reader.Reader(
            pathlib.Path(name), len(_files(pairs)), max_bad_records=max_bad_records
        )

    @property
    def fingerprint(self) -> str:
        """Digest of the files' names and sizes."""
        digest = hashlib.blake2b(self.half.encode(), digest_size=8)
        for path in _files(self.pairs):
            size = os.path.getsize(path) if os.path.exists(path) else -1
            digest.update(f"{os.path.basename(path)}\0{size}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        if np.ndim(index):
            examples = [self[i] for i in np.asarray(index)]
            return {key: np.stack([x[key] for x in examples]) for key in examples[0]}
        # For an unreadable pair the next readable one is used: the same in every process and epoch.
        for number in range(len(self)):
            found = self._read((int(index) + number) % len(self))
            if found is not None:
                return found
        raise self._nothing()

    def in_memory(self) -> arrays.ArraySource:
        """Decodes every file, leaving out pairs with an unreadable one.

        Returns:
          The same dataset as arrays.

        Raises:
          UserError: too many unreadable files.
        """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = [x for x in pool.map(self._read, range(len(self))) if x is not None]
        if not found:
            raise self._nothing()
        both = {key: np.stack([x[key] for x in found]) for key in ("image", "source")}
        return arrays.ArraySource(both, name=self.name)

    def _read(self, index: int) -> dict[str, np.ndarray] | None:
        """Decodes one pair; None for one that cannot be read."""
        pair = self.pairs[index]
        source, image = self._read_halves(pair.image) if self.half else self._read_files(pair)
        if source is None or image is None:
            return None
        if image.shape != self.image_shape:
            raise UserError(
                f"{pair.image}: is {list(image.shape)} where others are {list(self.image_shape)};"
                " set image_size"
            )
        return {"image": image, "source": source}

    def _read_files(self, pair: Pair) -> list[np.ndarray | None]:
        _check_sizes(pair, *map(pixels.header, pair))
        read = functools.partial(self.reader.read, image_size=self._size)
        return [read(path, channels=c) for path, c in zip(pair, self._channels, strict=True)]

    def _read_halves(self, path: str) -> list[np.ndarray | None]:
        whole = self.reader.read(path, channels=max(self._channels))
        if whole is None:
            return [None, None]
        left, right = _halves(whole, path)
        halves = (left, right) if self.half == "left" else (right, left)
        conform = functools.partial(pixels.conform, image_size=self._size)
        return [
            conform(x[None], channels=c)[0] for x, c in zip(halves, self._channels, strict=True)
        ]

    @property
    def _size(self) -> pixels.Size:
        """That files are resized to; 0 for as they are."""
        return self.image_shape[:2] if self.resized else 0

    @property
    def _channels(self) -> tuple[int, int]:
        """Of a source and of an image."""
        return self.source_channels, self.image_shape[-1]

    def _nothing(self) -> UserError:
        return UserError(f"{self.name}: not one pair of which both files can be read; replace them")


def _scan(root: pathlib.Path) -> dict[str, str]:
    """The files of a folder by their path below it."""
    return {path: str(root / path) for path in folder.scan(root)}


def _files(pairs: list[Pair]) -> list[str]:
    """Every file once."""
    return list(dict.fromkeys(path for pair in pairs for path in pair))


def _by_stem(source_root: pathlib.Path, image_root: pathlib.Path) -> list[Pair]:
    """Matches the files of two folders."""
    sources, images = (_stems(root, _scan(root)) for root in (source_root, image_root))
    for own, other, root in ((images, sources, source_root), (sources, images, image_root)):
        _check_partners(
            own,
            other,
            f"in {root}",
            f"; {image_root} holds {len(images)} pictures and {source_root} {len(sources)}",
        )
    return [Pair(sources[stem], images[stem]) for stem in images]


def _by_suffix(root: pathlib.Path, suffix: str) -> list[Pair]:
    """Matches the files of one folder: those of the suffix with all others."""
    files = _scan(root)
    chosen = {path: files[path] for path in files if path.lower().endswith(suffix)}
    rest = {path: files[path] for path in files if path not in chosen}
    sources, images = _stems(root, chosen), _stems(root, rest)
    _check_partners(images, sources, f"with suffix {suffix} beside it", "")
    _check_partners(sources, images, "with another suffix beside it", "")
    return [Pair(sources[stem], images[stem]) for stem in images]


def _stems(root: pathlib.Path, files: dict[str, str]) -> dict[str, str]:
    """Files by their path below the root without the suffix."""
    found: dict[str, str] = {}
    for path, file in files.items():
        stem = os.path.splitext(path)[0]
        if stem in found:
            raise UserError(
                f"{root}: {os.path.basename(found[stem])} and {path} have one name, so that either"
                " may be meant; remove one"
            )
        found[stem] = file
    return found


def _check_partners(own: dict[str, str], other: dict[str, str], where: str, counts: str) -> None:
    """Refuses files without a partner."""
    alone = [file for stem, file in own.items() if stem not in other]
    if alone:
        more = f" ({len(alone)} such files)" if len(alone) > 1 else ""
        raise UserError(
            f"{alone[0]}: has no partner of its name {where}{more}{counts}; add what is missing,"
            " or remove the file"
        )


def _shapes(
    root: pathlib.Path,
    pairs: list[Pair],
    half: str,
    image_size: pixels.Size,
    channels: tuple[int, int],
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Shapes of the images and of the sources, from their headers as far as not asked for."""
    paths = [pair.image for pair in pairs]
    headers = folder.sampled_headers(root, paths)
    if half:
        others = headers = {path: _half_header(path, x) for path, x in headers.items()}
    else:
        others = folder.sampled_headers(root, [pair.source for pair in pairs])
        for pair in pairs:
            _check_sizes(pair, others.get(pair.source), headers.get(pair.image))
    image, source = (
        folder.common_shape(str(root), some, image_size, number)
        for some, number in zip((headers, others), channels, strict=True)
    )
    return image, source


def _check_sizes(pair: Pair, source: pixels.Header | None, image: pixels.Header | None) -> None:
    if source and image and source.size != image.size:
        raise UserError(
            f"{pair.source}: is {folder.by(source.size)} (height x width), but {pair.image} is"
            f" {folder.by(image.size)}; make both of one size"
        )


def _half_header(path: str, header: pixels.Header) -> pixels.Header:
    height, width = header.size
    _check_even(path, header.size)
    return header._replace(size=(height, width // 2))


def _halves(whole: np.ndarray, path: str) -> tuple[np.ndarray, np.ndarray]:
    height, width, _ = whole.shape
    _check_even(path, (height, width))
    middle = width // 2
    return whole[:, :middle], whole[:, middle:]


def _check_even(path: str, size: tuple[int, int]) -> None:
    if size[1] % 2:
        raise UserError(
            f"{path}: is {folder.by(size)} (height x width), which has no two equal halves side by"
            " side; cut it to an even width, or remove it"
        )
