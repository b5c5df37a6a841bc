"""Weights of classifiers in npz files, each with a JSON record that holds its sha256."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxgan.data import arrays
from jaxgan.metrics import safetensors_file, torch_file
from jaxgan.nets import inception
from jaxgan.types import PyTree, UserError

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


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
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(params, sep="/")
    unfinished = path.with_name(f".{os.getpid()}.{path.stem}.npz")
    np.savez(unfinished, allow_pickle=False, **{k: np.asarray(v) for k, v in flat.items()})
    digest = sha256(unfinished)
    unfinished.replace(path)
    text = json.dumps({**record, "sha256": digest}, indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return digest


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
      path: the usual `pt_inception-2015-12-05-6726825d.pth`, whose pickle is not run; or an npz or
        safetensors file with the same names.
      digest: the sha256 that the file must have; empty for any. By default that of the published
        file, and any for npz and safetensors, which nobody has published: these are told apart from
        other networks by their tensors' names and shapes alone, and the record says so.

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


def classifier_path(dataset: str, data_dir: str | os.PathLike) -> pathlib.Path:
    """Says where the classifier of a dataset is kept.

    Args:
      dataset: the dataset's name.
      data_dir: the folder or file of the data, or an empty string.

    Returns:
      The file beside the data if it is there or could be written there; else the one in the
      user's cache.
    """
    data = pathlib.Path(data_dir).expanduser()
    named = f"{dataset}_{data.stem}" if dataset in UNNAMED and data_dir else dataset
    name = f"classifier_{named}.npz"
    beside = (data.parent if data.is_file() else data) / name
    if data_dir and (beside.is_file() or os.access(beside.parent, os.W_OK)):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jaxgan" / name


def load_classifier(
    dataset: str, *, data_dir: str | os.PathLike = "", path: str | os.PathLike = ""
) -> tuple[PyTree, dict[str, object]]:
    """Reads the classifier that `python -m experiments.classifier` trained.

    Args:
      dataset: the dataset's name.
      data_dir: where the data lies.
      path: the npz file, where it is not in its usual place.

    Returns:
      Parameters for `features.digit_features`, and their record.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    file = pathlib.Path(path).expanduser() if path else classifier_path(dataset, data_dir)
    if not file.is_file():
        where = f" --data_dir={data_dir}" if data_dir else ""
        raise UserError(
            f"{file}: no classifier of {dataset}; train it with"
            f" python -m experiments.classifier --dataset={dataset}{where}"
        )
    params, record = load(file)
    if not _is_classifier(params):
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


def _is_classifier(params: PyTree) -> bool:
    """Whether the layers of `features.DigitClassifier` are there, by names and ranks."""
    ranks = {"Conv_0": 4, "Conv_1": 4, "Conv_2": 4, "Dense_0": 2, "Dense_1": 2}
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    return all(np.ndim(flat.get(f"{name}/kernel", 0)) == rank for name, rank in ranks.items())
