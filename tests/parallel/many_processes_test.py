"""Two processes of four devices are one run: what it computes, and how it ends.

Compared with one process of eight devices, which these tests are. The machine may be busy: limits
of time are there to end what hangs, not to measure.
"""

import os
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from jaxgan.run import rundir
from tests.helpers import pairs, runs, toy

SETTINGS = {"log_every": 1, "save_every": 1000, "sample_every": 1000}


def _by_eight(workdir, **settings):
    """The same run in this process."""
    return toy.run(runs.config(workdir, **{**SETTINGS, **settings}))


def _start(workdir, **settings):
    return pairs.start(workdir, **{**SETTINGS, **settings})


def _losses(workdir):
    lines = rundir.read_metrics(workdir)
    return np.array([[line["gen/loss"], line["disc/loss"]] for line in lines])


def _largest_difference(workdir, other, step):
    """Of any array of two checkpoints."""
    ours, theirs = runs.arrays(workdir, step), runs.arrays(other, step)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    return max(np.abs(np.float64(ours[name]) - theirs[name]).max() for name in ours)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of two processes that a signal to the second has ended: (directory, step, both)."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    two = _start(run, num_steps=400)
    pairs.wait_for_step(run, 2, two)
    two[1].send(signal.SIGTERM)
    assert [process.wait() for process in two] == [143, 143], [p.told() for p in two]
    (saved,) = runs.steps_saved(run)
    return run, saved, two


def test_two_processes_train_as_one_and_one_of_them_talks(stopped, tmp_path):
    # 40 images in batches of 16: the third batch takes up a second epoch.
    run, saved, two = stopped
    _by_eight(tmp_path / "one", num_steps=saved)
    assert _largest_difference(run, tmp_path / "one", saved) < 1e-6
    np.testing.assert_allclose(_losses(run), _losses(tmp_path / "one"), rtol=1e-5)
    assert runs.steps_logged(run) == list(range(1, saved + 1))
    assert "with 2 processes of 4 devices" in two[0].told()[0]
    assert f"SIGTERM: saved step {saved}; the same command resumes" in two[0].told()
    assert two[1].told() == ["SIGTERM: saving after this step; again to exit at once"]


@pytest.mark.slow  # a pair of processes more, and two runs of eight devices
def test_a_killed_process_ends_the_other_and_the_run_goes_on_without_them(stopped, tmp_path):
    run, saved, _ = stopped
    run = pathlib.Path(shutil.copytree(run, tmp_path / "run"))
    two = _start(run, num_steps=400)
    pairs.wait_for_step(run, saved + 1, two)
    two[1].send(signal.SIGKILL)
    killed = time.monotonic()
    assert [process.wait() for process in two] == [1, -9]
    assert time.monotonic() - killed < 60
    (message,) = two[0].errors()
    assert "another process is lost" in message or "no heartbeat" in message
    assert message.endswith("start every process again: the run resumes from its last checkpoint")
    assert runs.steps_saved(run) == [saved]

    # Resumed by one process of eight devices, it equals the run that nothing stopped.
    for workdir in (run, tmp_path / "straight"):
        _by_eight(workdir, num_steps=saved + 2)
    assert _largest_difference(run, tmp_path / "straight", saved + 2) < 1e-6
    np.testing.assert_allclose(_losses(run), _losses(tmp_path / "straight"), rtol=1e-5)


def test_other_settings_in_one_process_end_all_with_that_reason(tmp_path):
    two = _start(tmp_path / "run", each=({}, {"gen_lr": 0.1}), num_steps=4)
    assert [process.wait() for process in two] == [2, 2]
    wrong = "gen_lr is 0.0002 in process 0, 0.1 here: start every process with the same flags"
    assert [process.errors() for process in two] == [[f"process 1: {wrong}"], [wrong]]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # three pairs of processes; the test before has another reason
