"""The way from a run directory back to its experiment and its generator."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import types
from jaxgan.data import spec as specs
from jaxgan.data.spec import Spec
from jaxgan.run import checkpoint, rundir, scoring
from jaxgan.run.experiment import Build, Experiment, members
from jaxgan.types import Key, PyTree, UserError


class Run(NamedTuple):
    """What a run directory says a run is.

    Attributes:
      experiment: built from the two below.
      config: its settings.
      spec: of its training data.
    """

    experiment: Experiment
    config: Any
    spec: Spec


class Trained(NamedTuple):
    """A generator as a run left it.

    Attributes:
      experiment: the task.
      config: the settings of the run.
      spec: of its training data.
      variables: the generator's moving average, NumPy arrays; of a run of several seeds each with
        a leading axis of them.
      step: the step of the checkpoint.
    """

    experiment: Experiment
    config: Any
    spec: Spec
    variables: PyTree
    step: int

    def members(self) -> list[PyTree]:
        """Tells the seeds of a run apart.

        Returns:
          The variables of each seed's generator, in order; of a run of one seed just one.
        """
        return members(self.variables, self.config)

    def sample(self, key: Key, num: int, *, member: int = 0) -> Mapping[str, np.ndarray]:
        """Draws samples of the generator.

        Args:
          key: consumed.
          num: how many.
          member: which of the run's seeds, from 0.

        Returns:
          Entries [num, ...] on the host, as the experiment's `sample` makes them.
        """
        entries = self.experiment.sample(self.members()[member], key, num)
        return {name: np.asarray(value) for name, value in entries.items()}


def load_run(workdir: str | os.PathLike, *, build: Build | None = None, module: str = "") -> Run:
    """Builds the experiment that a run was made with.

    Args:
      workdir: its run directory.
      build: the `build(config, spec)` of an experiment of one's own; the module that defines it has
        its `Config`.
      module: the importable name of such a module, in place of `build`. By default the run's own
        record chooses among the bundled experiments.

    Returns:
      The experiment, its config and the spec of its data.

    Raises:
      UserError: there is no run, or it is not of a bundled experiment and nothing else is given, or
        it was made with settings that the experiment does not have.
    """
    record = rundir.read_config(pathlib.Path(workdir).expanduser())
    owner = sys.modules[build.__module__] if build else _module(record, module, workdir)
    make: Build = build or owner.build
    config_type = owner.Config
    record = getattr(owner, "upgraded", lambda record: record)(record)
    fields = {field.name for field in dataclasses.fields(config_type)}
    unknown = sorted(set(record["config"]) - fields)
    if unknown:
        name = types.one_line(unknown[0], limit=80)
        raise UserError(f"{workdir} was made by another version: it has the setting {name}")
    with _as_recorded(workdir, bundled=not (build or module)):
        config, spec = config_type(**record["config"]), specs.from_record(record["data"])
        return Run(make(config, spec), config, spec)


def load(
    workdir: str | os.PathLike,
    *,
    which: str = "newest",
    build: Build | None = None,
    module: str = "",
) -> Trained:
    """Loads the generator of one of a run's checkpoints, from its directory alone.

    Args:
      workdir: the run directory.
      which: "newest", "best" by the run's score, or a step.
      build: see `load_run`.
      module: see `load_run`.

    Returns:
      The generator and what is needed to sample it.

    Raises:
      UserError: there is no run, or no such checkpoint.
    """
    run = load_run(workdir, build=build, module=module)
    path = pathlib.Path(workdir).expanduser()
    saved = checkpoint.sampled_steps(path / "checkpoints")
    if not saved:
        raise UserError(f"{workdir} has no checkpoint yet; train past --save_every")
    step = None  # the newest that is not damaged
    if which != "newest":
        lines = rundir.read_metrics(path)
        metric = scoring.best_metric(run.config, run.experiment)
        step = scoring.choose_step(which, lines=lines, metric=metric, steps=saved)
    with _as_recorded(workdir, bundled=not (build or module)):
        wanted = _generator_shapes(run)
    step, variables = checkpoint.restore_generator(path / "checkpoints", wanted=wanted, step=step)
    return Trained(*run, variables, step)


def _generator_shapes(run: Run) -> PyTree:
    """Shapes and dtypes of the variables that a run's generator has, which nothing is made of."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    one = jax.eval_shape(run.experiment.init, key).gen_ema
    lead = (run.config.seeds,) if run.config.is_ensemble else ()
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype), one)


def _module(record: Mapping[str, Any], name: str, workdir: str | os.PathLike) -> Any:
    """The module of a run's experiment: the one given, or that of its record."""
    if name:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"--module={name} cannot be imported: {error}") from error
        missing = [part for part in ("Config", "build") if not hasattr(module, part)]
        if missing:
            raise UserError(f"--module={name} has no {missing[0]}; an experiment has both")
        return module
    name = record["experiment"]
    # A record is data: it may choose among the experiments, not import whatever it likes.
    if not re.fullmatch(r"experiments\.[a-z]\w*", name) or not importlib.util.find_spec(name):
        raise UserError(
            f"{workdir} holds a run of {types.one_line(name, limit=80)}, which is not one of "
            "experiments.*; give the module that defines it: --module=NAME, or "
            "load(workdir, build=...)"
        )
    found = importlib.import_module(name)
    if not hasattr(found, "build"):
        raise UserError(f"{workdir} holds no run: {name} trains nothing that can be sampled")
    return found


@contextlib.contextmanager
def _as_recorded(workdir: str | os.PathLike, *, bundled: bool) -> Iterator[None]:
    """Turns an error over settings that no flags allow into one line.

    Only where the experiment is one of ours: with a person's own code, a traceback says more.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not bundled:
            raise
        reason = types.one_line(f"{type(error).__name__}: {error}", limit=200)
        raise UserError(f"{workdir}/config.json describes no network: {reason}") from error
