"""TensorBoard's curves: what the log has, whatever happened to the file that showed it before."""

import json
import math
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from jaxgan.run import curves
from tests.helpers import events
from tests.run import rundir_test
from tests.run.logfile_test import limited

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def _open(path):
    return rundir_test._open(path)


def _shown(path, tag="loss"):
    return events.points(path).get(tag, [])


def _log(run, *steps):
    for step in steps:
        run.log(step, {"loss": float(step), "how": "measured so"})


def test_points_that_a_killed_run_drew_beyond_its_checkpoint_are_gone(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1, 2, 3, 4)
    with _open(tmp_path) as run:
        run.start_logs(2)
        assert _shown(tmp_path) == [(1, 1.0), (2, 2.0)]
        run.log(3, {"loss": 30.0})
    assert events.points(tmp_path) == {"loss": [(1, 1.0), (2, 2.0), (3, 30.0)]}
    assert len(events.files(tmp_path)) == 1


def test_points_lost_or_torn_by_a_kill_are_drawn_again(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1, 2, 3)
    (file,) = events.files(tmp_path)
    os.truncate(file, file.stat().st_size - 7)
    with _open(tmp_path) as run:
        run.start_logs(3)
    assert _shown(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_files_of_older_versions_go_and_those_of_others_stay(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1)
    folder = tmp_path / "tensorboard"
    old = folder / "events.out.tfevents.1700000000.host"
    old.write_bytes(events.files(tmp_path)[0].read_bytes())
    mine = ["notes.txt", "mine.out.tfevents.1700000000.host", "events.out.tfevents.txt", "sub"]
    for name in mine[:-1]:
        (folder / name).write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / old.name).write_text("mine")
    with _open(tmp_path) as run:
        run.start_logs(1)
    assert not old.exists() and all((folder / name).exists() for name in mine)
    assert (folder / "sub" / old.name).read_text() == "mine"


def test_a_reader_of_the_old_file_finds_its_end_and_then_the_new_one(tmp_path):
    # TensorBoard waits for ever at a file that is gone, and never goes back to an earlier name.
    for number in range(3):
        with _open(tmp_path) as run:
            before = events.files(tmp_path) if number else []
            run.start_logs(0)
            after = events.files(tmp_path)
            assert after[:-1] == before and all(not path.stat().st_size for path in before)
            start = events.of_file(after[-1])[1]
            assert start.session_log.status == 1 and start.step == 0  # forgets what it has read
            run.start_logs(0)  # after a rollback
            assert len(events.files(tmp_path)) == len(before) + 2 - bool(before)
        assert len(events.files(tmp_path)) == 1


