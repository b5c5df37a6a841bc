"""Weights of classifiers in npz files, each with a JSON record of its training and sha256.

Classifiers are kept in the user's cache, under names that say dataset and image size.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from flax import traverse_util

from jaxgan.data import arrays
from jaxgan.metrics import classifiers, safetensors_file, torch_file
from jaxgan.nets import inception
from jaxgan.types import PyTree, UserError

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


MNIST = (28, 28, 1)  # height, width and channels
NO_LABELS_NEEDED = (
    "score with features that need no labels: --features=autoencoder or --features=random"
    " (--eval_features in training)"
)
MAX_RECORD = 2**20  # characters
MAX_DEPTH = 32  # of modules within modules
UNNAMED = {"arrays", "folder"}  # datasets whose name says nothing of what is in them
_READERS = {".npz": arrays.read_npz, ".safetensors": safetensors_file.read}


def sha256(path: str | os.PathLike) -> str:
    """Returns the digest of a file's content.

    Args:
      path: the file.

    Returns:
      64 hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(path: str | os.PathLike, params: PyTree, record: Mapping[str, object]) -> str:
    """Writes parameters to an npz file, and a record with their digest next to it.

    Args:
      path: `NAME.npz`; its folder is made. The record goes to `NAME.json`.
      params: nested dict of arrays.
      record: what to say about them (dataset, accuracy, ...), as JSON.

    Returns:
      The sha256 of the npz file.

    Raises:
      UserError: nothing can be written there.
    """
    path = pathlib.Path(path)
    flat = traverse_util.flatten_dict(params, sep="/")
    unfinished = path.with_name(f".{os.getpid()}.{path.stem}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(unfinished, allow_pickle=False, **{k: np.asarray(v) for k, v in flat.items()})
        digest = sha256(unfinished)
        unfinished.replace(path)
        text = json.dumps({**record, "sha256": digest}, indent=2)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise _unwritable(path, error) from None
    return digest


def check_writable(path: str | os.PathLike) -> None:
    """Refuses a file that could not be written, before time is spent on what goes into it.

    Args:
      path: the file; its folder is made.

    Raises:
      UserError: the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    probe = path.with_name(f".{os.getpid()}.{path.stem}.probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: pathlib.Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({error.strerror}); name another place with --out")


def load(path: str | os.PathLike) -> tuple[PyTree, dict[str, object]]:
    """Reads parameters that `save` wrote.

    Args:
      path: the npz file.

    Returns:
      The nested dict of arrays, and the record (with `"sha256"` of the file as it is).

    Raises:
      UserError: missing or damaged file, or one that is not what its record says.
    """
    path = pathlib.Path(path)
    flat = arrays.read_npz(path)
    record: dict[str, object] = {"sha256": sha256(path)}
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            with beside.open(encoding="utf-8") as file:
                said = json.loads(file.read(MAX_RECORD))
            expected = said["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"{beside}: not a record of weights; train them again") from None
        if expected != record["sha256"]:
            raise UserError(
                f"{path}: sha256 is {record['sha256']}, but {beside.name} says {expected};"
                " the weights changed, so train them again"
            )
        record = said
    return _nested(flat, path), record


def _nested(flat: Mapping[str, np.ndarray], path: pathlib.Path) -> PyTree:
    """Makes {"a": {"b": array}} of {"a/b": array}."""
    deep = any(name.count("/") > MAX_DEPTH for name in flat)
    layers = [] if deep else [name[:at] for name in flat for at, c in enumerate(name) if c == "/"]
    if deep or not flat.keys().isdisjoint(layers):
        raise UserError(f"{path}: its arrays do not have the names of a network's parameters")
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def load_inception(
    path: str | os.PathLike, *, digest: str | None = None
) -> tuple[PyTree, dict[str, object]]:
    """Reads the weights of the Inception-v3 that the FID is defined by.

    Args:
      path: the usual `pt_inception-2015-12-05-6726825d.pth`, read without running its pickle; or an
        npz or safetensors file with the same names.
      digest: the sha256 that the file must have; empty for any. By default that of the published
        file, and any for npz and safetensors, which nobody has published: those are recognised
        by the names and shapes of their tensors alone, and the record says so.

    Returns:
      Parameters for `features.inception_features`, and a record with `"weights"` and `"sha256"`.

    Raises:
      UserError: there is no such file, or it is another one.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            f"{path}: no Inception weights there; put {INCEPTION_URL} there, or score with the"
            " digit classifier"
        )
    found, reader = sha256(path), _READERS.get(path.suffix, torch_file.read)
    if digest is None:
        digest = "" if path.suffix in _READERS else INCEPTION_SHA256
    if digest and found != digest:
        raise UserError(f"{path}: sha256 is {found}, not {digest}; download {INCEPTION_URL} again")
    try:
        params = inception.convert(reader(path))
    except UserError as error:
        named = str(error).startswith(str(path))
        raise UserError(str(error) if named else f"{path}: {error}") from None
    origin = "inception-2015-12-05" if digest else "inception of unverified origin"
    return params, {"weights": origin, "sha256": found}


