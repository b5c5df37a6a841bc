"""Many processes of one run, one or more a host: how they start, agree, and end together.

They do the same steps on the same data, each with its share of a batch. What only one of them may
do (files, lines on the screen) process 0 does. What any of them may meet alone (a missing file, a
signal, its end) the others are told, for they would wait for it for ever.
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
RESTART = "start every process again: the run goes on from its last checkpoint"
_LOST = re.compile("gloo|nccl|connection|peer|barrier|coordination|unavailable", re.IGNORECASE)
_MESSAGE_BYTES = 1024  # of an error, as the others are told it


def start(
    *, coordinator_address: str, num_processes: int, process_id: int, peer_timeout: int
) -> None:
    """Joins this process to the others of its run; call it before anything touches a device.

    Args:
      coordinator_address: "host:port" of process 0; empty to look for a cluster (SLURM, Open MPI,
        a TPU pod), and to be alone where there is none.
      num_processes: how many there are; 1 is alone on a cluster too, 0 is what the cluster says.
      process_id: which this is, from 0; -1 is what the cluster says.
      peer_timeout: seconds without a sign of life after which a process counts as lost.

    Raises:
      UserError: the numbers do not go together, or the others cannot be reached.
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
        # JAX ends a process without a word of ours: its patience is the longer one.
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
    """Refuses numbers of processes that do not go together.

    Args:
      coordinator_address: see `start`.
      num_processes: see `start`.
      process_id: see `start`.

    Raises:
      UserError: they do not.
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
    """Says whether this process has others beside it.

    Returns:
      False also where none were asked for yet.
    """
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Says whether this is the process that writes files and talks.

    Returns:
      Whether it is process 0, or alone.
    """
    return not several() or jax.process_index() == 0


def from_main(make: Callable[[], T]) -> T:
    """Does something on process 0, and gives what came of it to all; all must call this.

    Args:
      make: called on process 0 only; returns what JSON can hold.

    Returns:
      Its result, in every process.

    Raises:
      UserError: it failed; on process 0, what it raised.
    """
    if not several():
        return make()
    error, answer = None, b""
    if is_main():
        try:
            answer = json.dumps({"value": make()}).encode()
        except Exception as failure:
            error = _agreed(failure)
            answer = json.dumps({"error": _first_line(failure)}).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(answer))))
    # Lengths in powers of two: each is a program to compile.
    buffer = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    buffer[: len(answer)] = np.frombuffer(answer, np.uint8)
    told = multihost_utils.broadcast_one_to_all(buffer)
    if error is not None:
        raise error
    message = json.loads(bytes(told[:size]))
    if "error" in message:
        raise _agreed(UserError(f"process 0: {message['error']}"))
    return message["value"]


def agreed(action: Callable[[], T]) -> T:
    """Does something in every process; where it fails in one, it fails in all of them.

    Args:
      action: called in every process.

    Returns:
      Its result in this one.

    Raises:
      UserError: it failed in another process; in this one, what it raised.
    """
    if not several():
        return action()
    error, result = None, None
    try:
        result = action()
    except Exception as failure:
        error = failure
    mine = np.zeros(_MESSAGE_BYTES, np.uint8)
    if error is not None:
        text = _first_line(error).encode()[:_MESSAGE_BYTES]
        mine[: len(text)] = np.frombuffer(text, np.uint8)
    messages = multihost_utils.process_allgather(mine)
    if error is not None:
        raise _agreed(error)
    for process, message in enumerate(messages):
        if message.any():
            text = bytes(message).rstrip(b"\0").decode(errors="replace")
            raise _agreed(UserError(f"process {process}: {text}"))
    return result  # pyright: ignore[reportReturnType]