def test_what_is_no_number_is_left_out(tmp_path):
    line = {
        "step": 1, "loss": 0.5, "text": "t", "none": None, "list": [1], "truth": True,
        "nan": math.nan, "huge": 10**400, "large": 1e300, "whole": 3, "seconds": "soon",
        "\ud800": 1.0,
    }  # fmt: skip
    with _open(tmp_path) as run:
        (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        run.start_logs(1)
    shown = events.points(tmp_path)
    assert shown.pop("large") == [(1, math.inf)]  # a point is a float of 32 bits
    assert shown == {"loss": [(1, 0.5)], "whole": [(1, 3.0)], "?": [(1, 1.0)]}


def test_numbers_of_numpy_are_drawn_at_once_too(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        run.log(1, {"loss": np.float64(0.5)})
        assert _shown(tmp_path) == [(1, 0.5)]


def test_pictures_are_drawn_again_up_to_the_step_and_only_whole_ones(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1, 2)
        pngs = {step: run.save_samples(step, PICTURE).read_bytes() for step in (1, 2, 3, 9)}
    samples = tmp_path / "samples"
    (samples / "step_00000003.png").write_bytes(pngs[3][:-5])
    os.mkfifo(samples / "step_00000004.png")
    (samples / "step_00000005.png").mkdir()
    (samples / "step_00000006.png").symlink_to(samples / "step_00000001.png")
    (samples / "step_x.png").write_bytes(pngs[1])
    with _open(tmp_path) as run:
        run.start_logs(8)
    assert _shown(tmp_path, "samples") == [(1, pngs[1]), (2, pngs[2])]
    (image,) = [
        value.image
        for event in events.of_file(events.files(tmp_path)[0])
        for value in event.summary.value
        if value.tag == "samples" and event.step == 1
    ]
    assert (image.height, image.width, image.colorspace) == (6, 9, 3)


def test_time_is_that_of_training_and_the_same_when_drawn_again(tmp_path):
    with _open(tmp_path) as run:
        run.start_logs(0)
        run.log(1, {"seconds": 10.0})
        run.log(1, {"score": 1.0})  # measured beside training
        run.log(2, {"seconds": 25.0})

    def times():
        walls = [e.wall_time for e in events.of_file(events.files(tmp_path)[-1])[2:]]
        return [round(wall - walls[0], 3) for wall in walls]

    assert times() == [0.0, 0.0, 15.0]
    with _open(tmp_path) as run:
        run.start_logs(2)
        assert times() == [0.0, 0.0, 15.0]


def test_a_full_disk_is_one_warning_and_the_curves_are_whole_at_the_end(tmp_path, capsys):
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1)
        size = events.files(tmp_path)[0].stat().st_size
        with limited(size + 20):
            _log(run, 2, 3)
            assert _shown(tmp_path) == [(1, 1.0)]  # nothing is torn
        _log(run, 4)  # tried again later, not at every line
        assert _shown(tmp_path) == [(1, 1.0)]
    assert [step for step, _ in _shown(tmp_path)] == [1, 2, 3, 4]
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in said if "curves" in line] == ["warning:", "note:"]


def test_curves_are_tried_again_as_training_goes_on(tmp_path, capsys):
    log = []
    shown = curves.Curves(
        tmp_path / "tensorboard", samples=tmp_path / "samples", entries=lambda: log, retry=0.0
    )
    (tmp_path / "tensorboard").write_text("in the way")
    shown.start(0, [])
    for step in (1, 2, 3):
        log.append({"step": step, "loss": 0.5})
        if step == 2:
            (tmp_path / "tensorboard").unlink()
            time.sleep(0.5)  # not again at once after what took long
        shown.add(log[-1])
    assert [step for step, _ in _shown(tmp_path)] == [1, 2, 3]
    events.files(tmp_path)[0].unlink()  # by somebody
    for step in (4, 5):
        log.append({"step": step, "loss": 0.5})
        shown.add(log[-1])
    shown.close()
    assert [step for step, _ in _shown(tmp_path)] == [1, 2, 3, 4, 5]
    assert capsys.readouterr().out.count("warning") == 2


def test_many_lines_and_many_pictures_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "AT_ONCE", 3)
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, *range(1, 12))
        for step in (4, 8):
            run.save_samples(step, PICTURE)
    with _open(tmp_path) as run:
        run.start_logs(11)
    order = [event.step for event in events.of_file(events.files(tmp_path)[0])]
    assert order == [0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11]


def test_tensorboard_itself_reads_them(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, 1, 2, 3)
        run.save_samples(2, PICTURE)
        reader = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
        reader.Reload()
        assert [point.step for point in reader.Scalars("loss")] == [1, 2, 3]
    with _open(tmp_path) as run:
        run.start_logs(2)
        reader.Reload()
        assert [point.step for point in reader.Scalars("loss")] == [1, 2]
        assert [picture.step for picture in reader.Images("samples")] == [2]


def test_no_thread_and_no_other_process_writes_them(tmp_path):
    threads = threading.enumerate()
    with _open(tmp_path) as run:
        run.start_logs(0)
        _log(run, *range(1, 40))
        assert threading.enumerate() == threads and not multiprocessing.active_children()
