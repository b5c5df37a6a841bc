"""A process by itself, and the numbers that a person gives; several are in many_processes_test."""

import jax
import pytest

from jaxgan import parallel
from jaxgan.parallel import processes
from jaxgan.types import UserError
from tests.helpers import runs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 2}, "--num_processes=2 and --process_id=-1 need --coordinator_address="),
        ({"process_id": 0}, "--process_id=0 need --coordinator_address=HOST:PORT"),
        ({"coordinator_address": "host", "num_processes": 2, "process_id": 0}, "is not HOST:PORT"),
        ({"coordinator_address": "h:0", "num_processes": 2, "process_id": 0}, "is not HOST:PORT"),
        ({"coordinator_address": "h:1"}, "from 0 to one less; they are 0 and -1"),
        ({"coordinator_address": "h:1", "num_processes": 2, "process_id": 2}, "they are 2 and 2"),
        ({"shard_params": True, "parallel": "pmap"}, "--shard_params needs --parallel=jit"),
        ({"peer_timeout": 1}, "--peer_timeout=1 is below 5"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        runs.config(tmp_path, **settings)


def test_one_process_is_alone_on_a_cluster_too_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "nowhere")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    processes.start(coordinator_address="", num_processes=1, process_id=-1, peer_timeout=60)
    assert not processes.several() and processes.is_main()


def test_one_task_of_slurm_is_alone(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "nowhere")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    processes.start(coordinator_address="", num_processes=0, process_id=-1, peer_timeout=60)
    assert not processes.several()


def test_others_are_looked_for_before_devices_are_used():
    assert jax.devices()
    with pytest.raises(UserError, match="no connection between the processes of --coordinator_add"):
        processes.start(
            coordinator_address="localhost:1", num_processes=2, process_id=1, peer_timeout=60
        )
    assert not processes.several()


def test_alone_everything_is_done_here_and_errors_stay_what_they_are():
    assert processes.call_on_main(lambda: [1]) == [1] and processes.call_on_all(lambda: 2) == 2
    processes.check_alike({"anything": 1.5})
    for each in (processes.call_on_main, processes.call_on_all):
        with pytest.raises(ZeroDivisionError):
            each(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), processes.fail_together():
        _ = 1 / 0


def test_a_signal_to_one_process_is_heard_at_once():
    vote = parallel.Vote(parallel.make_mesh())
    assert [vote(value) for value in (0, 15, 0)] == [0, 15, 0]
