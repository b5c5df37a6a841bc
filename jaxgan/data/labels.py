"""Labels of a folder of images: from its class folders, or from a file beside the images."""

import csv
import io
import json
import os
import pathlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxgan import types
from jaxgan.data import arrays
from jaxgan.types import UserError

FILES = ("dataset.json", "labels.csv", "metadata.csv")
# Of such a file; ImageNet's is a fifth of it.
MAX_BYTES = 2**28
# What a column may be called, in any case.
PATH_COLUMNS = ("file_name", "filename", "file name", "file", "path", "image", "name")
LABEL_COLUMNS = ("label", "labels", "class", "class_name")
# Folders of these names are no classes when there are class folders inside them.
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


class Labels(NamedTuple):
    """The labels of a folder's images, in the order of its paths."""

    label: np.ndarray | None  # int32 [N]; None without labels
    num_classes: int
    class_names: tuple[str, ...]  # by label; empty where a file gives numbers
    file: str = ""  # where they were read, for messages; empty for class folders


NONE = Labels(None, 0, ())


def find(root: pathlib.Path, paths: Sequence[str], *, split: str = "") -> Labels:
    """Finds the labels of a folder of images.

    They are those of the one file among `FILES` in the folder, or, where `root` is one split, in
    the folder above it, with paths that begin with the split's name. Without such a file the
    folders directly in `root` are the classes, whatever is nested in them; images in `root` itself
    have no labels.

    Args:
      root: the folder.
      paths: of its images, below `root`, with "/" between parts.
      split: the split's name if `root` is one split of the folder above.

    Returns:
      The labels.

    Raises:
      UserError: images beside class folders, several files of labels, or one that is damaged or
        does not fit the images.
    """
    places = {root: ""} | ({root.parent: f"{split}/"} if split else {})
    for place, prefix in places.items():
        file = _file(place)
        labels = read(file, paths, prefix=prefix) if file else None
        if labels is not None:
            return labels
    return from_folders(root, paths)


def _file(folder: pathlib.Path) -> pathlib.Path | None:
    found = [folder / name for name in FILES if os.path.isfile(folder / name)]
    if len(found) > 1:
        raise UserError(
            f"{folder}: holds {' and '.join(file.name for file in found)}; keep one file of labels"
        )
    return found[0] if found else None


def from_folders(root: pathlib.Path, paths: Sequence[str]) -> Labels:
    """Takes the first folder of each path for the class; deeper folders belong to it.

    Args:
      root: the folder, for messages.
      paths: of its images, below `root`.

    Returns:
      The labels, the classes in the order of their names; none if the images lie in `root` itself.

    Raises:
      UserError: images beside class folders, or folders that look like splits.
    """
    inside = [path for path in paths if "/" in path]
    if not inside:
        return NONE
    if len(inside) < len(paths):
        beside = next(path for path in paths if "/" not in path)
        raise UserError(
            f"{root}: {beside} is beside the class folders; move it into one of them or away"
        )
    classes = sorted({path.split("/")[0] for path in paths})
    nested = next((path for path in paths if path.count("/") > 1), "")
    if nested and set(classes) <= SPLIT_NAMES:
        raise UserError(
            f"{root}: its folders ({', '.join(classes)}) look like splits, which must be called"
            f" train and test; rename them, or give {root / classes[0]} as --data_dir"
        )
    if nested:
        logging.warning(
            "%s: folders are nested; the class of an image is its first folder: %s is of class %s",
            *(root, nested, nested.split("/")[0]),
        )
    if len(classes) == 1:
        logging.warning("%s: 1 class found (%s)", root, classes[0])
    number = {name: i for i, name in enumerate(classes)}
    label = np.array([number[path.split("/")[0]] for path in paths], np.int32)
    return Labels(label, len(classes), _printable(classes))


