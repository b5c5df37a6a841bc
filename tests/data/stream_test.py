"""Reading ahead, in threads and in worker processes, which leave nothing behind."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import PIL.Image
import pytest

from jaxgan.data import folder, pipeline
from jaxgan.types import UserError
from tests.data import pipeline_test


@pytest.fixture
def files(tmp_path):
    """A folder of 12 images, not kept in memory."""
    for i in range(12):
        PIL.Image.new("RGB", (6, 6), (i, 0, 255 - i)).save(tmp_path / f"{i:02}.png")
    return folder.FolderSource(tmp_path, sorted(os.listdir(tmp_path)), image_shape=(6, 6, 3))


def test_decoding_in_threads_keeps_the_order(files):
    pipeline_test.same(
        pipeline_test.take(7, files, workers=0), pipeline_test.take(7, files.in_memory())
    )


def test_decoding_in_processes_keeps_the_order_and_leaves_no_process(files):
    import multiprocessing

    pipeline_test.same(
        pipeline_test.take(5, files, workers=2, start=2),
        pipeline_test.take(5, files.in_memory(), start=2),
    )
    deadline = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not multiprocessing.active_children()


def test_closed_stream_ends_and_leaves_no_thread():
    before = set(threading.enumerate())
    iterator = pipeline.batches(pipeline_test.SOURCE, batch_size=4, seed=0, mode="stream")
    next(iterator)
    iterator.close()
    iterator.close()
    assert next(iterator, None) is None
    deadline = time.monotonic() + 20
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(threading.enumerate()) - before


def test_error_in_a_thread_reaches_the_reader(files):
    for path in files.paths:
        (files.root / path).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        pipeline_test.take(1, files, workers=0)


SCRIPT = """
import sys, time
from jaxgan.data import folder, pipeline
if __name__ == "__main__":
    paths = [f"{i:02}.png" for i in range(12)]
    source = folder.FolderSource(__import__("pathlib").Path(sys.argv[1]), paths,
                                 image_shape=(6, 6, 3))
    iterator = pipeline.batches(source, batch_size=4, seed=0, workers=int(sys.argv[2]))
    batch = next(iterator)
    print("ready", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def start(files, tmp_path, workers, seconds):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(pathlib.Path(pipeline.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, script, files.root, str(workers), str(seconds)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def group_is_gone(group, seconds=20):
    """Whether every process of a group ends in time; what is left is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return False


@pytest.mark.parametrize("workers", [0, 1])
def test_program_that_just_ends_ends_quietly(files, tmp_path, workers):
    process = start(files, tmp_path, workers, 0)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    assert group_is_gone(process.pid)


def test_worker_processes_follow_a_killed_program(files, tmp_path):
    process = start(files, tmp_path, 1, 60)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert group_is_gone(process.pid)