def test_what_one_process_cannot_do_ends_all_with_its_reason(tmp_path):
    settings = {"num_steps": 4}
    # One lacks the data, before it meets the others: they are told.
    lacking = {"data_dir": str(tmp_path / "nowhere")}
    for each, codes, first in ((({}, lacking), [1, 2], 1), ((lacking, {}), [2, 1], 0)):
        two = _start(tmp_path / "run", each=each, **settings)
        assert [process.wait() for process in two] == codes
        (reason,), (told,) = two[first].errors(), two[1 - first].errors()
        assert "nowhere: no such file" in reason
        assert told.startswith(f"process {first} ended with an error: {reason}; start every")
    # The directory is taken by this process: process 0 finds out.
    with rundir.RunDir(
        tmp_path / "held",
        runs.config(""),
        experiment="",
        data={"fingerprint": "", "num_classes": 0},
    ):
        two = _start(tmp_path / "held", **settings)
        assert [process.wait() for process in two] == [2, 2]
    assert "is in use by process" in two[0].errors()[0]
    assert two[1].errors() == [f"process 0: {two[0].errors()[0]}"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # a pair of processes, one of which looks for ten seconds
def test_hosts_that_do_not_share_the_run_directory_end_in_one_line(tmp_path):
    # Each has a home of its own, and so another directory.
    homes = [{"HOME": str(tmp_path / name)} for name in ("home", "elsewhere")]
    there = {"workdir": "~/run"}
    two = _start(tmp_path / "run", each=(there, there), environ=homes, num_steps=4)
    assert [process.wait() for process in two] == [2, 2]
    apart = f"{homes[1]['HOME']}/run is another folder here than in process 0, or not there: put "
    assert two[1].errors()[0].startswith(apart)
    assert two[0].errors() == [f"process 1: {two[1].errors()[0]}"]
    assert not list((tmp_path / "home" / "run").glob(".shared*"))


@pytest.mark.slow  # a pair of processes, and others that come too late
def test_a_second_run_on_the_port_of_a_first_is_refused_and_the_first_goes_on(tmp_path):
    address = {"coordinator_address": f"127.0.0.1:{pairs.free_port()}", "num_steps": 10**6}
    two = _start(tmp_path / "run", **address)
    pairs.wait_for_step(tmp_path / "run", 2, two)
    for late in (0, 1):
        own = {"process_id": late, "num_processes": 2}
        (other,) = pairs.start(tmp_path / "other", each=(own,), **address)
        assert other.wait() == 2
        (message,) = other.errors()
        assert "is in use" in message and "free port" in message or "port of its own" in message
    step = runs.steps_logged(tmp_path / "run")[-1]
    pairs.wait_for_step(tmp_path / "run", step + 2, two)
    two[0].send(signal.SIGTERM)
    assert [process.wait() for process in two] == [143, 143], [p.told() for p in two]


@pytest.mark.slow  # three pairs of processes, and one that must be waited for in silence
def test_a_frozen_process_counts_as_lost_and_one_frozen_for_long_does_not(tmp_path):
    two = _start(tmp_path / "run", num_steps=400)
    pairs.wait_for_step(tmp_path / "run", 2, two)
    two[1].send(signal.SIGSTOP)
    time.sleep(10)  # half of the time allowed
    step = runs.steps_logged(tmp_path / "run")[-1]
    two[1].send(signal.SIGCONT)
    pairs.wait_for_step(tmp_path / "run", step + 2, two)
    two[1].send(signal.SIGSTOP)
    assert two[0].wait() == 1
    (message,) = two[0].errors()
    assert message.startswith("process 1 has sent no heartbeat for 20 s; start every process")
    two[1].send(signal.SIGKILL)
    two[1].wait()


@pytest.mark.slow  # a pair of processes
def test_the_end_of_the_first_process_ends_the_others(tmp_path):
    # It holds the service that the others meet at: JAX ends them at once, in its own words.
    two = _start(tmp_path / "run", num_steps=400)
    pairs.wait_for_step(tmp_path / "run", 2, two)
    two[0].send(signal.SIGKILL)
    killed = time.monotonic()
    assert two[1].wait() != 0 and time.monotonic() - killed < 60
    text = " ".join(two[1].told())
    assert "another task died" in text or "another process is lost" in text
    two[0].wait()


@pytest.mark.slow  # pairs of processes that compile programs of their own
def test_split_parameters_and_scores_of_two_processes_are_those_of_one(tmp_path):
    settings = {
        "num_steps": 4,
        "width": 128,
        "eval_every": 2,
        "eval_samples": 30,
        "data_dir": runs.split_file(),
        "eval_weights": runs.classifier_file(),
    }
    two = _start(tmp_path / "two", shard_params=True, **settings)
    assert [process.wait() for process in two] == [0, 0], [process.told() for process in two]
    _by_eight(
        tmp_path / "one",
        **{
            **settings,
            "data_dir": str(settings["data_dir"]),
            "eval_weights": str(settings["eval_weights"]),
        },
    )
    assert _largest_difference(tmp_path / "two", tmp_path / "one", 4) < 1e-5
    scores = [
        [
            line["eval/frechet_distance"]
            for line in rundir.read_metrics(tmp_path / name)
            if "eval/frechet_distance" in line
        ]
        for name in ("one", "two")
    ]
    assert len(scores[0]) == 2
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-3)


@pytest.mark.slow  # a pair of processes
def test_slurm_says_who_is_who(tmp_path):
    # What srun sets, where nothing is asked for; JAX reads it.
    port = pairs.free_port()
    shared = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "JAX_COORDINATOR_PORT": str(port),
    }
    environ = [{**shared, "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)} for n in (0, 1)]
    nothing = {"coordinator_address": "", "num_processes": 0, "process_id": -1}
    two = _start(tmp_path / "run", each=(nothing, nothing), environ=environ, num_steps=2)
    assert [process.wait() for process in two] == [0, 0], [process.told() for process in two]
    assert "with 2 processes of 4 devices" in two[0].told()[0]


@pytest.mark.slow  # a pair of processes and a hundred steps of each
def test_a_hundred_steps_of_two_processes_go_on_from_eight_devices(tmp_path):
    _by_eight(tmp_path / "run", num_steps=20)
    two = _start(tmp_path / "run", num_steps=120)
    assert [process.wait() for process in two] == [0, 0], [process.told() for process in two]
    _by_eight(tmp_path / "straight", num_steps=120)
    difference = np.abs(_losses(tmp_path / "run") / _losses(tmp_path / "straight") - 1).max()
    print(f"Adam, two processes after eight devices: losses within {difference:.1e} in 100 steps")
    assert difference < 1e-5


def test_these_tests_are_one_process_of_eight_devices():
    assert jax.process_count() == 1 and jax.device_count() == 8
    assert "COORDINATOR" not in " ".join(os.environ)
