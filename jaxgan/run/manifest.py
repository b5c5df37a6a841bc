"""Manifests: the digest of every file of a saved folder, so that damage is detected on reading.

manifest.json holds the format of the checkpoint, the version that wrote it, its run, step and
surroundings, size and sha256 of each file, and the sha256 of all that. It is written when the files
are complete and before the folder is renamed to its final name: a folder never lacks it because a
process was killed.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

from jaxgan import __version__
from jaxgan.run import disk
from jaxgan.types import UserError

NAME = "manifest.json"
FORMAT = 1  # of checkpoints; 0 is that without a manifest
# Written or changed by Orbax later than the manifest; nothing that is restored depends on them.
UNREAD = ("_CHECKPOINT_METADATA", "commit_success.txt")
MAX_FILES = 1_000_000
MAX_METADATA_BYTES = 2**24  # JSON becomes 30 times larger when it is read


class Damaged(ValueError):
    """A saved folder has changed since; the message names the file and the problem."""


def write(folder: str | os.PathLike, **record: Any) -> None:
    """Writes the manifest of a folder whose files are complete.

    Args:
      folder: the saved folder.
      **record: what else it holds, as JSON.

    Raises:
      Damaged: there are links in it, whose targets a manifest does not cover.
    """
    folder = pathlib.Path(folder)
    files = {
        name: {"size": path.stat().st_size, "sha256": _digest(path)}
        for name, path in sorted(_files(folder).items())
    }
    content = {"format": FORMAT, "jaxgan": __version__, **record, "files": files}
    with (folder / NAME).open("w") as file:
        json.dump({**content, "sha256": _digest_of(content)}, file, indent=1)
        file.write("\n")
    disk.sync_file(folder / NAME)
    disk.sync_folder(folder)


def record(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads what a manifest holds beside the files; call it after `verify`.

    Args:
      folder: the saved folder.

    Returns:
      {"format", "jaxgan", and what `write` was given}.

    Raises:
      Damaged: there is none that can be read.
    """
    content = read_json(pathlib.Path(folder) / NAME)
    if not isinstance(content, dict):
        raise Damaged(f"{NAME} is not a manifest")
    return {name: value for name, value in content.items() if name not in ("files", "sha256")}


def verify(folder: str | os.PathLike, *, parts: Collection[str] = ()) -> bool:
    """Checks every file of a folder against its manifest.

    Args:
      folder: the saved folder.
      parts: the folders in it that are checked; all by default.

    Returns:
      True; False where there is no manifest, and only links and sizes could be checked.

    Raises:
      Damaged: a file is missing, added, truncated, changed, or a link.
      UserError: the manifest is undamaged and of a newer version than this one.
    """
    try:
        return _verify(pathlib.Path(folder), parts)
    except OSError as error:
        raise Damaged(f"{error.filename} cannot be read: {error.strerror}") from error


def read_json(path: str | os.PathLike) -> Any:
    """Reads a small JSON file from an untrusted source.

    Args:
      path: the file.

    Returns:
      Its content.

    Raises:
      Damaged: it is too large, not a file, or not JSON.
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise Damaged(f"{path.name} is not a file")
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise Damaged(f"{path.name} is larger than {MAX_METADATA_BYTES // 2**20} MiB")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(f"{path.name} cannot be read as JSON") from error


def _verify(folder: pathlib.Path, parts: Collection[str]) -> bool:
    found = _files(folder)
    if not (folder / NAME).exists():
        return False
    listed = _read(folder / NAME)
    matters = lambda name: not parts or name.partition("/")[0] in parts  # noqa: E731
    listed = {name: entry for name, entry in listed.items() if matters(name)}
    for name, entry in listed.items():
        if name not in found:
            raise Damaged(f"{name} is missing")
        if found[name].stat().st_size != entry["size"]:
            raise Damaged(f"{name} has {found[name].stat().st_size} bytes, not {entry['size']}")
    for name in found:
        # A stray file beside the parts is harmless; within one, Orbax might read it.
        if "/" in name and matters(name) and name not in listed:
            raise Damaged(f"{name} was not saved with it")
    for name, entry in listed.items():
        digest = _digest(found[name])
        if digest != entry["sha256"]:
            raise Damaged(f"{name} has sha256 {digest[:12]}..., not {entry['sha256'][:12]}...")
    return True


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The entries of an undamaged manifest."""
    content = read_json(path)
    try:
        stated = content.pop("sha256")
        if stated != _digest_of(content):
            raise Damaged(f"{path.name} does not have its stated sha256")
        if content["format"] > FORMAT:
            raise UserError(
                f"{path.parent} was written by jaxgan {content['jaxgan']} in checkpoint format "
                f"{content['format']}; this is {__version__}, which reads up to {FORMAT}: update it"
            )
        for entry in content["files"].values():
            if not isinstance(entry["size"], int) or not isinstance(entry["sha256"], str):
                raise TypeError
        return content["files"]
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path.name} is not a manifest") from error


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Files that a manifest lists, by their path in the folder; refuses links and huge files."""
    if folder.is_symlink():
        raise Damaged("it is a link")
    found = {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise Damaged(f"{name} is a link, or not a file")
        if _is_metadata(name) and path.stat().st_size > MAX_METADATA_BYTES:
            raise Damaged(f"{name} is larger than {MAX_METADATA_BYTES // 2**20} MiB")
        if path.name not in (NAME, *UNREAD):
            found[name] = path
        if len(found) > MAX_FILES:
            raise Damaged(f"it holds more than {MAX_FILES} files")
    return found


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files and links below a folder; links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (pathlib.Path(parent, name) for name in [*links, *names])


def _is_metadata(name: str) -> bool:
    """Whether a file is parsed as a whole: arrays are in folders named d."""
    return pathlib.PurePath(name).parent.name != "d"


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(content: Any) -> str:
    """The digest of a manifest's content, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
