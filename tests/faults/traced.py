"""The file operations of a process as the system sees them, by strace: those of libraries too."""

import pathlib
import re
import subprocess
import sys

CALLS = (
    "openat,creat,write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,stat,newfstatat"
)
MARK = "/saved/"  # to ask for a file of this name is to say that a step is saved
_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*)$")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>, ")
_FILE = re.compile(r"\d+<([^>]*)>")


def operations(code: str, folder: pathlib.Path, trace: pathlib.Path) -> list[tuple]:
    """Runs Python code and returns what it did below a folder, as `cuts.Recorder` does.

    Args:
      code: it asks for MARK + "7" when step 7 is saved.
      folder: an empty one; no part of its path may be a link.
      trace: a file to write to.

    Returns:
      The operations, by paths relative to the folder.
    """
    strace = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-e", f"trace={CALLS}", "-o", trace]
    subprocess.run([*strace, sys.executable, "-c", code], check=True)
    found, files, begun = [], {}, {}
    for line in trace.read_text().splitlines():
        thread, text = _LINE.match(line).groups()
        text = begun.pop(thread, "") + text
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
        elif call := _CALL.match(text):
            found.extend(_operation(*call.groups(), folder, files))
    return found


def _operation(name, arguments, result, folder, files):
    """One call as operations; `files` holds what is in each file that was written."""
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
    if "stat" in name and texts and texts[0].startswith(MARK.encode()):
        yield "saved", int(texts[0].removeprefix(MARK.encode()))
    if "stat" in name or result.startswith("-"):
        return
    if name in ("write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync"):
        path = _below(_decoded(_FILE.match(arguments)), folder)
        if path is None:
            return
        if "sync" in name:
            yield "sync", path
            return
        data = files.get(path, b"")
        if name in ("write", "writev"):  # nothing goes back in a file to write over it
            files[path] = data + b"".join(texts)
        elif name == "pwrite64":
            start = int(arguments.rpartition(", ")[2])
            files[path] = data[:start].ljust(start, b"\0") + texts[-1]
        else:
            files[path] = data[: int(arguments.rpartition(", ")[2])]
        yield "write", path, files[path]
        return
    above = _decoded(_FOLDER.match(arguments)) if "at" in name else ""
    paths = [_below(str(pathlib.PurePath(above, text.decode())), folder) for text in texts]
    if not paths or paths[0] is None:
        return
    if name.startswith("mkdir"):
        yield "mkdir", paths[0]
    elif name.startswith("rename"):
        for path in [path for path in files if path.startswith(paths[0])]:
            files[paths[1] + path.removeprefix(paths[0])] = files.pop(path)
        yield "rename", paths[0], paths[1]
    elif name in ("unlink", "unlinkat", "rmdir"):
        files.pop(paths[0], None)
        yield "unlink", paths[0]
    elif name in ("openat", "creat") and ("O_TRUNC" in arguments or "O_CREAT" in arguments):
        if "O_TRUNC" in arguments or paths[0] not in files:
            files[paths[0]] = b""
            yield "write", paths[0], b""


def _decoded(match) -> str:
    """A path that strace shows beside a number."""
    if match is None:
        return ""
    return bytes.fromhex(match[1].replace("\\x", "")).decode() if "\\x" in match[1] else match[1]


def _below(path: str, folder: pathlib.Path) -> str | None:
    pure = pathlib.PurePath(path)
    return pure.relative_to(folder).as_posix() if pure.is_relative_to(folder) else None
