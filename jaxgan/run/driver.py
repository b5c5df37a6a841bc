"""From a config to a finished run: builds the experiment, resumes or starts it, trains."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgan import data, parallel, steps
from jaxgan.data import pipeline
from jaxgan.data import spec as specs
from jaxgan.data.registry import Source
from jaxgan.data.spec import Spec
from jaxgan.metrics import modes
from jaxgan.parallel import processes
from jaxgan.run import (
    checkpoint,
    early,
    history,
    launch,
    resume,
    rundir,
    scoring,
    session,
    shared,
    signals,
    tidy,
    transfer,
)
from jaxgan.run.config import DataConfig, RunConfig
from jaxgan.run.experiment import Build, Experiment
from jaxgan.run.session import Session, say
from jaxgan.state import GANState, StepFn
from jaxgan.types import UserError

Open = Callable[[Any], Source | Spec]  # config -> training data, or what the step makes


def load_source(config: Any) -> Source:
    """Opens the training data that the flags of a dataset name: the default of `train`.

    Args:
      config: with `dataset` and `data_dir`, and where it has them `image_size`, or `height` and
        `width`, `channels`, `max_bad_records` and `holdout`.

    Returns:
      The source.
    """
    options = ("image_size", "channels", "max_bad_records", "holdout")
    given = {name: getattr(config, name) for name in options if hasattr(config, name)}
    if getattr(config, "height", 0):
        given["image_size"] = config.height, config.width
    return data.load(config.dataset, data_dir=config.data_dir, **given)


@early.lasting_output()
def train(config: RunConfig, *, build: Build, source: Open = load_source) -> GANState | None:
    """Runs an experiment: resumes or starts it, trains, logs, samples, scores and saves.

    Args:
      config: its flags.
      build: `(config, spec) -> Experiment`. Where it and the class of `config`, named `Config`, are
        defined in one module, the run can be loaded again by that module's name.
      source: `config -> training data`, called once devices and processes are ready; or
        `config -> Spec` for a step that makes its own data.

    Returns:
      The final state, of which each process has `gen_ema` for itself; None after a dry run.

    Raises:
      UserError: the settings cannot work, or belong to another run.
      SystemExit: a signal ended training, after saving; code 128 + signal.
    """
    launch.initialize(config)
    begin, opened = time.perf_counter(), source(config)
    examples = None if isinstance(opened, Spec) else opened
    spec = opened if isinstance(opened, Spec) else specs.describe(opened)
    config = launch.resolved(config, spec)
    experiment = build(config, spec)
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, mesh.size, accumulate=config.micro_batches)
    if config.parallel == "pmap" and processes.several():
        raise UserError("--parallel=pmap spreads over one process only; use --parallel=jit")
    guarded_init, guarded = _guards(config)
    stages, init_one = _stages(config, spec, build, experiment), guarded_init(experiment.init)

    def whole(step: StepFn) -> StepFn:
        step = guarded(step)
        return step if examples is None else steps.map_batch(pipeline.prepare, step)

    keys, init = launch.keys(config), launch.init(config, init_one)
    processes.check_alike({**_common(config), "training data": spec.fingerprint})
    scorer = processes.call_on_all(lambda: _scorer(config, experiment, spec, examples))
    shapes = jax.eval_shape(init, keys.init)
    shardings = parallel.state_sharding(shapes, mesh, shard_params=config.shard_params)
    place = pathlib.Path(config.workdir).expanduser()
    new = not config.workdir or not (place / "config.json").exists()

    @functools.cache
    def origin() -> transfer.Origin:
        metric = scoring.best_metric(config, experiment)
        return transfer.find(config, shapes, module=_module_of(config), metric=metric)

    if config.init_from and new:
        origin()  # what does not fit leaves no directory behind, and compiles nothing
    if config.dry_run:
        one = jax.eval_shape(init_one, jax.eval_shape(lambda: jax.random.key(0)))
        launch.describe(config, examples, one, whole(stages[-1][1][0]), mesh.size)
        _say_frozen(experiment)
        return None
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of the run")
    if new and config.init_players != "both" and not config.init_from:
        raise UserError(
            f"--init_players={config.init_players} needs --init_from=RUN, whose players they are"
        )
    tidy.check_path(place.resolve())

    def fresh() -> GANState:
        return jax.jit(init, out_shardings=shardings)(keys.init)

    def start_state() -> GANState:
        if config.init_from:
            say(f"players of {config.init_from}, step {origin().step}")
            return transfer.start(origin(), fresh())
        return resume.forked(config, fresh()) if config.fork_from else fresh()

    if config.fork_from and new:
        start_state()  # what cannot be forked leaves no directory behind
    with (
        signals.Interrupts(parallel.Vote(mesh)) as interrupts,
        processes.call_on_all(lambda: _folder(config, spec)) as folder,
        contextlib.nullcontext(shared.check(folder.path)),
        checkpoint.manager(
            folder.checkpoints,
            best=_best(config, experiment, folder.path),
            every=config.save_every,
            run_id=folder.run_id,
        ) as manager,
        processes.fail_together(),
    ):
        run = Session(
            config=config,
            experiment=experiment,
            source=examples,
            spec=spec,
            mesh=mesh,
            folder=folder,
            manager=manager,
            interrupts=interrupts,
            scorer=scorer,
            fresh=fresh,
            start=start_state,
            keys=keys,
        )
        state = run.last_good()
        start = int(state.step)
        if start % config.steps_per_call:
            raise UserError(
                f"--steps_per_call={config.steps_per_call} does not divide step {start}"
            )
        if start < config.num_steps:
            begun = "resuming after" if start else "starting at"
            say(f"{begun} step {start} in {folder.path}{_company()}")
            _say_frozen(experiment)
            run.check_space(state)
            if scorer:
                scorer.prepare()
            with (
                history.session(folder, start),
                launch.out_of_memory_in_one_line(config, mesh),
            ):
                launched = {
                    step: launch.compiled(
                        whole(step), config, mesh, shardings, per_seed=examples is not None
                    )
                    for _, turns in stages
                    for step in turns
                }
                state = run.to_the_end(
                    [(end, [launched[step] for step in turns]) for end, turns in stages], state
                )
            # All wait here: a process that left would take the others' last save along.
            manager.wait_until_finished()
            resume.check_trained(state)
            say(f"finished: {folder.path} is at step {config.num_steps}; see its samples/")
        else:
            resume.check_trained(state)
            say(f"finished: {folder.path} is at step {start}, asked for {config.num_steps}")
        interrupts.end()
        state = session.with_own_generator(state)
        if experiment.score and processes.is_main():
            _report(
                run, state, seconds=time.perf_counter() - begin, trained=start < config.num_steps
            )
        return state


def _say_frozen(experiment: Experiment) -> None:
    if experiment.frozen:
        say(f"frozen in the discriminator: {', '.join(experiment.frozen)}")


def _report(run: Session, state: GANState, *, seconds: float, trained: bool) -> None:
    """Prints the row of the experiment's own table, measured where it was not yet."""
    path = run.folder.path / "results.json"
    row = None if trained else _written_row(path)
    say(row or modes.table_row(run.results(state, seconds) or {}))


