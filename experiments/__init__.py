"""Experiments: one file a task, run as `jaxgan NAME` or `python -m experiments.NAME`."""
