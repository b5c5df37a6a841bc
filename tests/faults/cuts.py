"""Power cuts, simulated: what of a sequence of file operations a disk may hold after one.

A file's content is as at its last sync, or any of what was written since: all, none, the
beginning, zeros. The names in a folder are as at its last sync, with any of the changes since, each
for itself.
"""

import contextlib
import os
import pathlib
import random
import threading
from collections.abc import Iterator
from unittest import mock


class Recorder:
    """The file operations below a folder, as seen at each call that syncs, renames or removes.

    Content that libraries write by themselves is seen at the next such call.

    Attributes:
      operations: ("mkdir", path), ("write", path, content), ("rename", path, path), ("unlink",
        path), ("sync", path), and what `mark` added; paths are relative to the folder.
    """

    def __init__(self, folder: pathlib.Path):
        """Starts with what is in the folder, as if it were on the disk."""
        self.folder = folder
        self.operations: list[tuple] = []
        self._seen: dict[str, bytes | None] = {}
        self._lock = threading.RLock()
        self._look()
        self.operations = []

    def mark(self, word: str, value: int) -> None:
        """Adds an event that is none of the disk."""
        with self._lock:
            self._look()
            self.operations.append((word, value))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Sees the operations of the block."""
        with contextlib.ExitStack() as stack:
            for name in ("fsync", "rename", "replace", "unlink", "remove", "rmdir", "mkdir"):
                seen = self._seen_by(name, getattr(os, name))
                stack.enter_context(mock.patch.object(os, name, seen))
            yield

    def _seen_by(self, name, real):
        def seen(path, *args, **options):
            with self._lock:
                there = self._name(path, options.get("dir_fd"))
                if there is None:
                    return real(path, *args, **options)
                if name in ("fsync", "rename", "replace"):
                    self._look()
                if name == "fsync":
                    self.operations.append(("sync", there))
                    return None  # the disk of which this is the record needs no real one
                result = real(path, *args, **options)
                if name in ("rename", "replace"):
                    self._rename(there, self._name(args[0], None))
                elif name == "mkdir":
                    self._seen[there] = None
                    self.operations.append(("mkdir", there))
                elif there in self._seen:
                    del self._seen[there]
                    self.operations.append(("unlink", there))
                return result

        return seen

    def _name(self, path, folder) -> str | None:
        """The path below the folder; None of others."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif folder is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = pathlib.Path(os.path.abspath(path))
        return (
            path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else None
        )

    def _rename(self, old: str, new: str | None) -> None:
        assert new is not None
        self.operations.append(("rename", old, new))
        for name in [name for name in self._seen if name == old or name.startswith(f"{old}/")]:
            self._seen[new + name[len(old) :]] = self._seen.pop(name)

    def _look(self) -> None:
        """Adds what happened since the last look."""
        now = dict(_content(self.folder))
        for name in sorted(self._seen.keys() - now.keys(), reverse=True):
            self.operations.append(("unlink", name))
        for name in sorted(now):
            if name in self._seen and self._seen[name] == now[name]:
                continue
            content = now[name]
            self.operations.append(("mkdir", name) if content is None else ("write", name, content))
        self._seen = now


def _content(folder: pathlib.Path) -> Iterator[tuple[str, bytes | None]]:
    """Everything below a folder: the content of files, None for folders."""
    for parent, folders, names in os.walk(folder):
        for name in folders:
            yield os.path.relpath(os.path.join(parent, name), folder), None
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                yield os.path.relpath(path, folder), file.read()


class Node:
    """A file or folder, whatever its name: as on the disk, and what happened since its last sync.

    Attributes:
      data: the file's content; of a folder, its names.
      synced: the same as at the last sync.
      changes: of a folder: (name, node or None where it goes, name it had before or None), oldest
        first.
    """

    def __init__(self, *, folder: bool):
        """Starts empty."""
        self.folder = folder
        self.data = {} if folder else b""
        self.synced = {} if folder else None
        self.changes: list[tuple[str, Node | None, str | None]] = []


class Disk:
    """What a sequence of operations has made of a folder, of which a part is on the disk."""

    def __init__(self):
        """Starts with an empty folder."""
        self.root = Node(folder=True)

    def apply(self, operation: tuple) -> None:
        """Takes one more operation of a `Recorder` into account."""
        kind, path, *rest = operation
        if kind == "sync":
            self._sync(self._find(path))
        elif kind in ("mkdir", "write"):
            parent, name = self._parent(path)
            if name not in parent.data:
                self._change(parent, name, Node(folder=kind == "mkdir"))
            if kind == "write":
                parent.data[name].data = rest[0]
        elif kind == "unlink":
            parent, name = self._parent(path)
            self._change(parent, name, None)
        elif kind == "rename":
            parent, old = self._parent(path)
            other, new = self._parent(rest[0])
            assert parent is other, "between folders nothing is ever renamed"
            self._change(parent, new, parent.data[old], old)

    def unsynced(self, path: str) -> list[str]:
        """Files whose content, and folders whose names, are not all on the disk."""
        node = self._find(path)
        if not node.folder:
            return [] if node.data == node.synced else [path]
        inner = [each for name in node.data for each in self.unsynced(f"{path}/{name}")]
        return [*inner, *([path] if node.changes else [])]

    def after_cut(self, moments: random.Random, folder: pathlib.Path) -> None:
        """Writes what may be found after a power cut."""
        keep = moments.choice([0.0, 0.3, 0.7, 0.95])  # of the changes that are not synced
        self._write(self.root, folder, keep, moments)

    def _sync(self, node: Node) -> None:
        node.synced = dict(node.data) if node.folder else node.data
        node.changes = []

    def _change(self, parent: Node, name: str, node: Node | None, gone: str | None = None) -> None:
        parent.changes.append((name, node, gone))
        _rename(parent.data, name, node, gone)

    def _find(self, path: str) -> Node:
        node = self.root
        for part in pathlib.PurePath(path).parts:
            node = node.data[part]
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        return self._find(parent), name

    def _write(self, node: Node, path: pathlib.Path, keep: float, moments: random.Random) -> None:
        if not node.folder:
            path.write_bytes(_torn(node, keep, moments))
            return
        path.mkdir(exist_ok=True)
        names = dict(node.synced)
        for change in node.changes:
            if moments.random() < keep:
                _rename(names, *change)
        for name, inner in names.items():
            self._write(inner, path / name, keep, moments)


def _rename(names: dict, name: str, node: Node | None, gone: str | None) -> None:
    if gone is not None:
        names.pop(gone, None)
    names.pop(name, None)
    if node is not None:
        names[name] = node


def _torn(node: Node, keep: float, moments: random.Random) -> bytes:
    """The content of a file after a power cut."""
    if node.data == node.synced or moments.random() < keep:
        return node.data
    kind = moments.choice(["none", "before", "torn", "zeros"])
    if kind == "none" or (kind == "before" and node.synced is None):
        return b""
    if kind == "before":
        return node.synced
    whole = moments.randrange(len(node.data) + 1)
    return node.data[:whole] + bytes(len(node.data) - whole if kind == "zeros" else 0)
