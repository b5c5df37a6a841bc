"""The toy, whose generator breaks in the fifteenth step until the run is rolled back.

As a process: `python -m tests.helpers.poisoned --on_nonfinite=rollback --workdir=...`.
"""

from jaxgan import steps
from jaxgan.run import cli
from tests.helpers import runs, toy

if __name__ == "__main__":
    steps.map_batch = runs.poisoned(steps.map_batch, bad_step=14, streams=1)
    cli.main(toy.Config, toy.run)
