"""A process that trains until it is told to stop, as `tests.faults.small` does."""

import json
import os
import pathlib
import signal
import time

from tests.helpers import command, runs

SETTINGS = {"num_steps": 10**6, "log_every": 1, "sample_every": 5, "save_every": 10}


class Process:
    """A process that trains in a directory."""

    def __init__(self, workdir, folder, **settings):
        """Starts it; its streams go into files of the folder."""
        self.out, self.err = folder / "out", folder / "err"
        settings = {**SETTINGS, **settings, "data_dir": str(runs.data_file())}
        self.number = command.start(
            "tests.faults.small", str(workdir), json.dumps(settings), out=self.out, err=self.err
        )

    def wait_for(self, more):
        """Waits until so many more steps were taken."""
        start = self._steps()
        self.wait_until(lambda: self._steps() >= start + more)

    def wait_until(self, happened):
        """Waits until something is so."""
        for _ in range(6000):
            if happened():
                return
            assert self._lives(), self.text()[-3000:]
            time.sleep(0.01)
        raise AssertionError(f"waited for a minute: {self.text()[-3000:]}")

    def tell(self, signum):
        """Sends it a signal."""
        os.kill(self.number, signum)

    def stop(self):
        """Tells it to save and end; its exit code."""
        self.tell(signal.SIGTERM)
        return self.wait()

    def wait(self):
        """Waits for its end; its exit code."""
        return command.wait(self.number)

    def text(self):
        """What it has printed."""
        return self.out.read_text() + self.err.read_text()

    def _lives(self):
        state = pathlib.Path(f"/proc/{self.number}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"

    def _steps(self):
        return sum(line.startswith("step ") for line in self.out.read_text().splitlines())
