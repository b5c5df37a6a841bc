"""Experiments: one file a task, run as `python -m experiments.NAME --flagfile=...`."""
