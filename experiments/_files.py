"""Which photos `experiments.apply` reads, and where it writes what it makes of each."""

import os
import pathlib
from typing import NamedTuple

from jaxgan.data import folder, photos
from jaxgan.types import UserError


class Job(NamedTuple):
    """A photo to read, its mask if there are masks, and the file to write."""

    name: str
    photo: pathlib.Path
    mask: pathlib.Path | None
    out: pathlib.Path


def jobs(source: str, mask: str, out: str) -> list[Job]:
    """Finds the photos of a file or of a folder and those in it.

    Args:
      source: --input.
      mask: --mask; empty for none.
      out: --out; a folder if the source is one.

    Returns:
      One job for each photo, in the order of their paths; nothing is written yet.

    Raises:
      UserError: what is to be read is not there, or the output would be mixed with it.
    """
    named = {"input": source, "out": out}
    for flag, text in named.items():
        if not text:
            raise UserError(f"--{flag} is empty; name a photo, or a folder of photos")
    found = {flag: pathlib.Path(text).expanduser() for flag, text in named.items()}
    if mask:
        named["mask"], found["mask"] = mask, pathlib.Path(mask).expanduser()
    for flag in set(found) - {"out"}:
        if not found[flag].exists():
            raise UserError(f"--{flag}={named[flag]}: there is no such file or folder")
    whole = found["input"].is_dir()
    if "mask" in found and found["mask"].is_dir() != whole:
        raise UserError(
            f"--mask={mask}: give a {'folder' if whole else 'file'}, as --input={source} is one"
        )
    return _of_folder(named, found) if whole else [_of_file(named, found)]


def _of_file(named: dict[str, str], found: dict[str, pathlib.Path]) -> Job:
    photo, out = found["input"], found["out"]
    if out.is_dir():
        out = out / _written(photo.name, {photo.name})
    if out.suffix.lower() not in photos.SUFFIXES:
        kinds = " ".join(photos.SUFFIXES)
        raise UserError(f"--out={named['out']} is neither a folder nor one of {kinds}")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out={named['out']}: {out.parent} is not a folder that can be written")
    for flag in set(found) - {"out"}:
        if out.exists() and out.samefile(found[flag]):
            raise UserError(f"--out={named['out']} is --{flag} itself; name another file")
    return Job(photo.name, photo, found.get("mask"), out)


def _of_folder(named: dict[str, str], found: dict[str, pathlib.Path]) -> list[Job]:
    root, out, masks = found["input"], found["out"], found.get("mask")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={named['out']} is a file; --input={named['input']} is a folder")
    if not out.exists() and out.suffix.lower() in folder.SUFFIXES:
        raise UserError(f"--out={named['out']} looks like a file; a folder of photos needs one")
    real = {flag: path.resolve() for flag, path in found.items()}
    for one, other in [("out", "input"), ("mask", "input"), ("out", "mask")]:
        if {one, other} <= set(real) and _nested(real[one], real[other]):
            raise UserError(
                f"--{one}={named[one]} and --{other}={named[other]} are one folder or one in the "
                "other; name another folder"
            )
    names = folder.scan(root)
    taken = set(names)
    return [
        Job(
            name,
            root / name,
            _mask_of(masks, name) if masks else None,
            out / _written(name, taken),
        )
        for name in names
    ]


def _written(name: str, taken: set[str]) -> str:
    """The name of what is made of a photo: its own, but for kinds that are not written."""
    path = pathlib.PurePosixPath(name)
    if path.suffix.lower() in photos.SUFFIXES:
        return name
    made = path.with_suffix(".png").as_posix()
    return f"{name}.png" if made in taken else made


def _mask_of(masks: pathlib.Path, name: str) -> pathlib.Path:
    """The mask at the same place, of whatever kind."""
    same = masks / name
    kinds = [same, *(same.with_suffix(kind) for kind in folder.SUFFIXES)]
    return next((path for path in kinds if path.exists()), same)


def _nested(one: pathlib.Path, other: pathlib.Path) -> bool:
    return one == other or one in other.parents or other in one.parents
