"""Where the processes of a run meet before JAX connects them, at the address that JAX will use.

JAX's client ends its process by SIGABRT where it does not find the others in time, and one that
connects to the service of a run under way ends all of that run. So each asks first, in a line of
JSON; process 0 answers, refuses what does not belong to its run, and leaves the port to JAX when
all are there. The service of a run under way does not know this language, and does not mind.
"""

import contextlib
import errno
import json
import os
import socket
import time
from typing import Any, NoReturn

from jaxgan.types import UserError

GRACE = 5.0  # seconds in which a run that ends may still hold the port
_ASKED, _ANSWERED = 2.0, 15.0  # seconds for a line to arrive at process 0, and for its answer
_LINE_BYTES = 4096


def meet(
    address: str, num_processes: int, process_id: int, *, run: str = "", timeout: float
) -> None:
    """Waits until all processes of a run are there.

    Args:
      address: "host:port" of process 0.
      num_processes: of the run, 2 or more.
      process_id: of this process.
      run: name of the run, the same in its processes; others are refused.
      timeout: seconds to wait.

    Raises:
      UserError: some are missing, or are not what they should be; or the port is in use.
    """
    hello = {"jaxgan": 1, "run": run, "num_processes": num_processes, "process_id": process_id}
    if process_id:
        _ask(address, hello, timeout)
    else:
        _Host(address, hello, timeout).gather()


