"""Power cuts while checkpoints are saved: whatever the disk holds, a saved step is taken up.

`cuts` says what a disk may hold; here the real code makes the operations and reads the results.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import random
import shutil
import subprocess

import pytest

from jaxgan.run import checkpoint, manifest, tidy
from tests.faults import cuts, small, traced
from tests.helpers import runs, tiny

STEPS = range(1, 6)
KEPT = 2  # of them, so that states of the disk are small


def _state(step):
    return small.state(step, step=step)


@functools.cache
def _operations():
    """What happens on the disk while the steps are saved, by two processes."""
    folder = runs.folder() / "run"
    folder.mkdir()
    recorder = cuts.Recorder(folder)
    with recorder.recording():
        for part in (STEPS[:3], STEPS[3:]):
            with checkpoint.manager(folder / "checkpoints", max_to_keep=KEPT) as manager:
                for step in part:
                    checkpoint.save(manager, _state(step))
                    manager.wait_until_finished()
                    recorder.mark("saved", step)
    return recorder.operations


def _digest(folder):
    """A digest of all that is restored from."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    data = [(path.name, path.read_bytes()) for path in files if path.name not in manifest.UNREAD]
    return hashlib.sha256(repr(data).encode()).hexdigest()


def _check(folder, saved, whole, *, every_one):
    """Takes a folder up as a run does; `whole` holds the folders that were restored before."""
    with checkpoint.manager(folder / "checkpoints") as manager:
        step = checkpoint.good_step(manager)
        assert (step or 0) >= saved
        if step is None:
            return
        digest = _digest(manager.directory / str(step))
        if every_one or digest not in whole:
            restored = checkpoint.restore(manager, small.state(0.0), step=step)
            assert tiny.equal(restored, _state(step))
            checkpoint.save(manager, _state(step + 1))
            manager.wait_until_finished()
            assert checkpoint.good_step(manager) == step + 1
            whole.add(digest)
    left = [path.name for path in (folder / "checkpoints").iterdir()]
    assert all(name.isdecimal() for name in left), left


def _cut(operations, count, folder, *, every_one=False):
    """Cuts the power at random moments; returns how many different steps were taken up."""
    seed = random.randrange(10**6)
    moments, whole, failed = random.Random(seed), set(), []
    disk, done, saved = cuts.Disk(), 0, 0
    for end in sorted(moments.randrange(len(operations)) for _ in range(count)):
        for operation in operations[done:end]:
            if operation[0] == "saved":
                saved = operation[1]
            else:
                disk.apply(operation)
        done = end
        disk.after_cut(moments, folder)
        try:
            _check(folder, saved, whole, every_one=every_one)
        except Exception as error:
            failed.append((end, saved, str(error)[:200]))
        shutil.rmtree(folder)
    assert not failed, (seed, len(failed), failed[:3])
    return len(whole)


@pytest.mark.parametrize(
    ("count", "every_one"), [(100, False), pytest.param(200, True, marks=pytest.mark.slow)]
)
def test_every_state_of_the_disk_takes_up_the_step_that_was_reported_saved(
    tmp_path, count, every_one
):
    whole = _cut(_operations(), count, tmp_path / "cut", every_one=every_one)
    assert whole >= len(STEPS) - 1


CODE = """
import os
from jaxgan.run import checkpoint
from tests.faults import small
with checkpoint.manager({folder!r}, max_to_keep=2) as manager:
    for step in range(1, 6):
        checkpoint.save(manager, small.state(step, step=step))
        manager.wait_until_finished()
        os.path.exists({mark!r} + str(step))
"""


@pytest.mark.slow  # several hundred states
def test_the_same_holds_for_all_that_the_system_was_asked_for(tmp_path):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    folder = pathlib.Path(os.path.realpath(tmp_path)) / "run"
    folder.mkdir()
    code = CODE.format(folder=str(folder / "checkpoints"), mark=traced.MARK)
    operations = traced.operations(code, folder, tmp_path / "trace")
    assert [rest[0] for kind, *rest in operations if kind == "saved"] == list(STEPS)
    assert _cut(operations, 200, tmp_path / "cut") >= len(STEPS) - 1


def test_in_a_run_files_come_before_the_name_and_the_name_before_a_removal(tmp_path):
    recorder = cuts.Recorder(tmp_path)
    with recorder.recording():
        small.train(tmp_path / "run", num_steps=5, save_every=1)
    disk, folder, named, removed = cuts.Disk(), "run/checkpoints", [], []
    for operation in recorder.operations:
        kind, path, *rest = operation
        name = pathlib.PurePath(path).name
        if kind == "rename" and name.endswith(".orbax-checkpoint-tmp") and name[0].isdecimal():
            left = [pathlib.PurePath(each).name for each in disk.unsynced(path)]
            # Orbax writes these after the manifest; nothing that is restored depends on them.
            assert set(left) <= {*manifest.UNREAD, name}, left
            named.append(rest[0])
        if kind == "rename" and rest[0].endswith(tidy.REMOVED):
            assert disk.unsynced(named[-1]) == []
            assert folder not in disk.unsynced(folder)
            removed.append(name)
        if kind == "unlink" and tidy.REMOVED in path:
            assert folder not in disk.unsynced(folder) or path.endswith(tidy.REMOVED)
        disk.apply(operation)
    assert named == [f"{folder}/{step}" for step in range(1, 6)] and removed == ["1", "2"]
    assert runs.steps_saved(tmp_path / "run") == [3, 4, 5]


@contextlib.contextmanager
def _mounted(image, place):
    """A file system in a file; skips where none may be mounted."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow  # needs the right to mount
def test_a_real_disk_cut_off_right_after_each_save(tmp_path):
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(bytes(16 * 2**20))
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with _mounted(image, tmp_path / "disk") as disk:
        with checkpoint.manager(disk / "checkpoints") as manager:
            for step in STEPS:
                checkpoint.save(manager, _state(step))
                manager.wait_until_finished()
                shutil.copyfile(image, copy)  # what was not synced is not in it
                with _mounted(copy, tmp_path / "after") as after:
                    _check(after, step, set(), every_one=True)