def _written_row(path: pathlib.Path) -> str | None:
    """The row that a file of results holds; None where there is none, or not a whole one."""
    try:
        return modes.table_row(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        say(f"note: {path} cannot be read; it is measured again")
        return None


def _company() -> str:
    count = jax.process_count()
    return f", with {count} processes of {jax.local_device_count()} devices" if count > 1 else ""


def _common(config: RunConfig) -> dict[str, Any]:
    """The settings that all processes must have alike."""
    own = ("process_id", "data_dir", "compilation_cache", "coordinator_address")
    return {name: v for name, v in dataclasses.asdict(config).items() if name not in own}


def _folder(config: RunConfig, spec: Spec) -> rundir.RunDir:
    """The run directory, which process 0 takes for all."""
    return rundir.RunDir(
        config.workdir,
        config,
        experiment=_module_of(config),
        data=specs.to_record(spec),
        upgraded=getattr(sys.modules[type(config).__module__], "upgraded", lambda record: record),
        main=processes.is_main(),
    )


def _stages(
    config: RunConfig, spec: Spec, build: Build, experiment: Experiment
) -> list[tuple[int, Sequence[StepFn]]]:
    """The steps of a run in their order: until when each stage lasts, and what takes turns in it.

    On CPU what is due every few steps only is in a program of its own, for branches are slow there
    (`steps.when`).
    """
    *first, (end, step) = experiment.stages(config.num_steps)
    apart = jax.default_backend() == "cpu" and config.steps_per_call == 1
    cycle = config.cycle() if apart else (config,)
    made = {config: step}
    for one in cycle:
        if one not in made:
            made[one] = build(one, spec).step
    return [*((until, (step,)) for until, step in first), (end, [made[one] for one in cycle])]


def _guards(config: RunConfig) -> tuple[Callable[[Any], Any], Callable[[StepFn], StepFn]]:
    """What guards start and steps of a run against NaN and infinity, where that is asked for."""
    if config.on_nonfinite == "stop":
        return lambda init: init, lambda step: step
    wrap = {"skip": steps.skip_nonfinite, "rollback": steps.after_rollback}[config.on_nonfinite]
    return lambda init: lambda key: steps.init_guard(init(key)), wrap


def _scorer(
    config: RunConfig, experiment: Experiment, spec: Spec, source: Source | None
) -> scoring.Scorer | None:
    """What measures the generator as it trains, where that is asked for."""
    if not config.eval_every or not processes.is_main():
        return None
    if experiment.score:
        return scoring.TaskScorer(experiment.score)
    if not isinstance(config, DataConfig):
        raise UserError("--eval_every: the experiment has no score, and no dataset to compare with")
    return scoring.ImageScorer(
        dataset=config.dataset,
        data_dir=config.data_dir,
        image_shape=spec.shapes["image"],  # pyright: ignore[reportArgumentType]
        kind=config.eval_features,
        weights=config.eval_weights,
        num=config.eval_samples,
        holdout=config.holdout,
        train=source,
    )


def _best(
    config: RunConfig, experiment: Experiment, workdir: pathlib.Path
) -> Callable[[Sequence[int]], int | None]:
    """Names the best among saved steps, by the log as it is when asked."""
    metric = scoring.best_metric(config, experiment)
    return lambda saved: scoring.best_step(rundir.read_metrics(workdir), metric, saved)


def _module_of(config: RunConfig) -> str:
    """The module a config was defined in, also where that module is the one being run."""
    name = type(config).__module__
    main = sys.modules["__main__"].__spec__ if name == "__main__" else None
    return main.name if main else name