def check(coordinator_address: str, num_processes: int, process_id: int) -> None:
    """Refuses inconsistent numbers of processes.

    Args:
      coordinator_address: "host:port" of process 0, or empty.
      num_processes: of the run; 0 where unknown.
      process_id: of this process; -1 where unknown.

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


class _Host:
    """Process 0, at which the others meet."""

    def __init__(self, address: str, hello: dict[str, Any], timeout: float):
        self._address, self._hello, self._timeout = address, hello, timeout
        self._deadline, self._count = time.monotonic() + timeout, hello["num_processes"]
        self._here: dict[int, socket.socket] = {}
        # Whether the address leads here is told by a line of our own.
        self._token, self._reached = os.urandom(8).hex(), False

    def gather(self) -> None:
        """Returns when all are there and have been told, with the port free again."""
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(_listen(self._address))
            listener.settimeout(0.2)
            with contextlib.suppress(OSError):
                own = opened.enter_context(_connect(self._address, _ASKED))
                own.sendall(_line({**self._hello, "token": self._token}))
            while len(self._here) < self._count - 1:
                if time.monotonic() > self._deadline:
                    self._give_up()
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    self._drop_the_dead()
                    continue
                opened.enter_context(connection)
                self._receive(connection)
            listener.close()  # before they look for what comes after it
            self._tell({"go": True})

    def _receive(self, connection: socket.socket) -> None:
        """Hears who somebody is, and answers."""
        theirs = _read(connection, _ASKED)
        if theirs.get("jaxgan") != self._hello["jaxgan"]:
            return connection.close()  # no process of a run
        if theirs.get("token") == self._token:
            self._reached = True
            return connection.close()
        number, run = theirs.get("process_id"), self._hello["run"]
        if theirs.get("run") != run:
            # Another run's mistake: this one goes on waiting for its own.
            return _send(
                connection,
                {
                    "error": f"the port of {self._address} is that of the run in "
                    f"{run or 'no workdir'}; give each run a port of its own"
                },
            )
        self._drop_the_dead()
        if theirs.get("num_processes") != self._count:
            self._refuse(
                connection,
                f"--num_processes is {self._count} in process 0, {theirs.get('num_processes')} in "
                f"process {number}: start every process with the same flags",
            )
        if number == 0 or number in self._here or not isinstance(number, int):
            self._refuse(
                connection,
                f"two processes have --process_id={number}: number them from 0 to "
                f"{self._count - 1}, each once",
            )
        self._here[number] = connection
        return _send(connection, {"wait": True})

    def _drop_the_dead(self) -> None:
        """Forgets those that have ended since; another may come in their place."""
        for number, connection in list(self._here.items()):
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                try:
                    ended = not connection.recv(1, socket.MSG_PEEK)
                except ConnectionError:
                    ended = True
                if ended:
                    self._here.pop(number).close()

    def _refuse(self, connection: socket.socket, message: str) -> NoReturn:
        """Ends all of the run, which was started wrongly."""
        _send(connection, {"error": message})
        self._tell({"error": message})
        raise UserError(message)

    def _give_up(self) -> NoReturn:
        missing = sorted(set(range(1, self._count)) - set(self._here))
        who = f"process {missing[0]}" if len(missing) == 1 else f"processes {_few(missing)}"
        hint = "" if self._reached else "; it does not seem to be an address of process 0's host"
        message = (
            f"{who} did not connect to {self._address} within {self._timeout:g} s "
            f"(--peer_timeout){hint}; start all processes, with the address of process 0"
        )
        self._tell({"error": message})
        raise UserError(message)

    def _tell(self, message: dict[str, Any]) -> None:
        for connection in self._here.values():
            _send(connection, message)


def _listen(address: str) -> socket.socket:
    """A socket at the port, which nobody else may be listening at."""
    address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address)
    port, both = int(address.rpartition(":")[2]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    deadline = time.monotonic() + GRACE
    while True:
        try:
            return socket.create_server(
                ("", port), family=family, dualstack_ipv6=both, backlog=1024
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"port {port} of {address} cannot be used: {error}") from error
            if time.monotonic() > deadline:
                raise UserError(
                    f"port {port} of {address} is in use on this host, by another run or another "
                    "program; choose a free port, the same for all processes"
                ) from error
            time.sleep(0.2)


def _ask(address: str, hello: dict[str, Any], timeout: float) -> None:
    """Asks process 0 until it says that all are there."""
    deadline, strange_since, reason = time.monotonic() + timeout, None, "no answer"
    while time.monotonic() < deadline:
        try:
            with _connect(address, _ASKED) as connection:
                connection.sendall(_line(hello))
                answer = _read(connection, min(_ANSWERED, deadline - time.monotonic()))
                strange = not answer
                if "wait" in answer:
                    # It answers at its own limit, which may be some seconds later.
                    answer = _read(connection, deadline + _ANSWERED - time.monotonic())
        except OSError as error:
            strange, answer, reason = False, {}, error.strerror or str(error)
        if "error" in answer:
            raise UserError(str(answer["error"]))
        if "go" in answer:
            return _wait_for_service(address)
        now = time.monotonic()
        strange_since = (strange_since or now) if strange else None
        if strange_since and now - strange_since > GRACE:
            raise UserError(
                f"{address} is in use by a run that has begun without this process, or by another "
                "program; give each run a port of its own, and start all its processes together"
            )
        time.sleep(0.2)
    raise UserError(
        f"process 0 did not answer at {address} within {timeout:g} s (--peer_timeout): {reason}; "
        "start all processes, with the address of process 0"
    )


def _wait_for_service(address: str) -> None:
    """Waits for JAX's service: its client would try again only after a second."""
    deadline = time.monotonic() + _ANSWERED
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), _connect(address, _ASKED):
            return
        time.sleep(0.02)


def _connect(address: str, timeout: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.setblocking(True)
        connection.settimeout(_ASKED)
        connection.sendall(_line(message))


def _read(connection: socket.socket, seconds: float) -> dict[str, Any]:
    """One line of JSON; {} where something else comes, or nothing."""
    deadline, received = time.monotonic() + seconds, b""
    try:
        while b"\n" not in received and len(received) < _LINE_BYTES:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            # Byte by byte: the next line stays for the next call.
            piece = connection.recv(1)
            if not piece or time.monotonic() > deadline:
                return {}
            received += piece
        message = json.loads(received)
    except (OSError, ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _few(numbers: list[int]) -> str:
    told = ", ".join(map(str, numbers[:8]))
    return told + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