def check_alike(settings: Mapping[str, Any]) -> None:
    """Refuses processes that were started with other settings than process 0; all must call this.

    Args:
      settings: what must be the same everywhere, by name; what JSON can hold.

    Raises:
      UserError: something is not, in this process or in another.
    """
    theirs = from_main(lambda: dict(settings))

    def compare() -> None:
        different = [
            f"{name} is {theirs.get(name)} in process 0, {value} here"
            for name, value in json.loads(json.dumps(settings)).items()
            if theirs.get(name) != value
        ]
        if different:
            raise UserError(f"{'; '.join(different[:6])}: start every process with the same flags")

    agreed(compare)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends this process at once where it fails alone: left to unwind, it would wait for the others.

    They are told, and end too. What fails in all of them is raised as ever.

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
    """Says what is wrong, here and to the others, and ends."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)):
        print(f"error: another process is lost ({_first_line(error)}); {RESTART}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    _tell_and_exit(f"ended with an error: {_first_line(error)}", code)


def _tell_and_exit(message: str, code: int) -> None:
    """Ends this process without another wait; the others read why."""
    sys.stdout.flush()
    sys.stderr.flush()
    client, me = _client(), jax.process_index()
    with contextlib.suppress(Exception):
        client.key_value_set(f"{ENDED}/{me}", message, allow_overwrite=True)
        # Process 0 is where the messages are kept: they are gone when it is.
        deadline = time.monotonic() + 15
        while me == 0 and time.monotonic() < deadline:
            if len(client.key_value_dir_get(ENDED)) >= jax.process_count():
                break
            time.sleep(0.2)
    os._exit(code)


class _Watch(threading.Thread):
    """Gives signs of life, and ends this process when another has ended.

    JAX's own watch, which is kept for what this one cannot see, ends a process by SIGABRT with a
    page of addresses, and says neither why the other ended nor what to do.
    """

    def __init__(self, timeout: int):
        super().__init__(name="processes", daemon=True)
        self._timeout, self._stop = timeout, threading.Event()
        self._heard: dict[str, tuple[str, float]] = {}  # beat of each process, and since when
        atexit.register(self._done)  # before JAX leaves, as it was registered later

    def run(self) -> None:
        client, me = _client(), distributed.global_state.process_id
        count, interval = 0, self._timeout / 10
        while not self._stop.wait(interval):
            count += 1
            try:
                client.key_value_set(f"{BEAT}/{me}", str(count), allow_overwrite=True)
                ended = self._ended(client, me)
            except Exception:
                continue  # process 0 has gone, or we have; JAX sees to the first
            if ended and not self._stop.is_set():
                self._follow(*ended)

    def _ended(self, client: Any, me: int) -> tuple[str, str] | None:
        """Another process that has ended, and how; process 0 finds those that are silent."""
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
                message = f"has given no sign of life for {self._timeout} s"
                client.key_value_set(f"{ENDED}/{process}", message, allow_overwrite=True)
                return process, message
        return None

    def _follow(self, process: str, message: str) -> None:
        time.sleep(0.5)  # an error that all have met is told by each in its own words
        if not self._stop.is_set():
            print(f"error: process {process} {message}; {RESTART}", file=sys.stderr)
            _tell_and_exit(f"followed process {process}", 1)

    def _done(self) -> None:
        """Leaves in peace."""
        self._stop.set()
        with contextlib.suppress(Exception):
            me = distributed.global_state.process_id
            _client().key_value_set(f"{BEAT}/{me}", DONE, allow_overwrite=True)


def _client() -> Any:
    return distributed.global_state.client


def _on_cluster() -> bool:
    """Whether something has started several processes of which JAX can find the others."""
    tasks = os.environ.get("SLURM_NTASKS", "1") if "SLURM_STEP_NODELIST" in os.environ else "1"
    ranks = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if any(number.isdecimal() and int(number) > 1 for number in (tasks, ranks)):
        return True
    platforms = jax.config.jax_platforms or ""  # pyright: ignore[reportAttributeAccessIssue]
    return "cpu" not in platforms.split(",") and _on_tpu()


def _on_tpu() -> bool:
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None


def _agreed(error: Exception) -> Exception:
    """Marks an error as one that every process meets."""
    error.everywhere = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
