"""TensorFlow Datasets read without TensorFlow, and one line for all that can go wrong.

The MNIST family and CIFAR-10 have builders of our own (`builders`), because the stock ones need
TensorFlow to prepare the files. Every other name goes to `tfds.builder`.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import socket
import sys
import threading
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
from absl import logging

from jaxgan import types
from jaxgan.data import arrays, builders, cifar, idx, pixels
from jaxgan.types import UserError

CLASS_NAMES = {**idx.CLASS_NAMES, cifar.NAME: cifar.CLASS_NAMES}
PROBE_URL = "https://storage.googleapis.com/"
PROBE_SECONDS = 3.0
# A set that takes less than this, decoded, is read into memory once.
MEMORY_BYTES = 2**29
# The labels of a set stored in more than this are not counted: whole records must be read for them.
LABEL_BYTES = 2**30


def load(
    name: str,
    *,
    data_dir: str = "",
    split: str = "train",
    image_size: pixels.Size = 0,
    channels: int = 0,
) -> "arrays.ArraySource | TfdsSource":
    """Opens a dataset of TensorFlow Datasets, preparing it first where that was not done yet.

    Args:
      name: as TFDS writes it: "cifar10", "celeb_a", "dataset/config:1.0.0".
      data_dir: TFDS's folder of prepared datasets; "" for its default, `~/tensorflow_datasets`.
      split: as TFDS writes it.
      image_size: side in pixels, or (height, width); 0 if all images are of one size, which they
        then keep.
      channels: 1 or 3; 0 for what the dataset has.

    Returns:
      The source.

    Raises:
      MissingSplit: no such split.
      UserError: unknown name, no images, no network, damaged files.
    """
    folder = prepared(name, os.path.expanduser(data_dir) if data_dir else None)
    source = TfdsSource(folder, split, image_size=image_size, channels=channels)
    if len(source) * int(np.prod(source.image_shape)) > MEMORY_BYTES:
        return source
    return source.in_memory()


class TfdsSource:
    """A prepared dataset whose records are read and decoded when they are asked for."""

    def __init__(self, folder: str, split: str, *, image_size: pixels.Size = 0, channels: int = 0):
        """Opens one split; reads no record.

        Args:
          folder: of one prepared version, as TFDS lays it out.
          split: name of the split.
          image_size: side in pixels, or (height, width); 0 if all images are of one size.
          channels: 1 or 3; 0 for what the dataset has.

        Raises:
          MissingSplit: no such split.
          UserError: no images, or images of several sizes and no `image_size`.
        """
        self._folder, self._split = folder, split
        info = _as_user_error(folder, lambda: _read_only_builder(folder).info)
        self.name = info.full_name
        if split not in info.splits:
            raise arrays.MissingSplit(
                f'{self.name}: has no split "{split}", only {", ".join(sorted(info.splits))}'
            )
        if "image" not in info.features:
            raise UserError(f"{self.name}: has no images, only {', '.join(sorted(info.features))}")
        image = info.features["image"]
        height, width, depth = image.shape
        if image.np_dtype != np.uint8 or depth not in (None, 1, 3):
            raise UserError(
                f"{self.name}: images are {image.np_dtype} {image.shape}, not grey or RGB"
            )
        if not image_size and None in (height, width):
            raise UserError(f"{self.name}: images differ in size; set image_size")
        label = info.features["label"] if "label" in info.features else None
        self.num_classes = getattr(label, "num_classes", None) or 0
        names = CLASS_NAMES.get(info.name) or getattr(label, "names", None) or ()
        self.class_names = tuple(names) if len(names) == self.num_classes else ()
        sizes = [] if None in (height, width) else [(height, width)]
        if image_size:
            height, width = pixels.shape_of(image_size)
        self.image_shape = (height, width, channels or depth or 3)
        form = {"image_size": image_size, "channels": self.image_shape[-1]}
        pixels.log_changes(self.name, sizes, colour=depth == 3, **form)
        self._form = form
        part = info.splits[split]
        content = (self.name, split, part.num_examples, part.num_bytes, list(part.shard_lengths))
        self.fingerprint = hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()
        self._length, self._num_bytes = part.num_examples, part.num_bytes

    @functools.cached_property
    def _records(self) -> Any:
        return _read_only_builder(self._folder).as_data_source(self._split)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """The label of every example, int32 [N]; None without labels, or if long to read."""
        if not self.num_classes or self._num_bytes > LABEL_BYTES:
            return None
        return _as_user_error(self.name, self._read_labels)

    def _read_labels(self) -> np.ndarray:
        import tensorflow_datasets as tfds

        undecoded = {"image": tfds.decode.SkipDecoding()}
        records = _read_only_builder(self._folder).as_data_source(self._split, decoders=undecoded)
        found = []
        for start in range(0, len(self), 1000):
            numbers = list(range(start, min(start + 1000, len(self))))
            found += [record["label"] for record in records.__getitems__(numbers)]
        return np.array(found, np.int32)

    def __getstate__(self):
        # A worker process opens the files anew.
        return {key: value for key, value in self.__dict__.items() if key != "_records"}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        if np.ndim(index):
            numbers = [int(i) for i in index]
            records = _as_user_error(self.name, lambda: self._records.__getitems__(numbers))
            examples = [self._example(record) for record in records]
            return {key: np.stack([x[key] for x in examples]) for key in examples[0]}
        return self._example(_as_user_error(self.name, lambda: self._records[int(index)]))

    def _example(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        image = pixels.conform(np.asarray(record["image"])[None], **self._form)[0]
        if not self.num_classes:
            return {"image": image}
        return {"image": image, "label": np.asarray(record["label"], np.int32)}

    def in_memory(self) -> arrays.ArraySource:
        """Reads every record.

        Returns:
          The same dataset as arrays.

        Raises:
          UserError: a record cannot be read.
        """
        found = self[np.arange(len(self))]
        return arrays.ArraySource(
            found, name=self.name, num_classes=self.num_classes, class_names=self.class_names
        )


@contextlib.contextmanager
def _quiet():
    """Keeps TFDS from warning that what is not prepared yet is not prepared yet."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@_quiet()
