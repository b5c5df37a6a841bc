"""A run that reads a stream in worker processes, from a folder where a person can make it fail.

As a process: `python -m tests.faults.streamed WORKDIR '{"num_steps": 9}'`. A file "slow" in WORKDIR
with ".data" added makes each batch take so many seconds; "gone" is an error, "hung" lasts for ever.
"""

import json
import os
import pathlib
import sys
import time

import numpy as np

from jaxgan.run import cli, driver, early
from jaxgan.run.experiment import Experiment
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import runs


class Source:
    """Forty images, of which nobody says that they are in memory."""

    name, fingerprint, num_classes = "stream", "stream", 0

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __len__(self):
        return 40

    def __getitem__(self, indices):
        slow = self.folder / "slow"
        if slow.exists():
            time.sleep(float(slow.read_text()))
        while (self.folder / "hung").exists():
            time.sleep(0.05)
        if (self.folder / "gone").exists():
            raise UserError(f"{self.folder}: no such folder")
        return {"image": runs.images()["image"][indices]}


def train(workdir, **settings):
    folder = f"{workdir}.data"
    os.makedirs(folder, exist_ok=True)
    settings = {"num_steps": 9000, "log_every": 1, "save_every": 10**6, **settings}

    def sample(variables, key, num):
        return {"image": np.zeros((num, 8, 8, 1), np.float32)}

    experiment = Experiment(init=lambda key: small.state(), step=small.advance, sample=sample)
    return driver.train(
        runs.config(workdir, sample_every=10**6, **settings),
        build=lambda config, spec: experiment,
        source=lambda config: Source(folder),
    )


if __name__ == "__main__":
    early.begin()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one worker is enough
    cli.or_one_line(lambda: train(sys.argv[1], **json.loads(sys.argv[2])))
