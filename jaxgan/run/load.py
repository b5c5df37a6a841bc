"""The way from a run directory back to its generator."""

import dataclasses
import importlib
import os
import pathlib
import re
from typing import Any, NamedTuple

from jaxgan.run import checkpoint, rundir, scoring
from jaxgan.types import PyTree, UserError


def load_run(workdir: str | os.PathLike) -> tuple[Any, Any, int]:
    """Finds the experiment and the settings that a run was made with.

    Args:
      workdir: its run directory.

    Returns:
      (module of the experiment, its config, number of labels in its training data).

    Raises:
      UserError: there is no run, or it is not of an experiment of this project.
    """
    record = rundir.read_config(pathlib.Path(workdir).expanduser())
    name = record["experiment"]
    # A record is data: it may choose among the experiments, not import whatever it likes.
    if not re.fullmatch(r"experiments\.\w+", name):
        raise UserError(f"{workdir} holds a run of {name}, which is not one of experiments.*")
    module = importlib.import_module(name)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    unknown = sorted(set(record["config"]) - fields)
    if unknown:
        raise UserError(f"{workdir} was made by another version: it has the setting {unknown[0]}")
    return module, module.Config(**record["config"]), int(record["data"]["num_classes"])


class Trained(NamedTuple):
    """A generator as a run left it.

    Attributes:
      gen: the module.
      variables: its moving average, NumPy arrays.
      config: the settings of the run.
      step: the step of the checkpoint.
    """

    gen: Any
    variables: PyTree
    config: Any
    step: int


def load_generator(workdir: str | os.PathLike, *, which: str = "newest") -> Trained:
    """Loads the generator of one of a run's checkpoints, from its directory alone.

    Args:
      workdir: the run directory of an experiment with `players(config, *, num_classes)`.
      which: "newest", "best" by the run's `eval_metric`, or a step.

    Returns:
      The generator, its variables, the run's settings and the step.

    Raises:
      UserError: there is no run, or no such checkpoint.
    """
    module, config, num_classes = load_run(workdir)
    path = pathlib.Path(workdir).expanduser()
    saved = checkpoint.sampled_steps(path / "checkpoints")
    if not saved:
        raise UserError(f"{workdir} has no checkpoint yet; train past --save_every")
    step = None  # the newest that is not damaged
    if which != "newest":
        lines = rundir.read_metrics(path)
        step = scoring.choose_step(which, lines=lines, metric=config.eval_metric, steps=saved)
    step, variables = checkpoint.restore_generator(path / "checkpoints", step=step)
    gen, _ = module.players(config, num_classes=num_classes)
    return Trained(gen, variables, config, step)