def _printable(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(types.one_line(name, limit=80) for name in names)


def read(file: pathlib.Path, paths: Sequence[str], *, prefix: str = "") -> Labels | None:
    """Reads a file of labels, checking every entry.

    Args:
      file: StyleGAN's `dataset.json`, `{"labels": [["a/b.png", 3], ...]}` or `{"labels": null}`
        for none; or a CSV file with a header and the columns file_name and label, where labels are
        class names or integers.
      paths: of all images, below the folder.
      prefix: of the paths in the file; entries without it are those of another split.

    Returns:
      The labels; None if it is a `metadata.csv` about something else.

    Raises:
      UserError: it cannot be read, lists an unknown file, leaves one out or lists it twice, or has
        a label that is neither an integer in its range nor, in a CSV file, a name.
    """
    pairs = (_from_json if file.suffix == ".json" else _from_csv)(file)
    if pairs is None:
        return NONE if file.suffix == ".json" else None
    table = _match(file, pairs, paths, prefix)
    if any(isinstance(label, int) for label in table.values()):
        return _numbered(file, table, paths)
    classes = sorted({str(label) for label in table.values()})
    number = {name: i for i, name in enumerate(classes)}
    label = np.array([number[str(table[path])] for path in paths], np.int32)
    return Labels(label, len(classes), _printable(classes), file.name)


def _numbered(file: pathlib.Path, table: Mapping[str, int | str], paths: Sequence[str]) -> Labels:
    # A stray value would otherwise become the size of an embedding table.
    limit = min(arrays.MAX_CLASSES, max(2, len(paths)))
    for path in paths:
        label = table[path]
        if not isinstance(label, int):
            raise UserError(f"{_entry(file, label, path)} is no integer, as others are")
        if not 0 <= label < limit:
            raise UserError(
                f"{_entry(file, label, path)} is outside 0..{limit - 1}, the range for"
                f" {len(paths)} images"
            )
    label = np.array([table[path] for path in paths], np.int32)
    return Labels(label, int(label.max()) + 1, (), file.name)


def _entry(file: pathlib.Path, label: object, path: str) -> str:
    return f"{file}: label {types.one_line(label, limit=60)} of {types.one_line(path, limit=100)}"


def _match(
    file: pathlib.Path, pairs: Sequence[tuple[str, int | str]], paths: Sequence[str], prefix: str
) -> dict[str, int | str]:
    """Compares what a file lists with the images that there are."""
    known, table, unknown = set(paths), {}, []
    for listed, label in pairs:
        path = posixpath.normpath(listed)
        if not path.startswith(prefix):
            continue
        path = path[len(prefix) :]
        if path in table:
            raise UserError(f"{file}: lists {types.one_line(listed, limit=100)} twice")
        table[path] = label
        if path not in known:
            unknown.append(listed)
    if unknown:
        raise UserError(
            f"{file}: lists {types.one_line(unknown[0], limit=100)}, which is no image in the"
            f" folder ({len(unknown)} such entries)"
        )
    if missing := [path for path in paths if path not in table]:
        raise UserError(
            f"{file}: has no label for {types.one_line(missing[0], limit=100)}"
            f" ({len(missing)} of {len(paths)} images); add it, or move the image away"
        )
    return table


def _from_json(file: pathlib.Path) -> list[tuple[str, int]] | None:
    """What StyleGAN's dataset tool writes."""
    try:
        content = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        reason = types.one_line(error, limit=100)
        raise UserError(f"{file}: is not JSON, or damaged ({reason})") from None
    if not isinstance(content, dict) or "labels" not in content:
        raise UserError(f'{file}: has no "labels"; need {{"labels": [["a.png", 0], ...]}}')
    entries = content["labels"]
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise UserError(f'{file}: "labels" is no list; need [["a.png", 0], ...]')
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            found = types.one_line(entry, limit=100)
            raise UserError(f'{file}: {found} is no pair of a file and a label, as ["a.png", 0]')
        if type(entry[1]) is not int:
            raise UserError(f"{_entry(file, entry[1], entry[0])} is not an integer")
    return [(path, label) for path, label in entries]


def _from_csv(file: pathlib.Path) -> list[tuple[str, int | str]] | None:
    """Rows of a file name and a label; None for a metadata.csv without these columns."""
    try:
        rows = list(csv.reader(io.StringIO(_text(file), newline=""), strict=True))
    except csv.Error as error:
        reason = types.one_line(error, limit=100)
        raise UserError(f"{file}: is not CSV, or damaged ({reason})") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    at = [
        next((i for i, name in enumerate(header) if name in columns), None)
        for columns in (PATH_COLUMNS, LABEL_COLUMNS)
    ]
    if None in at:
        found = types.one_line(", ".join(header), limit=100)
        text = f"{file}: has the columns ({found}) where file_name and label are needed"
        if file.name != "metadata.csv":
            raise UserError(text)
        logging.warning("%s; no labels are read from it", text)
        return None
    return [_row(file, row, at[0], at[1]) for row in rows[1:] if row]


def _row(file: pathlib.Path, row: list[str], path_at, label_at) -> tuple[str, int | str]:
    if len(row) <= max(path_at, label_at) or not row[label_at].strip():
        raise UserError(f"{file}: the row of {types.one_line(row[0], limit=100)} has no label")
    text = row[label_at].strip()
    is_number = re.fullmatch(r"[+-]?[0-9]{1,18}", text)
    return row[path_at].strip(), int(text) if is_number else text


def _text(file: pathlib.Path) -> str:
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{file}: is larger than {MAX_BYTES >> 20} MiB, too large for labels")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not text in UTF-8") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
