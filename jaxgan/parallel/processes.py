"""Several processes of one run, one or more a host: start, common decisions, common end.

All take the same steps on the same data, each with its share of a batch. Process 0 alone writes
files and prints. An event that one process alone meets (a missing file, a signal, its end) is
passed on to the others, which would otherwise wait for it for ever.
"""

import atexit
import contextlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the key-value store of jax.distributed has no public name
from jax.experimental import multihost_utils

from jaxgan.types import UserError

T = TypeVar("T")
BEAT, ENDED, DONE = "jaxgan/beat", "jaxgan/ended", "done"
RESTART = "start every process again: the run resumes from its last checkpoint"
_LOST = re.compile("gloo|nccl|connection|peer|barrier|coordination|unavailable", re.IGNORECASE)
_MESSAGE_BYTES = 1024  # of an error message that is sent to the other processes


def start(
    *, coordinator_address: str, num_processes: int, process_id: int, peer_timeout: int
) -> None:
    """Connects this process to the others of its run; call it before anything touches a device.

    Args:
      coordinator_address: "host:port" of process 0; empty to detect a cluster (SLURM, Open MPI, a
        TPU pod), and to run as a single process where there is none.
      num_processes: of the run; 1 for a single process also on a cluster, 0 to ask the cluster.
      process_id: of this process, from 0; -1 to ask the cluster.
      peer_timeout: seconds without a heartbeat after which a process counts as lost.

    Raises:
      UserError: the numbers are inconsistent, or the other processes cannot be reached.
    """
    check(coordinator_address, num_processes, process_id)
    if num_processes == 1 or jax.distributed.is_initialized():
        return
    if not coordinator_address and not _on_cluster():
        return
    known: dict[str, Any] = {}
    if coordinator_address:
        # "deactivate": a cluster must not make other numbers, or fewer devices, of these.
        known = {
            "coordinator_address": coordinator_address,
            "num_processes": num_processes,
            "process_id": process_id,
            "cluster_detection_method": "deactivate",
        }
    try:
        # JAX ends a process without our message: its timeouts are the longer ones.
        jax.distributed.initialize(
            heartbeat_timeout_seconds=2 * peer_timeout,
            shutdown_timeout_seconds=2 * peer_timeout,
            **known,
        )
    except (RuntimeError, ValueError) as error:
        if not coordinator_address and "should be defined" in str(error):
            return  # a TPU by itself
        where = f"--coordinator_address={coordinator_address}" if known else "this cluster"
        raise UserError(
            f"no connection between the processes of {where}: {_first_line(error)}; start all of "
            "them, with the address of process 0 and a free port"
        ) from error
    _Watch(peer_timeout).start()


def check(coordinator_address: str, num_processes: int, process_id: int) -> None:
    """Refuses inconsistent numbers of processes.

    Args:
      coordinator_address: see `start`.
      num_processes: see `start`.
      process_id: see `start`.

    Raises:
      UserError: they are inconsistent; the message says what is missing.
    """
    if not coordinator_address:
        if num_processes > 1 or process_id >= 0:
            raise UserError(
                f"--num_processes={num_processes} and --process_id={process_id} need "
                "--coordinator_address=HOST:PORT, that of process 0; on a cluster give none of them"
            )
        return
    host, _, port = coordinator_address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator_address={coordinator_address} is not HOST:PORT, such as 10.0.0.1:8476"
        )
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise UserError(
            f"--coordinator_address needs --num_processes and --process_id from 0 to one less; "
            f"they are {num_processes} and {process_id}"
        )


def several() -> bool:
    """Tells whether the run has several processes.

    Returns:
      Whether it has; False before `start`.
    """
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Tells whether this is the process that writes files and prints.

    Returns:
      Whether it is process 0, or the only one.
    """
    return not several() or jax.process_index() == 0


def call_on_main(function: Callable[[], T]) -> T:
    """Calls a function on process 0 and returns its result on all; every process must call this.

    Args:
      function: called on process 0 only; returns what JSON can represent.

    Returns:
      Its result, in every process.

    Raises:
      UserError: the function failed; process 0 raises its own error.
    """
    if not several():
        return function()
    error, answer = None, b""
    if is_main():
        try:
            answer = json.dumps({"value": function()}).encode()
        except Exception as failure:
            error = _everywhere(failure)
            answer = json.dumps({"error": _first_line(failure)}).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(answer))))
    # Lengths in powers of two: each is a program to compile.
    buffer = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    buffer[: len(answer)] = np.frombuffer(answer, np.uint8)
    received = multihost_utils.broadcast_one_to_all(buffer)
    if error is not None:
        raise error
    message = json.loads(bytes(received[:size]))
    if "error" in message:
        raise _everywhere(UserError(f"process 0: {message['error']}"))
    return message["value"]


def call_on_all(function: Callable[[], T]) -> T:
    """Calls a function in every process; if it fails in one, all of them raise.

    Args:
      function: called in every process.

    Returns:
      Its result in this process.

    Raises:
      UserError: it failed in another process; where it failed in this one, its own error.
    """
    if not several():
        return function()
    error, result = None, None
    try:
        result = function()
    except Exception as failure:
        error = failure
    mine = np.zeros(_MESSAGE_BYTES, np.uint8)
    if error is not None:
        text = _first_line(error).encode()[:_MESSAGE_BYTES]
        mine[: len(text)] = np.frombuffer(text, np.uint8)
    messages = multihost_utils.process_allgather(mine)
    if error is not None:
        raise _everywhere(error)
    for process, message in enumerate(messages):
        if message.any():
            text = bytes(message).rstrip(b"\0").decode(errors="replace")
            raise _everywhere(UserError(f"process {process}: {text}"))
    return result  # pyright: ignore[reportReturnType]


def check_alike(settings: Mapping[str, Any]) -> None:
    """Refuses processes whose settings differ from those of process 0; all must call this.

    Args:
      settings: those that must be the same everywhere, by name; what JSON can represent.

    Raises:
      UserError: a setting differs, in this process or in another.
    """
    theirs = call_on_main(lambda: dict(settings))

    def compare() -> None:
        different = [
            f"{name} is {theirs.get(name)} in process 0, {value} here"
            for name, value in json.loads(json.dumps(settings)).items()
            if theirs.get(name) != value
        ]
        if different:
            raise UserError(f"{'; '.join(different[:6])}: start every process with the same flags")

    call_on_all(compare)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Ends all processes when one fails: unwinding normally, it would wait for the others.

    The others are notified and end too. An error that all of them meet is raised as usual.

    Yields:
      Nothing.
    """
    try:
        yield
    except BaseException as error:
        if not several() or isinstance(error, SystemExit) or getattr(error, "everywhere", False):
            raise
        _leave(error)


