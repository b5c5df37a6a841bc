"""Two hosts, as two network namespaces that a cable joins: the cable is pulled.

Where a person may not make namespaces these tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.helpers import command, runs

TIMEOUT = 40  # --peer_timeout
ADDRESSES = ("10.77.0.1", "10.77.0.2")
# Where XLA's collectives look for their own address.
HOLD = 'hostname "$0"; echo ready; exec sleep 1000'


def _allowed():
    tools = all(map(shutil.which, ("unshare", "nsenter", "ip", "hostname")))
    trial = ["unshare", "-rnu", "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb"]
    return tools and subprocess.run(trial, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,  # they wait for what does not come
    pytest.mark.skipif(not _allowed(), reason="needs network namespaces"),
]


class Hosts:
    """Two of them, and what runs there."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        self.holders = [self._hold("unshare", "-rnu", address=ADDRESSES[0])]
        self.holders.append(self._hold(*self._inside(0), "unshare", "-nu", address=ADDRESSES[1]))
        other = str(self.holders[1].pid)
        self.ip(0, "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", other)
        for host, device in enumerate(("va", "vb")):
            self.ip(host, "addr", "add", f"{ADDRESSES[host]}/24", "dev", device)
            self.ip(host, "link", "set", "lo", "up")
            self.ip(host, "link", "set", device, "up")

    def _hold(self, *argv, address):
        holder = subprocess.Popen(
            [*argv, "sh", "-c", HOLD, address], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "ready\n"
        return holder

    def _inside(self, host):
        pid = str(self.holders[host].pid)
        return ["nsenter", "-t", pid, "-U", "-n", "-u", "--preserve-credentials"]

    def ip(self, host, *argv):
        subprocess.run([*self._inside(host), "ip", *argv], check=True)

    def cable(self, state):
        self.ip(0, "link", "set", "va", state)

    def start(self, host, **settings):
        """Starts one process of the run on a host; its output is in files."""
        flags = runs.flags(
            self.folder / "run",
            cpu_devices=2,
            coordinator_address=f"{ADDRESSES[0]}:8476",
            num_processes=2,
            process_id=host,
            peer_timeout=TIMEOUT,
            log_every=1,
            save_every=10**6,
            sample_every=10**6,
            num_steps=10**6,
            **settings,
        )
        with (self.folder / f"out{host}").open("w") as out:
            process = subprocess.Popen(
                [*self._inside(host), sys.executable, "-W", "ignore", "-m", runs.MODULE, *flags],
                cwd=command.ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def told(self, host):
        return (self.folder / f"out{host}").read_text()

    def errors(self, host):
        return [x for x in self.told(host).splitlines() if x.startswith("error: ")]

    def steps(self):
        log = self.folder / "run" / "metrics.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return json.loads(lines[-1])["step"] if lines else 0

    def wait_for_step(self, step, seconds=200):
        deadline = time.monotonic() + seconds
        while self.steps() < step:
            alive = all(process.poll() is None for process in self.started)
            assert alive and time.monotonic() < deadline, [self.told(0), self.told(1)]
            time.sleep(0.2)

    def close(self):
        for process in [*self.started, *self.holders]:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path)
    yield made
    made.close()


def test_a_cable_pulled_for_ten_seconds_is_waited_for_and_one_that_stays_out_ends_both(hosts):
    hosts.start(0)
    time.sleep(30)  # one host is late
    hosts.start(1)
    hosts.wait_for_step(3)
    hosts.cable("down")
    time.sleep(10)
    before = hosts.steps()
    assert all(process.poll() is None for process in hosts.started)
    hosts.cable("up")
    hosts.wait_for_step(before + 5)
    hosts.cable("down")
    pulled, ended = time.monotonic(), []
    while len(ended) < 2 and time.monotonic() < pulled + 3 * TIMEOUT:
        ended += [p for p in hosts.started if p.poll() is not None and p not in ended]
        time.sleep(0.1)
    took = time.monotonic() - pulled
    assert [process.poll() for process in hosts.started] == [1, 1], [hosts.told(0), hosts.told(1)]
    assert took < 1.5 * TIMEOUT, took
    for host in (0, 1):
        (line,) = hosts.errors(host)
        assert re.search("no heartbeat for|has not answered for|another process is lost", line)
        assert line.endswith("start every process again: the run resumes from its last checkpoint")
        assert "*** Check failure stack trace" not in hosts.told(host)
    assert os.listdir(hosts.folder / "run")


def test_a_host_that_never_comes_is_named_by_the_other_in_time(hosts):
    hosts.cable("down")
    begun = time.monotonic()
    both = [hosts.start(host) for host in (0, 1)]
    assert [process.wait(4 * TIMEOUT) for process in both] == [2, 2]
    assert time.monotonic() - begun < 3 * TIMEOUT
    assert f"process 1 did not connect to 10.77.0.1:8476 within {TIMEOUT} s" in hosts.errors(0)[0]
    assert f"process 0 did not answer at 10.77.0.1:8476 within {TIMEOUT} s" in hosts.errors(1)[0]
