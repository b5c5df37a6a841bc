"""The MNIST experiment: every way of updating, bad data, and real processes that are killed."""

import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from experiments import mnist
from jaxgan.types import UserError
from tests import command, runs, tiny

NUM_STEPS = 60
SETTINGS = {"num_steps": NUM_STEPS, "log_every": 1, "save_every": 4, "sample_every": 20}


def _start(workdir, **settings):
    """Starts a real process."""
    argv = runs.flags(workdir, **{**SETTINGS, **settings})
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.mnist", *argv],
        cwd=command.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process):
    """(exit code, stdout, stderr) of a process that is left alone."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def _until_step(process, step):
    """Reads what a process prints up to a step; returns that."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(f"step {step}/"):
            return "".join(lines)
    raise AssertionError(f"ended before step {step}: {''.join(lines)}{process.stderr.read()}")


def _kill_after(process, step, delay, signum):
    """Sends a signal so many seconds after a step was printed; returns as `_finish`."""
    seen = _until_step(process, step)
    timer = threading.Timer(delay, process.send_signal, (signum,))
    timer.start()
    code, out, err = _finish(process)
    timer.join()
    return code, seen + out, err


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A process that nothing stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    code, out, err = _finish(_start(workdir))
    assert code == 0, err
    return workdir, out


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The same run, killed, terminated, interrupted and started again; what each process said."""
    workdir = tmp_path_factory.mktemp("killed") / "run"
    moment = random.random() * 0.2  # seconds: somewhere in steps, saves and samples
    story = {"moment": moment, "workdir": workdir}
    story["kill"] = _kill_after(_start(workdir), 6, moment, signal.SIGKILL)
    story["saved by kill"] = runs.steps_saved(workdir)
    saved = max(story["saved by kill"], default=0)
    story["term"] = _kill_after(_start(workdir), saved + 1, 0.0, signal.SIGTERM)
    story["saved by term"] = runs.steps_saved(workdir)
    saved = max(story["saved by term"], default=0)
    story["int"] = _kill_after(_start(workdir), saved + 1, 0.0, signal.SIGINT)
    story["saved by int"] = runs.steps_saved(workdir)
    story["end"] = _finish(_start(workdir))
    return story


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(straight, killed):
    assert killed["kill"][0] == -signal.SIGKILL
    assert killed["end"][0] == 0, killed["end"]
    different = runs.different(killed["workdir"], straight[0], NUM_STEPS)
    assert different == [], f"killed {killed['moment']} s after step 6"


def test_every_step_is_logged_once_whatever_was_killed(straight, killed):
    assert runs.steps_logged(straight[0]) == list(range(1, NUM_STEPS + 1))
    assert runs.steps_logged(killed["workdir"]) == list(range(1, NUM_STEPS + 1))
    lines = [(folder / "metrics.jsonl").read_text() for folder in (straight[0], killed["workdir"])]
    logs = [[json.loads(line) for line in text.splitlines()] for text in lines]
    for ours, theirs in zip(*logs, strict=True):
        for log in (ours, theirs):
            log.pop("images_per_second", None)
        assert ours == theirs


def test_a_killed_run_goes_on_from_a_step_it_had_saved(killed):
    resumed = killed["term"][1].splitlines()[0]
    saved = max(killed["saved by kill"], default=0)
    verb = "resuming after" if saved else "starting at"
    assert resumed.startswith(f"{verb} step {saved} in "), killed["moment"]


def test_sigterm_saves_says_so_and_exits_143(killed):
    code, out, err = killed["term"]
    assert code == 143, err
    last = out.splitlines()[-1]
    assert last.startswith("SIGTERM: saved step ") and last.endswith("the same command resumes")
    assert int(last.split()[3].strip(";")) == killed["saved by term"][-1]
    assert err.count("saving after this step") == 1 and "Traceback" not in err, err


def test_ctrl_c_saves_says_so_and_exits_130(killed):
    code, out, err = killed["int"]
    assert code == 130, err
    assert f"SIGINT: saved step {killed['saved by int'][-1]};" in out.splitlines()[-1]
    assert killed["saved by int"][-1] > killed["saved by term"][-1]
    assert err.count("saving after this step") == 1 and "Traceback" not in err, err


def test_a_finished_run_says_so_and_exits_0(straight):
    before = command.tree(straight[0] / "checkpoints")
    result = command.run("experiments.mnist", *runs.flags(straight[0], **SETTINGS))
    assert result.code == 0 and result.err == "", result
    assert result.out.startswith(f"finished: {straight[0]} is at step {NUM_STEPS}")
    assert command.tree(straight[0] / "checkpoints") == before


@pytest.mark.slow  # twenty processes, four seconds each
def test_twenty_kills_at_random_moments_change_nothing(straight, tmp_path):
    workdir, seed = tmp_path / "run", random.randrange(10**6)
    moments = random.Random(seed)
    for _ in range(20):
        process = _start(workdir)
        try:
            process.communicate(timeout=2.0 + 4.0 * moments.random())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    code, _, err = _finish(_start(workdir))
    assert code == 0, (seed, err)
    assert runs.different(workdir, straight[0], NUM_STEPS) == [], seed
    assert runs.steps_logged(workdir) == list(range(1, NUM_STEPS + 1)), seed


@pytest.mark.parametrize("update", ["simultaneous", "alternating", "fresh"])
def test_every_way_of_updating_trains(tmp_path, update):
    settings = {"disc_norm": "batch", "penalty": "none", "loss": "hinge", "decay_steps": 4}
    state = mnist.run(runs.config(tmp_path / "run", update=update, num_steps=2, **settings))
    assert int(state.step) == 2
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


def test_augmentations_train_and_adas_probability_is_resumed(tmp_path):
    settings = {"loss": "hinge", "penalty": "none", "ada_target": 0.0, "ada_ramp": 640}
    ours, theirs = (
        [
            mnist.run(runs.config(tmp_path / name, augment="ada", num_steps=num, **settings))
            for num in stops
        ][-1]
        for name, stops in (("straight", [6]), ("stopped", [3, 6]))
    )
    assert tiny.equal(ours, theirs)
    assert float(ours.extra["ada"]["p"]) in (0.0, pytest.approx(0.1))  # moved once, or held at 0
    state = mnist.run(runs.config(tmp_path / "diffaug", augment="diffaug", num_steps=1))
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


def test_ada_needs_logits_whose_sign_means_something(tmp_path):
    with pytest.raises(UserError, match="--augment=ada reads the sign of D's logits, which --loss"):
        runs.config(tmp_path / "run", augment="ada", loss="relativistic")


def _idx(path, array, *, cut=0, magic=None):
    """Writes an idx file, damaged as asked."""
    header = magic or bytes([0, 0, 8, array.ndim])
    data = header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    data = data[: len(data) - cut]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


IMAGES = np.zeros((6, 28, 28), np.uint8)
LABELS = np.arange(6, dtype=np.uint8)


def _mnist_folder(folder, *, images=IMAGES, labels=LABELS, **damage):
    folder.mkdir()
    _idx(folder / "train-images-idx3-ubyte.gz", images, **damage)
    if labels is not None:
        _idx(folder / "train-labels-idx1-ubyte", labels)
    return folder


def _empty(folder):
    _mnist_folder(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: _mnist_folder(f, labels=None), ["train-labels-idx1-ubyte", "missing"]),
        (_empty, ["train-images-idx3-ubyte.gz", "empty"]),
        (lambda f: _mnist_folder(f, cut=100), ["train-images-idx3-ubyte.gz", "truncated"]),
        (lambda f: _mnist_folder(f, magic=b"<htm"), ["train-images-idx3-ubyte.gz", "magic"]),
        (lambda f: _mnist_folder(f, labels=LABELS + 5), ["label 10", "train-labels-idx1-ubyte"]),
        (lambda f: _mnist_folder(f, labels=LABELS[:4]), ["6 images", "4"]),
    ],
    ids=["missing", "empty", "truncated", "magic", "label", "count"],
)
def test_a_bad_data_file_is_one_line_that_names_it(tmp_path, make, words):
    make(tmp_path / "data")
    before = command.tree(tmp_path)
    message = command.mistake(
        "experiments.mnist",
        "--dataset=mnist",
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert all(word in message for word in words), message
    assert command.tree(tmp_path) == before


def test_a_missing_data_file_and_a_label_outside_its_range_in_an_archive(tmp_path):
    argv = ["--dataset=arrays", "--image_size=8", f"--workdir={tmp_path / 'run'}"]
    message = command.mistake("experiments.mnist", *argv, f"--data_dir={tmp_path / 'no.npz'}")
    assert "no.npz" in message
    bad = {**runs.images(), "num_classes": np.int64(2)}
    np.savez(tmp_path / "bad.npz", **bad)
    message = command.mistake("experiments.mnist", *argv, f"--data_dir={tmp_path / 'bad.npz'}")
    assert "label 2" in message and "0..1" in message
    assert not (tmp_path / "run").exists()


def test_a_dataset_nobody_knows_is_refused_with_those_there_are(tmp_path):
    message = command.mistake(
        "experiments.mnist", "--dataset=mnits", f"--workdir={tmp_path / 'run'}"
    )
    assert "mnits" in message and "mnist" in message.replace("mnits", "")
    assert not (tmp_path / "run").exists()


def test_conditions_need_labels(tmp_path):
    np.savez(tmp_path / "plain.npz", image=runs.images()["image"])
    with pytest.raises(UserError, match="--conditional needs labels"):
        mnist.run(
            runs.config(tmp_path / "run", data_dir=str(tmp_path / "plain.npz"), conditional=True)
        )


def test_changed_data_stop_a_resume(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, **runs.images())
    mnist.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=1))
    np.savez(path, image=runs.images()["image"][::-1], label=runs.images()["label"])
    with pytest.raises(UserError, match="training data have changed"):
        mnist.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=2))


FLAGFILES = sorted((command.ROOT / "experiments" / "flags").glob("*.flags"))


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_of_this_experiment_hold_settings_it_knows(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    values = dict(line.removeprefix("--").split("=", 1) for line in lines)
    fields = mnist.Config.__dataclass_fields__
    if not set(values) <= set(fields):
        pytest.skip("of another experiment")
    settings = {name: type(fields[name].default)(value) for name, value in values.items()}
    mnist.Config(**{**settings, "workdir": os.devnull})
