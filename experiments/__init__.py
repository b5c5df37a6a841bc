"""Experiments: one file a task, run as `jaxgan NAME` or `python -m experiments.NAME`."""

import sys

# `python -m experiments.NAME` is about to import JAX, for a second in which a signal may come.
if sys.argv[:1] == ["-m"]:
    from jaxgan.run import early

    early.prepare()