def _leave(error: BaseException) -> None:
    """Reports the error, here and to the other processes, and exits."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)):
        print(f"error: another process is lost ({_first_line(error)}); {RESTART}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    _notify_and_exit(f"ended with an error: {_first_line(error)}", code)


def _notify_and_exit(message: str, code: int) -> None:
    """Exits without waiting for collectives; the other processes read the message."""
    sys.stdout.flush()
    sys.stderr.flush()
    client, me = _client(), jax.process_index()
    with contextlib.suppress(Exception):
        client.key_value_set(f"{ENDED}/{me}", message, allow_overwrite=True)
        # Process 0 stores the messages: they are lost when it exits.
        deadline = time.monotonic() + 15
        while me == 0 and time.monotonic() < deadline:
            if len(client.key_value_dir_get(ENDED)) >= jax.process_count():
                break
            time.sleep(0.2)
    os._exit(code)


class _Watch(threading.Thread):
    """Sends heartbeats, and ends this process when another has ended.

    JAX's own watch stays for what this one cannot detect. It ends a process by SIGABRT with a page
    of addresses, and reports neither why the other ended nor what to do.
    """

    def __init__(self, timeout: int):
        super().__init__(name="processes", daemon=True)
        self._timeout, self._stop = timeout, threading.Event()
        self._heard: dict[
            str, tuple[str, float]
        ] = {}  # last heartbeat of each process, and its time
        atexit.register(self._done)  # runs before JAX disconnects, as it was registered later

    def run(self) -> None:
        client, me = _client(), distributed.global_state.process_id
        count, interval = 0, self._timeout / 10
        while not self._stop.wait(interval):
            count += 1
            try:
                client.key_value_set(f"{BEAT}/{me}", str(count), allow_overwrite=True)
                ended = self._ended(client, me)
            except Exception:
                continue  # process 0 has exited, which JAX handles, or this one is exiting
            if ended and not self._stop.is_set():
                self._follow(*ended)

    def _ended(self, client: Any, me: int) -> tuple[str, str] | None:
        """Another process that has ended, and how; process 0 detects missing heartbeats."""
        for key, message in client.key_value_dir_get(ENDED):
            if key.rpartition("/")[2] != str(me):
                return key.rpartition("/")[2], message
        if me != 0:
            return None
        now = time.monotonic()
        for key, beat in client.key_value_dir_get(BEAT):
            last, since = self._heard.get(key, ("", now))
            self._heard[key] = (beat, now if beat != last else since)
            if beat not in (last, DONE):
                continue
            if beat != DONE and now - since > self._timeout:
                process = key.rpartition("/")[2]
                message = f"has sent no heartbeat for {self._timeout} s"
                client.key_value_set(f"{ENDED}/{process}", message, allow_overwrite=True)
                return process, message
        return None

    def _follow(self, process: str, message: str) -> None:
        time.sleep(0.5)  # an error that all have met is reported by each of them
        if not self._stop.is_set():
            print(f"error: process {process} {message}; {RESTART}", file=sys.stderr)
            _notify_and_exit(f"followed process {process}", 1)

    def _done(self) -> None:
        """Tells the others that this process has ended as it should."""
        self._stop.set()
        with contextlib.suppress(Exception):
            me = distributed.global_state.process_id
            _client().key_value_set(f"{BEAT}/{me}", DONE, allow_overwrite=True)


def _client() -> Any:
    return distributed.global_state.client


def _on_cluster() -> bool:
    """Whether a launcher that JAX knows has started several processes."""
    tasks = os.environ.get("SLURM_NTASKS", "1") if "SLURM_STEP_NODELIST" in os.environ else "1"
    ranks = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if any(number.isdecimal() and int(number) > 1 for number in (tasks, ranks)):
        return True
    platforms = jax.config.jax_platforms or ""  # pyright: ignore[reportAttributeAccessIssue]
    return "cpu" not in platforms.split(",") and _on_tpu()


def _on_tpu() -> bool:
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None


def _everywhere(error: Exception) -> Exception:
    """Marks an error as one that every process meets."""
    error.everywhere = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
