"""Processes of a run meet: threads stand for them here, each with its own socket."""

import contextlib
import json
import socket
import threading
import time

import pytest

from jaxgan.parallel import meeting
from jaxgan.types import UserError
from tests.helpers import pairs


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(meeting, "GRACE", 0.3)


def _meet(*those, timeout=20.0):
    """What each of (id, number of processes, run, seconds to wait before) is told; "" if to go."""
    address, told = f"127.0.0.1:{pairs.free_port()}", [""] * len(those)

    def one(place, number, count, run, wait):
        time.sleep(wait)
        try:
            meeting.meet(address, count, number, run=run, timeout=timeout)
        except UserError as error:
            told[place] = str(error)

    threads = [
        threading.Thread(target=one, args=(place, *each)) for place, each in enumerate(those)
    ]
    for thread in threads:
        thread.start()
    for _ in range(100):  # JAX's service comes where process 0 has been waiting
        if not threads[0].is_alive():
            break
        threads[0].join(0.2)
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):
            opened.enter_context(socket.create_server(("127.0.0.1", int(address[10:]))))
        for thread in threads:
            thread.join()
    return told, address


def test_all_go_when_the_last_has_come():
    assert _meet((0, 3, "a", 0), (2, 3, "a", 0.5), (1, 3, "a", 1))[0] == ["", "", ""]


def test_process_0_may_be_the_last():
    assert _meet((0, 2, "a", 1), (1, 2, "a", 0))[0] == ["", ""]


def test_one_number_given_twice_ends_all_in_one_line():
    told, _ = _meet((0, 3, "a", 0), (1, 3, "a", 0.2), (1, 3, "a", 0.4))
    assert set(told) == {"two processes have --process_id=1: number them from 0 to 2, each once"}


def test_another_count_ends_all_in_one_line():
    told, _ = _meet((0, 2, "a", 0), (1, 3, "a", 0))
    assert told == 2 * [
        "--num_processes is 2 in process 0, 3 in process 1: start every process with the same flags"
    ]


def test_a_process_of_another_run_is_sent_away_and_the_run_begins_without_it():
    told, _ = _meet((0, 2, "mine", 0), (1, 2, "other", 0.2), (1, 2, "mine", 0.6))
    assert (told[0], told[2]) == ("", "") and "is that of the run in mine; give each run" in told[1]


def test_those_that_do_not_come_are_named_in_time():
    begun = time.monotonic()
    told, address = _meet((0, 3, "a", 0), (1, 3, "a", 0), timeout=1)
    assert time.monotonic() - begun < 8
    start = f"process 2 did not connect to {address} within 1 s (--peer_timeout); start all"
    assert all(text.startswith(start) for text in told), told


def test_without_process_0_the_others_say_so_in_time():
    begun = time.monotonic()
    (told,), address = _meet((1, 2, "a", 0), timeout=1)
    assert time.monotonic() - begun < 5
    assert told.startswith(f"process 0 did not answer at {address} within 1 s (--peer_timeout): ")


def test_an_address_of_another_host_is_suspected(monkeypatch):
    monkeypatch.setattr(meeting, "_ASKED", 0.2)
    with pytest.raises(UserError, match="it does not seem to be an address of process 0's host"):
        meeting.meet(f"192.0.2.1:{pairs.free_port()}", 2, 0, timeout=0.5)


def test_a_port_where_something_else_listens_is_refused_by_both():
    def answer(taken):
        with contextlib.suppress(OSError):
            while True:
                with taken.accept()[0] as connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=answer, args=(taken,), daemon=True).start()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="is in use by a run that has begun without this"):
            meeting.meet(address, 2, 1, timeout=20)
        with pytest.raises(UserError, match="is in use on this host, by another run or another"):
            meeting.meet(address, 2, 0, timeout=20)


def test_strangers_at_the_door_do_not_matter(monkeypatch):
    monkeypatch.setattr(meeting, "_ASKED", 0.3)
    address, told = f"127.0.0.1:{pairs.free_port()}", []

    def host():
        meeting.meet(address, 3, 0, timeout=20)
        told.append("go")

    def call():
        for _ in range(100):
            with contextlib.suppress(OSError):
                return opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            time.sleep(0.05)
        raise TimeoutError

    def hello(number):
        caller = call()
        those = {"jaxgan": 1, "run": "", "num_processes": 3, "process_id": number}
        caller.sendall(json.dumps(those).encode() + b"\n")
        assert json.loads(caller.recv(100).splitlines()[0]) == {"wait": True}
        return caller

    port, thread = int(address[10:]), threading.Thread(target=host)
    thread.start()
    with contextlib.ExitStack() as opened:
        for said in (b"", b"GET / HTTP/1.0\n", b"x" * 9999, b"[1]\n", b'{"jaxgan": "1"}\n'):
            call().sendall(said)
        hello(1).close()  # one that belongs here, and ends while it waits
        hello(2)
        time.sleep(0.5)
        assert told == []
        hello(1)
        thread.join(20)
    assert told == ["go"]
