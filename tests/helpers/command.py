"""Runs command lines in forked copies of one warm process.

Each is a real `python -m MODULE ...` in all but the two seconds of imports: its own process, argv,
streams and exit code.
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
# Answers each line at once: a request to start with a process id, one to wait with an exit code.
SERVER = """
import json, os, runpy, signal, sys
import jaxgan.data.folder, jaxgan.data.pipeline, jaxgan.sample, jaxgan.run.driver
import jaxgan.nets.dcgan, jaxgan.steps
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        _, status = os.waitpid(request["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    child = os.fork()
    if not child:
        for number, name in enumerate((os.devnull, request["out"], request["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        signal.alarm(request["limit"])
        os.chdir(request["cwd"])
        os.environ.update(request["environ"])
        sys.argv = [request["module"], *request["argv"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(child, flush=True)
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


@functools.cache
def _server():
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        cwd=ROOT,
        env={**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def stop():
        process.stdin.close()
        process.stdout.close()
        process.wait(30)

    atexit.register(stop)
    return process


def _ask(request) -> int:
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the server of command lines ended with code {server.poll()}"
    return int(answer)


def start(module, *argv, out, err, cwd=ROOT, environ=None, limit=150) -> int:
    """Starts `python -m module *argv`, which an alarm ends after so many seconds; its number."""
    for path in (out, err):  # they may be read before the child has begun, or if it never does
        pathlib.Path(path).write_text("")
    request = {"module": module, "argv": argv, "out": str(out), "err": str(err), "cwd": str(cwd)}
    return _ask({**request, "environ": environ or {}, "limit": limit})


def wait(child) -> int:
    """Waits for the end of a process that was started; its exit code."""
    return _ask({"wait": child})


def run(module, *argv, cwd=ROOT, meanwhile=None) -> Result:
    """Runs `python -m module *argv` to its end; meanwhile is given its number and its stdout."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = pathlib.Path(folder) / "out", pathlib.Path(folder) / "err"
        child = start(module, *argv, out=out, err=err, cwd=cwd)
        if meanwhile:
            meanwhile(child, out)
        return Result(wait(child), out.read_text(), err.read_text())


def stop(moments, signals=(signal.SIGKILL,), steps=9):
    """Stops a process within so many logged steps, or at some moment of its start, by one of these.

    Args:
      moments: the random numbers that choose.
      signals: to choose from.
      steps: the most that are waited for.

    Returns:
      What `run` takes as `meanwhile`.
    """
    after, delay, signum = moments.randrange(steps), moments.random(), moments.choice(signals)

    def meanwhile(child, out):
        for _ in range(30_000 if after else 0):
            text = out.read_text()
            if text.count("\nstep ") >= after or "finished: " in text:
                break
            time.sleep(0.003)
        time.sleep(delay * (0.05 if after else 1.0))
        with contextlib.suppress(ProcessLookupError):  # ended by itself, and was waited for
            os.kill(child, signum)

    return meanwhile


def mistake(module, *argv, code=2, cwd=ROOT) -> str:
    """Runs a command line that must end in one line of error; returns it without "error: "."""
    result = run(module, *argv, cwd=cwd)
    assert result.code == code, result
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    return lines[0].removeprefix("error: ")


def tree(folder):
    """Every path below a folder with its size, to see that nothing was written."""
    paths = sorted(pathlib.Path(folder).rglob("*"))
    return [(str(path), path.stat().st_size if path.is_file() else -1) for path in paths]