def user_cache(name: str) -> pathlib.Path:
    """Says where this project keeps files in the user's cache.

    Args:
      name: of the folder.

    Returns:
      `$XDG_CACHE_HOME/jaxgan/NAME`, by default `~/.cache/jaxgan/NAME`; it need not exist.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jaxgan" / name


def classifier_path(
    dataset: str,
    *,
    image_shape: Sequence[int],
    fingerprint: str = "",
    folder: str | os.PathLike = "",
) -> pathlib.Path:
    """Says where the classifier of a dataset is written.

    Args:
      dataset: the dataset's name.
      image_shape: height, width and channels of its images.
      fingerprint: of the training images; part of the name where the dataset's says nothing, as
        "folder".
      folder: where classifiers are kept; empty for `classifiers` in the user's cache.

    Returns:
      `FOLDER/classifier_mnist_28x28x1.npz`, `FOLDER/classifier_folder_64x64x3_0123456789ab.npz`.
    """
    place = pathlib.Path(folder).expanduser() if folder else user_cache("classifiers")
    parts = ["classifier", dataset.replace("/", "_"), "x".join(map(str, image_shape))]
    if dataset in UNNAMED:
        parts.append(fingerprint[:12])
    return place / f"{'_'.join(parts)}.npz"


def find_classifier(
    dataset: str,
    *,
    image_shape: Sequence[int] = MNIST,
    fingerprint: str = "",
    data_dir: str | os.PathLike = "",
    path: str | os.PathLike = "",
) -> pathlib.Path | None:
    """Looks for the classifier of a dataset.

    Args:
      dataset: the dataset's name.
      image_shape: height, width and channels of the images to compare.
      fingerprint: of the dataset's training images.
      data_dir: where the data lies; classifiers used to be written there.
      path: the npz file, or the folder of classifiers, where not in the user's cache.

    Returns:
      The file; None where there is none for such images.

    Raises:
      UserError: a file in question is damaged.
    """
    given = pathlib.Path(path).expanduser()
    arrays.check_place(given)
    if path and not given.is_dir():
        return given if given.is_file() else None
    options = {"image_shape": image_shape, "fingerprint": fingerprint}
    written = classifier_path(dataset, **options, folder=path)
    if written.is_file():
        return written
    older = [] if path else _older_places(dataset, data_dir)
    found = (file for file in older if file.is_file())
    return next((file for file in found if _fits(load(file)[0], image_shape)), None)


def _older_places(dataset: str, data_dir: str | os.PathLike) -> list[pathlib.Path]:
    """Where classifiers were written before they had their images' size in their names."""
    data = pathlib.Path(data_dir).expanduser()
    named = f"{dataset}_{data.stem}" if dataset in UNNAMED and data_dir else dataset
    folders = [data.parent if data.is_file() else data] if data_dir else []
    return [folder / f"classifier_{named}.npz" for folder in [*folders, user_cache("")]]


def load_classifier(
    dataset: str,
    *,
    image_shape: Sequence[int] = MNIST,
    fingerprint: str = "",
    data_dir: str | os.PathLike = "",
    path: str | os.PathLike = "",
) -> tuple[PyTree, dict[str, object]]:
    """Reads the classifier that `python -m experiments.classifier` trained.

    Args:
      dataset: the dataset's name.
      image_shape: height, width and channels of the images to compare.
      fingerprint: of the dataset's training images.
      data_dir: where the data lies.
      path: the npz file, or the folder of classifiers, where not in the user's cache.

    Returns:
      Parameters for `features.classifier_features`, and their record.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    options = {"image_shape": image_shape, "fingerprint": fingerprint, "data_dir": data_dir}
    file = find_classifier(dataset, path=path, **options)
    if file is None:
        size = "x".join(map(str, image_shape))
        raise UserError(
            f"{path or user_cache('classifiers')}: no classifier of {dataset} at {size}; train it"
            f" with {_training_command(dataset, image_shape, data_dir)}, or {NO_LABELS_NEEDED}"
        )
    params, record = load(file)
    if classifiers.network(params) is None:
        raise UserError(
            f"{file}: holds {', '.join(sorted(params)) or 'nothing'}, not a classifier's weights"
        )
    of = record.get("dataset", dataset)
    if of != dataset and not {of, dataset} & UNNAMED:
        raise UserError(
            f"{file}: is the classifier of {of}, and the images are compared with {dataset}; give"
            f" the one that python -m experiments.classifier --dataset={dataset} trains"
        )
    return params, record


def _training_command(dataset: str, image_shape: Sequence[int], data_dir) -> str:
    height, width, channels = image_shape
    size = f" --image_size={height}" if height == width else ""
    where = f" --data_dir={data_dir}" if data_dir else ""
    command = f"python -m experiments.classifier --dataset={dataset}{where}"
    return command if tuple(image_shape) == MNIST else f"{command}{size} --channels={channels}"


def _fits(params: PyTree, image_shape: Sequence[int]) -> bool:
    return classifiers.network(params) is not None and not classifiers.misfit(params, image_shape)