def prepared(name: str, root: str | None) -> str:
    """Makes sure that a dataset is there in a form that can be read by number.

    Args:
      name: as TFDS writes it.
      root: TFDS's folder of prepared datasets; None for its default.

    Returns:
      The folder of the prepared version.

    Raises:
      UserError: unknown name, no network, damaged files.
    """
    stock = _as_user_error(name, lambda: _stock_builder(name, root))
    if name not in builders.OWN:
        if not stock.is_prepared():
            _probe(name, PROBE_URL, stock.data_dir)
            _prepare(name, stock)
        return stock.data_dir
    own = _as_user_error(name, lambda: builders.make(name, root))
    if own.is_prepared():
        return own.data_dir
    # Whoever prepared the set with TensorFlow in a format to be indexed has no need of ours.
    if stock.is_prepared() and stock.info.file_format.value in ("array_record", "parquet"):
        return stock.data_dir
    downloads = pathlib.Path(own.data_dir).parents[2] / "downloads"
    if not builders.are_there(name, downloads):
        _probe(name, builders.OWN[name].url, downloads / "manual")
    _prepare(name, own)
    return own.data_dir


def _read_only_builder(folder: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def _stock_builder(name: str, root: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=root, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        from jaxgan.data import registry

        known = [*registry.LOADERS, *tfds.list_builders(with_community_datasets=False)]
        try:
            types.lookup(dict.fromkeys(known), name, "dataset")
        except UserError as error:
            # TFDS knows a thousand names: the nearest says more than the list.
            near = str(error).partition("; ")[2] or "see tensorflow.org/datasets for the others"
            raise UserError(
                f'dataset "{name}" is not one of {", ".join(registry.LOADERS)}, nor known to'
                f" TensorFlow Datasets; {near}"
            ) from None
        raise


def _prepare(name: str, builder: Any) -> None:
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    _as_user_error(name, lambda: builder.download_and_prepare(download_config=config))


def _as_user_error(name: str, action):
    """Runs `action`; whatever it raises becomes one line with a remedy."""
    try:
        return action()
    except UserError:
        raise
    except ImportError as error:
        if "tensorflow" not in str(error):
            raise
        raise UserError(
            f"{name}: TensorFlow Datasets needs TensorFlow to prepare this one; prepare it once"
            " where tensorflow-cpu is installed, in the format array_record, and give that folder"
            " as --data_dir"
        ) from error
    except Exception as error:
        # TFDS raises its own errors, those of requests, and those of every builder it holds.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        wrong_file = "Checksum" in type(error).__name__
        what = f"{type(error).__name__}: {' '.join(lines[: 1 if wrong_file else 4])}"[:600]
        if wrong_file:
            what += " delete that file and fetch it again"
        raise UserError(f"{name}: TensorFlow Datasets cannot provide it ({what})") from error


def _probe(name: str, url: str, place: str | os.PathLike) -> None:
    """Raises unless the host of `url` answers in time, for TFDS would try for minutes."""
    proxy = urllib.request.getproxies().get(urllib.parse.urlsplit(url).scheme)
    parts = urllib.parse.urlsplit(proxy or url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    answered = threading.Event()

    def connect():
        try:
            socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
            answered.set()
        except OSError:
            pass

    # The timeout does not cover the look-up of the name, hence the thread.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if answered.is_set():
        return
    if name in builders.OWN:
        files = ", ".join(builders.files(name))
        raise UserError(
            f"{name}: not found here, and {parts.hostname} cannot be reached; connect to the"
            f" network, or put {files} into {place} or into the folder given as --data_dir"
        )
    raise UserError(
        f"{name}: not found at {place}, and {parts.hostname} cannot be reached; connect to the"
        " network, or give as --data_dir a folder where TensorFlow Datasets has prepared it in the"
        " format array_record"
    )
