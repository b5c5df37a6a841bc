"""Makes run directories that a stranger could hand out: a good manifest over something else.

As a process, to see what it takes: `python -m tests.faults.hostile RUN ...` loads each, prints its
error, and at last the peak of its memory in bytes.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys

import tensorstore as ts

from jaxgan.run import load, manifest
from jaxgan.types import UserError
from tests.helpers import memory

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "run_0_1_mixture"
KERNEL, SHAPE = "params.Dense_1.kernel", [2, 4, 4]  # of the fixture, two seeds


def copied(folder) -> pathlib.Path:
    """A good run at step 8, of a bundled experiment."""
    return pathlib.Path(shutil.copytree(FIXTURE, folder))


def step(run) -> pathlib.Path:
    return run / "checkpoints" / "8"


def sign(run) -> None:
    """Writes the manifest that such files would have."""
    files = {
        path.relative_to(step(run)).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(step(run).rglob("*"))
        if path.is_file() and path.name not in (manifest.NAME, *manifest.UNREAD)
    }
    _write_manifest(run, files)


def _write_manifest(run, files):
    content = {"format": 1, "jaxgan": "0.1.0", "files": files}
    text = json.dumps({**content, "sha256": manifest._digest_of(content)})
    (step(run) / manifest.NAME).write_text(text)


def configured(run, **settings) -> None:
    """Changes the record of the run."""
    path = run / "config.json"
    record = json.loads(path.read_text())
    for name, value in settings.items():
        (record if name in record else record["config"])[name] = value
    path.write_text(json.dumps(record))


def _store(item, **options):
    base = {"driver": "file", "path": f"{item}/"}
    return ts.KvStore.open({"driver": "ocdbt", "base": base, **options}).result()


def stored(run, changes, item="gen_ema") -> None:
    """Changes entries of an item's index; None removes one."""
    store = _store(step(run) / item)
    for key, value in changes.items():
        store.write(key, value).result() if value is not None else store.delete_range(
            ts.KvStore.KeyRange(key, key + "\0")
        ).result()
    sign(run)


def described(run, name=KERNEL, item="gen_ema", **changes) -> None:
    """Changes what an array says of itself; its chunks stay."""
    text = _store(step(run) / item).read(f"{name}/.zarray").result().value
    stored(run, {f"{name}/.zarray": json.dumps({**json.loads(text), **changes})}, item)


def recorded(run, change, item="gen_ema") -> None:
    """Changes an item's `_METADATA`."""
    path = step(run) / item / "_METADATA"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    sign(run)


def zeros(size) -> bytes:
    """A Zstandard frame of so many zeros, in four bytes for each 128 KiB."""
    blocks, rest = divmod(size, 2**17)
    sizes = [2**17] * blocks + [rest]
    headers = [(n << 3 | 1 << 1 | (i == blocks)).to_bytes(3, "little") for i, n in enumerate(sizes)]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(header + b"\0" for header in headers)


def bomb_in_a_chunk(run, name=KERNEL, item="gen_ema", chunk="0.0.0") -> None:
    """Eight gigabytes in 256 KiB."""
    stored(run, {f"{name}/{chunk}": zeros(2**33)}, item)


def bomb_in_a_large_chunk(run) -> None:
    """Record, description and chunk agree: only the network does not."""
    described(run, shape=[2, 2**14, 2**15], chunks=[2, 2**14, 2**15])
    bomb_in_a_chunk(run)


def bomb_in_the_index(run) -> None:
    """Zeros within a node of the index, which could as well unpack to gigabytes."""
    config = {"max_inline_value_bytes": 2**20, "max_decoded_node_bytes": 2**31 - 1}
    item = step(run) / "gen_ema"
    values = {}
    store = _store(item)
    for key in store.list().result():
        values[key] = store.read(key).result().value
    shutil.rmtree(item / "d")
    shutil.rmtree(item / "ocdbt.process_0")
    (item / "manifest.ocdbt").unlink()
    store = _store(item, config=config)
    with ts.Transaction() as transaction:
        inside = store.with_transaction(transaction)
        for key, value in values.items():
            inside[key] = value
        for n in range(64):
            inside[f"zzz/{n:05}"] = bytes(2**20)
    sign(run)


def network_of_a_trillion(run) -> None:
    """The settings ask for it, and the arrays say that they are it."""
    width = 10**9
    configured(run, features=width)
    shapes = {1: [2, 2, width], 2: [2, width, width], 3: [2, width, width], 4: [2, width, 2]}
    for layer, shape in shapes.items():
        name = f"params.Dense_{layer - 1}"
        described(run, f"{name}.kernel", shape=shape, chunks=shape)
        described(run, f"{name}.bias", shape=[2, shape[-1]], chunks=[2, shape[-1]])


def index_leads_elsewhere(run, place="../../../../neighbour/") -> None:
    """The index says that a chunk is in a file beside the run."""
    context, item = ts.Context(), step(run) / "gen_ema"
    memory = {"driver": "memory", "path": "x/"}
    options = {"value_data_prefix": place, "config": {"max_inline_value_bytes": 0}}
    made = ts.KvStore.open({"driver": "ocdbt", "base": memory, **options}, context=context).result()
    store = _store(item)
    for key in store.list().result():
        made.write(key, store.read(key).result().value).result()
    shutil.rmtree(item / "d")
    shutil.rmtree(item / "ocdbt.process_0")
    files = ts.KvStore.open(memory, context=context).result()
    for key in files.list().result():
        path = pathlib.Path(os.path.normpath(item / key.decode()))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(files.read(key).result().value)
    sign(run)


def names_climb(run) -> None:
    """Arrays in files of their own, by names that lead out of the folder."""

    def change(record):
        record["use_ocdbt"] = False
        entry = record["tree_metadata"].popitem()[1]
        keys = [{"key": key, "key_type": 2} for key in ("../../../../neighbour/array", "x")]
        record["tree_metadata"]["climbs"] = {**entry, "key_metadata": keys}

    recorded(run, change)


def manifest_climbs(run) -> None:
    files = json.loads((step(run) / manifest.NAME).read_text())["files"]
    for name in ("../../../neighbour/mine", str(run.parent / "neighbour" / "mine")):
        content = (run.parent / "neighbour" / "mine").read_bytes()
        entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        files[f"gen_ema/{name}"] = files[name] = entry
    _write_manifest(run, files)


def linked(run, name) -> None:
    """A file or folder of the run lies in the neighbour's, where a link leads."""
    path, place = run / name, run.parent / "neighbour" / "moved"
    sign(run)
    path.rename(place)
    path.symlink_to(place)


def special(run, name, kind="pipe") -> None:
    """A file that is none: opening a pipe waits without end, a device has no end."""
    path = run / name
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)


if __name__ == "__main__":
    for place in sys.argv[1:]:
        try:
            load.load(place)
        except UserError as error:
            print(error)
    print(memory.peak())
