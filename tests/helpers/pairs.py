"""Starts the processes of one run side by side, each with four CPU devices."""

import json
import os
import re
import signal
import socket
import time

from tests.helpers import command, runs

# Its threads write to stdout at once: words of one line may come amid those of another.
_GLOO = re.compile(
    r"(\[Gloo\] |Rank |\d| is connected to | peer ranks\. |"
    "Expected number of connected peer ranks is : )*"
)


class Process:
    """One of them."""

    def __init__(self, argv, out, *, environ, limit):
        self.out, self.err = out.with_suffix(".out"), out.with_suffix(".err")
        self.pid = command.start(
            runs.MODULE, *argv, out=self.out, err=self.err, environ=environ, limit=limit
        )
        self.code = None

    def send(self, signum):
        os.kill(self.pid, signum)

    def wait(self) -> int:
        """Waits for its end, which comes: an alarm is set."""
        if self.code is None:
            self.code = command.wait(self.pid)
        return self.code

    def told(self) -> list[str]:
        """What it said of itself; gRPC and Gloo have their say too."""
        out = self.out.read_text().splitlines()
        return [x for x in out if not _GLOO.fullmatch(x)] + self.err.read_text().splitlines()

    def errors(self) -> list[str]:
        """Its lines of error, without "error: "."""
        return [x.removeprefix("error: ") for x in self.told() if x.startswith("error: ")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(workdir, *, each=({}, {}), environ=({}, {}), limit=280, **settings) -> list[Process]:
    """Starts a tiny run in as many processes as `each` has settings for."""
    address = f"127.0.0.1:{free_port()}"
    shared = {
        "cpu_devices": 4,
        "coordinator_address": address,
        "num_processes": len(each),
        "peer_timeout": 20,
        "log_every": 1,
        **settings,
    }
    workdir.parent.mkdir(parents=True, exist_ok=True)
    return [
        Process(
            runs.flags(**{"workdir": workdir, **shared, "process_id": number, **own}),
            workdir.with_name(f"{workdir.name}_process_{number}"),
            environ=environ[number],
            limit=limit,
        )
        for number, own in enumerate(each)
    ]


def wait_for_step(workdir, step, processes, *, limit=240):
    """Waits until a step is in the log."""
    deadline = time.monotonic() + limit
    log = workdir / "metrics.jsonl"
    while time.monotonic() < deadline:
        text = log.read_text() if log.exists() else ""
        if text.endswith("\n") and json.loads(text.splitlines()[-1])["step"] >= step:
            return
        time.sleep(0.1)
    for process in processes:
        process.send(signal.SIGKILL)
    raise AssertionError([process.told() for process in processes])
