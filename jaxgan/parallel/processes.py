"""Several processes of one run, one or more a host: start, common decisions, common end.

All take the same steps on the same data, each with its share of a batch. Process 0 alone writes
files and prints. An event that one process alone meets (a missing file, a signal, its end) is
passed on to the others, which would otherwise wait for it for ever.
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

# What a cluster is asked, and whether devices are in use, has no public name.
from jax._src import clusters, xla_bridge
from jax.experimental import multihost_utils

from jaxgan.parallel import meeting, watch
from jaxgan.types import UserError

T = TypeVar("T")
KNOWN = ("coordinator_address", "num_processes", "process_id")
_LOST = re.compile("gloo|nccl|connection|peer|barrier|coordination|unavailable", re.IGNORECASE)
_MESSAGE_BYTES = 1024  # of an error message that is sent to the other processes


def start(
    *,
    coordinator_address: str,
    num_processes: int,
    process_id: int,
    peer_timeout: int,
    run: str = "",
) -> None:
    """Connects this process to the others of its run; call it before anything touches a device.

    Args:
      coordinator_address: "host:port" of process 0; empty to detect a cluster (SLURM, Open MPI, a
        TPU pod), and to run as a single process where there is none.
      num_processes: of the run; 1 for a single process also on a cluster, 0 to ask the cluster.
      process_id: of this process, from 0; -1 to ask the cluster.
      peer_timeout: seconds to wait for the others, and those without a heartbeat after which one
        of them counts as lost.
      run: name of the run, the same for all its processes.

    Raises:
      UserError: the numbers are inconsistent, or the other processes cannot be reached.
    """
    meeting.check(coordinator_address, num_processes, process_id)
    if num_processes == 1 or jax.distributed.is_initialized():
        return
    if not coordinator_address and not _on_cluster():
        return
    where = f"--coordinator_address={coordinator_address}" if coordinator_address else "the cluster"
    if xla_bridge.backends_are_initialized():
        raise UserError(
            f"no connection between the processes of {where}: devices are in use here already; "
            "start the processes of a run anew"
        )
    known = _known(coordinator_address, num_processes, process_id, peer_timeout)
    if known is None:
        return  # a TPU by itself
    address, count, me = (known[name] for name in KNOWN)
    if count > 1:
        meeting.meet(address, count, me, run=run, timeout=peer_timeout)
    try:
        # JAX ends a process without our message: its timeouts are the longer ones.
        jax.distributed.initialize(
            heartbeat_timeout_seconds=2 * peer_timeout,
            shutdown_timeout_seconds=2 * peer_timeout,
            **known,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"no connection between the processes of {where}: {_first_line(error)}; start all of "
            "them, with the address of process 0 and a free port"
        ) from error
    _take_signals_back()
    watch.Watch(peer_timeout).start()


def _known(address: str, num: int, me: int, timeout: int) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` takes, as given or asked of the cluster; None if alone."""
    # "deactivate": a cluster must not make other numbers, or fewer devices, of these.
    known: dict[str, Any] = {"cluster_detection_method": "deactivate"}
    if address:
        return {**known, **dict(zip(KNOWN, (address, num, me), strict=True))}
    own = [
        int(number) for number in os.environ.get("JAX_LOCAL_DEVICE_IDS", "").split(",") if number
    ]
    asked = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, own or None, None, timeout
    )
    if asked[0] is None:
        return None
    return {**known, **dict(zip((*KNOWN, "local_device_ids"), asked, strict=True))}


def _take_signals_back() -> None:
    """JAX's watch for preemption takes SIGTERM to itself, and does nothing that we would need."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


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
        print(
            f"error: another process is lost ({_first_line(error)}); {watch.RESTART}",
            file=sys.stderr,
        )
    elif isinstance(error, KeyboardInterrupt):
        name = str(error) or "interrupted"
        print(f"{name}: stopped; no training to save", file=sys.stderr)
    else:
        traceback.print_exception(error)
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    watch.leave(f"ended with an error: {_first_line(error)}", code)


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
