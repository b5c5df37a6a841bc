"""Datasets that TensorFlow Datasets prepares without TensorFlow, by builders of our own.

They check the official files against TFDS's registered checksums, and find them without a network
in `<data_dir>/downloads/manual/`.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data import cifar, idx


class Own(NamedTuple):
    """A dataset of images in ten classes.

    Attributes:
      url: folder that TFDS itself fetches the files from: its registered checksums belong to it.
      files: of each split, by what is in them.
      shape: of an image.
      read: split and paths, as `files` has them -> images [N, H, W, C] and labels [N].
      version: of what is prepared.
    """

    url: str
    files: Mapping[str, Mapping[str, str]]
    shape: tuple[int, int, int]
    read: Callable[..., tuple[np.ndarray, np.ndarray]]
    version: str


def _read_idx(split: str, *, image: Any, label: Any) -> tuple[np.ndarray, np.ndarray]:
    del split
    return idx.read_idx(image, ndim=3)[..., None], idx.read_idx(label, ndim=1)


def _read_cifar(split: str, *, archive: Any) -> tuple[np.ndarray, np.ndarray]:
    found = cifar.load(cifar.Place(pathlib.Path(archive), cifar.BINARY), split=split)
    return found.arrays["image"], found.arrays["label"]


def _mnist(url: str) -> Own:
    files = {
        split: {key: f"{prefix}-{part}.gz" for key, part in idx.PARTS.items()}
        for split, prefix in idx.PREFIXES.items()
    }
    return Own(url, files, (28, 28, 1), _read_idx, "3.0.1")


OWN = {
    "mnist": _mnist("https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion_mnist": _mnist("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
    "kmnist": _mnist("http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    cifar.NAME: Own(
        "https://www.cs.toronto.edu/~kriz/",
        {split: {"archive": cifar.BINARY.archive} for split in cifar.BINARY.files},
        (32, 32, 3),
        _read_cifar,
        "3.0.2",
    ),
}


def files(name: str) -> list[str]:
    """Names the files that a dataset is prepared from.

    Args:
      name: of the dataset.

    Returns:
      Each once.
    """
    return list(dict.fromkeys(file for part in OWN[name].files.values() for file in part.values()))


def make(name: str, root: str | None) -> Any:
    """Makes the builder of a dataset.

    Args:
      name: one of `OWN`.
      root: TFDS's folder of prepared datasets; None for its default.

    Returns:
      The TFDS builder, of images and labels in plain tensors.
    """
    import tensorflow_datasets as tfds

    own = OWN[name]

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Images in ten classes, stored as plain tensors."""

        VERSION = tfds.core.Version(own.version)
        # A configuration of its own keeps it apart from what the stock builder has prepared.
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="uint8", description="Plain tensors.")]

        def _info(self):
            image = tfds.features.Tensor(shape=own.shape, dtype=np.uint8)
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10)}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            paths: Any = dl_manager.download(
                {
                    split: {key: own.url + file for key, file in part.items()}
                    for split, part in own.files.items()
                }
            )
            return {split: self._generate_examples(split, found) for split, found in paths.items()}

        def _generate_examples(self, split, found) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, (image, label) in enumerate(zip(*own.read(split, **found), strict=True)):
                yield i, {"image": image, "label": int(label)}

    Builder.name = name
    return Builder(data_dir=root, file_format="array_record")


def are_there(name: str, downloads: pathlib.Path) -> bool:
    """Says whether nothing must be fetched.

    Args:
      name: of the dataset.
      downloads: TFDS's folder of downloads.

    Returns:
      Whether each file lies where a person puts it, or where TFDS keeps what it has fetched.
    """
    from tensorflow_datasets.core.download import checksums, resource

    infos, url = checksums.get_all_url_infos(), OWN[name].url

    def is_there(file: str) -> bool:
        cached = resource.get_dl_fname(url + file, infos[url + file].checksum)
        places = (downloads / "manual" / file, downloads / name / cached, downloads / cached)
        return any(path.exists() for path in places)

    return all(map(is_there, files(name)))
