"""What every experiment shares: its common flags, and the way from a config to a finished run."""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import checkpoint, cli, images, loop, parallel, rundir, scoring, steps
from jaxgan.data import pipeline
from jaxgan.data.registry import Source
from jaxgan.metrics import evaluate, reference
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, PyTree, UserError


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The flags of every experiment that trains."""

    workdir: str = cli.field(
        "", "Directory of the run; the same command again resumes it.", changeable=True
    )
    dataset: str = cli.field(
        "digits", "Training images: digits (bundled), mnist, fashion_mnist, ..., arrays, folder."
    )
    data_dir: str = cli.field(
        "", "Where the data are: idx files, an .npz file, a folder of images.", changeable=True
    )
    num_steps: int = cli.field(
        2000, "Steps to train for, counted from the start.", minimum=1, changeable=True
    )
    batch_size: int = cli.field(128, "Images a step, over all devices.", minimum=1)
    seed: int = cli.field(0, "Seed of everything random.", minimum=0)
    parallel: str = cli.field(
        "jit",
        "How the step spreads over devices.",
        choices=("jit", "pmap"),
        changeable=True,
    )
    cpu_devices: int = cli.field(
        0, "Fake CPU devices to train on, for trying; 0 uses the real ones.", minimum=0,
        changeable=True,
    )  # fmt: skip
    log_every: int = cli.field(50, "Steps between logged metrics.", minimum=1, changeable=True)
    sample_every: int = cli.field(500, "Steps between sample grids.", minimum=1, changeable=True)
    num_samples: int = cli.field(100, "Images in a sample grid.", minimum=1, changeable=True)
    save_every: int = cli.field(500, "Steps between checkpoints.", minimum=1, changeable=True)
    eval_every: int = cli.field(
        0, "Steps between scores against the test split; 0 for none.", minimum=0, changeable=True
    )
    eval_samples: int = cli.field(
        10_000,
        "Samples of a score, and test images at most.",
        minimum=reference.MIN_IMAGES,
        changeable=True,
    )
    eval_metric: str = cli.field(
        "frechet_distance",
        "Metric by which the best checkpoint is kept beside the newest.",
        choices=tuple(evaluate.BETTER),
        changeable=True,
    )
    eval_features: str = cli.field(
        "classifier", "What scores compare images by.", choices=reference.KINDS, changeable=True
    )
    eval_weights: str = cli.field(
        "", "File of those features' weights, where not in its usual place.", changeable=True
    )
    compute_dtype: str = cli.field(
        "float32",
        "Number format of the networks' computation; parameters, losses and penalties are float32.",
        choices=("float32", "bfloat16"),
    )
    steps_per_call: int = cli.field(
        1,
        "Steps run in one launch; more than 1 helps small nets on accelerators, not on CPU.",
        minimum=1,
        changeable=True,
    )
    on_nonfinite: str = cli.field(
        "stop",
        "Where a player has NaN or infinity: stop; skip the step; or roll back to the last "
        "checkpoint and go on with other random numbers.",
        choices=("stop", "skip", "rollback"),
        changeable=True,
    )
    max_rollbacks: int = cli.field(
        3, "Rollbacks of a run before it stops.", minimum=1, changeable=True
    )
    compilation_cache: str = cli.field(
        "~/.cache/jaxgan",
        "Directory of compiled programs, for a faster second start; empty for none.",
        changeable=True,
    )
    keep_memory: bool = cli.field(
        True,
        "On CPU, keeps freed memory for the next step: faster, never smaller.",
        changeable=True,
    )
    dry_run: bool = cli.field(
        False, "Prints settings, sizes, devices and memory, and exits.", changeable=True
    )

    def __post_init__(self):
        """Checks every field, and that launches end where something is due."""
        cli.check(self)
        if self.eval_every and self.eval_features == "inception" and not self.eval_weights:
            raise UserError("--eval_features=inception needs --eval_weights=FILE, its weights")
        for name in ("num_steps", "log_every", "sample_every", "save_every", "eval_every"):
            if getattr(self, name) % self.steps_per_call:
                raise UserError(
                    f"--steps_per_call={self.steps_per_call} does not divide "
                    f"--{name}={getattr(self, name)}"
                )

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that steps and norms average over; None in the global view."""
        return parallel.AXIS if self.parallel == "pmap" else None


def initialize(config: RunConfig) -> None:
    """Prepares the process for a run; call it before anything touches a device.

    Args:
      config: its flags.

    Raises:
      UserError: the devices asked for cannot be made.
    """
    parallel.initialize(
        cpu_devices=config.cpu_devices,
        compilation_cache=config.compilation_cache,
        keep_memory=config.keep_memory,
    )


def train(
    config: RunConfig,
    *,
    source: Source,
    init: Callable[[Key], GANState],
    step: StepFn,
    samples: scoring.Samples,
) -> GANState | None:
    """Runs an experiment: resumes or starts it, trains, logs, samples, scores and saves.

    Args:
      config: its flags.
      source: the training data, see `jaxgan.data`.
      init: key -> fresh state.
      step: the training step, before compilation.
      samples: (state, key, N) -> images [N, H, W, C] in [-1, 1]; the key is the same each time.

    Returns:
      The final state; None after a dry run.

    Raises:
      UserError: the settings cannot work, or belong to another run.
      SystemExit: a signal ended training, after saving; code 128 + signal.
    """
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, mesh.size)
    init_key, train_key, sample_key = jax.random.split(jax.random.key(config.seed), 3)
    init, step = _guarded(config, init, step)
    step = steps.on_batch(pipeline.prepare, step)
    scorer = _scorer(config, source)
    if config.dry_run:
        _describe(config, source, jax.eval_shape(init, init_key), step, mesh.size)
        return None
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of the run")

    with (
        loop.Interrupts() as interrupts,
        rundir.RunDir(
            config.workdir,
            config,
            experiment=_module_of(config),
            data={"fingerprint": source.fingerprint, "num_classes": source.num_classes},
        ) as run,
        checkpoint.manager(run.checkpoints, best=_best(config, run.path)) as manager,
    ):

        def last_good() -> GANState:
            fresh = parallel.replicate(jax.jit(init)(init_key), mesh)
            manager.wait_until_finished()
            return _restore(manager, fresh) if checkpoint.finished_steps(manager) else fresh

        state = last_good()
        start = int(state.step)
        if start % config.steps_per_call:
            raise UserError(
                f"--steps_per_call={config.steps_per_call} does not divide step {start}"
            )
        if start >= config.num_steps:
            print(f"finished: {run.path} is at step {start}, asked for {config.num_steps}")
            return state
        print(
            f"{'resuming after' if start else 'starting at'} step {start} in {run.path}", flush=True
        )
        if scorer:
            scorer.prepare()
        compiled = _compiled(step, config, mesh)

        def go_on(state: GANState) -> GANState:
            start = int(state.step)
            run.start_logs(start)
            guard = loop.Guard()

            def save_samples(step: int, state: GANState) -> None:
                guard.flush()  # a state that is not finite has no picture
                made = samples(state, sample_key, config.num_samples)
                run.save_samples(step, images.grid(images.to_uint8(made)))

            log = loop.Log(
                run.log,
                every=config.log_every,
                start=start,
                num_steps=config.num_steps,
                batch_size=config.batch_size,
            )

            def flush() -> None:
                guard.flush()
                log.flush()  # a run killed right after a checkpoint has logged up to it

            def score(step: int, state: GANState) -> None:
                assert scorer is not None
                flush()
                values = scorer(state, samples)
                # The line comes before the checkpoint: a run killed between the two scores again.
                name = f"eval/{config.eval_metric}"
                log.insert(
                    step, values, f"step {step}/{config.num_steps}  {name} {values[name]:.4f}"
                )
                saved = [*checkpoint.finished_steps(manager), step]
                if _best(config, run.path)(saved) == step:
                    checkpoint.save(manager, state)

            hooks = (
                guard,
                log,
                loop.sample_every(config.sample_every, config.num_steps, save_samples),
                *(
                    [loop.sample_every(config.eval_every, config.num_steps, score)]
                    if scorer
                    else []
                ),
                loop.save_every(config.save_every, config.num_steps, manager, flush),
                interrupts,
            )
            try:
                with contextlib.closing(_batches(source, config, start, mesh)) as batches:
                    state = loop.fit(
                        compiled,
                        state,
                        batches,
                        key=train_key,
                        num_steps=config.num_steps,
                        hooks=hooks,
                        steps_per_call=config.steps_per_call,
                    )
            except loop.Interrupted as stop:
                guard.flush()
                checkpoint.save(manager, stop.state)
                manager.wait_until_finished()
                log.flush()
                print(
                    f"{stop}: saved step {int(stop.state.step)}; the same command resumes",
                    flush=True,
                )
                raise SystemExit(128 + stop.signum) from None
            finally:
                log.close()
            return state

        while True:
            times = _rollbacks(state)
            try:
                state = go_on(state)
                break
            except loop.Diverged as error:
                if config.on_nonfinite != "rollback":
                    raise
                state = _rolled_back(error, last_good(), times + 1, config.max_rollbacks)
        print(f"finished: {run.path} is at step {config.num_steps}; see its samples/", flush=True)
        return state


def _guarded(
    config: RunConfig, init: Callable[[Key], GANState], step: StepFn
) -> tuple[Callable[[Key], GANState], StepFn]:
    """Start and step of a run that goes on where a player is not finite, where that is wanted."""
    if config.on_nonfinite == "stop":
        return init, step
    wrap = {"skip": steps.skip_nonfinite, "rollback": steps.after_rollback}[config.on_nonfinite]
    return lambda key: steps.init_guard(init(key)), wrap(step)


def _restore(manager: Any, fresh: GANState) -> GANState:
    """The newest checkpoint, also of a run that began with or without the counts of the guard."""
    try:
        return checkpoint.restore(manager, fresh)
    except UserError:
        extra = dict(fresh.extra)
        counts = extra.pop(steps.GUARD, None)
        other = fresh.replace(extra=extra) if counts else steps.init_guard(fresh)
        try:
            state = checkpoint.restore(manager, other)
        except UserError:
            state = None
        if state is None:
            raise
        extra = {name: value for name, value in state.extra.items() if name != steps.GUARD}
        return state.replace(extra={**extra, steps.GUARD: counts} if counts else extra)


def _rollbacks(state: GANState) -> int:
    """How often a run was rolled back before this state."""
    return int(state.extra.get(steps.GUARD, {}).get("rollbacks", 0))


def _rolled_back(error: loop.Diverged, state: GANState, times: int, limit: int) -> GANState:
    """The last good state, to go on from with the random numbers of one more rollback.

    The count is kept in memory, not taken from the checkpoint, which may be older than the rollback
    before; a killed run comes through the same rollbacks again.
    """
    what = str(error).partition(";")[0]
    if times > limit:
        raise loop.Diverged(
            f"{what}; stopped after {limit} rollbacks. Lower the learning rates, or add a penalty, "
            "and use another workdir"
        ) from error
    counts = state.extra[steps.GUARD]
    # In place of the old count, on the same devices.
    now = jax.device_put(np.int32(times), counts["rollbacks"].sharding)
    print(
        f"warning: {what}; back to step {int(state.step)} with other random numbers, "
        f"{times} of {limit}",
        flush=True,
    )
    return state.replace(extra={**state.extra, steps.GUARD: {**counts, "rollbacks": now}})


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
    step = scoring.choose_step(
        which, lines=rundir.read_metrics(path), metric=config.eval_metric, steps=saved
    )
    step, variables = checkpoint.restore_generator(path / "checkpoints", step=step)
    gen, _ = module.players(config, num_classes=num_classes)
    return Trained(gen, variables, config, step)


def _scorer(config: RunConfig, source: Source) -> scoring.Scorer | None:
    """What measures the generator as it trains, where that is asked for."""
    if not config.eval_every:
        return None
    return scoring.Scorer(
        dataset=config.dataset,
        data_dir=config.data_dir,
        image_shape=source.image_shape,
        kind=config.eval_features,
        weights=config.eval_weights,
        num=config.eval_samples,
    )


def _best(config: RunConfig, workdir: pathlib.Path) -> Callable[[Sequence[int]], int | None]:
    """Names the best among saved steps, by the log as it is when asked."""
    return lambda saved: scoring.best_step(rundir.read_metrics(workdir), config.eval_metric, saved)


def _compiled(step: StepFn, config: RunConfig, mesh: parallel.Mesh) -> StepFn:
    if config.steps_per_call > 1:
        step = steps.fused(step, config.steps_per_call)
    if config.parallel == "pmap":
        return parallel.pmap_step(step, mesh=mesh)
    options = parallel.compiler_options(config.compute_dtype)
    return parallel.jit_step(step, mesh, compiler_options=options)


def _batches(
    source: Source, config: RunConfig, start: int, mesh: parallel.Mesh
) -> Generator[Mapping[str, Any], None, None]:
    """What each call of the step takes; a resident dataset goes to the devices once."""
    batches = pipeline.batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    resident = None
    with contextlib.closing(batches):
        while True:
            launch = [dict(next(batches)) for _ in range(config.steps_per_call)]
            data = [batch.pop(parallel.RESIDENT, None) for batch in launch][0]
            if data is not None and resident is None:
                resident = {parallel.RESIDENT: parallel.replicate(data, mesh)}
            rows = launch[0]
            if config.steps_per_call > 1:
                rows = {name: np.stack([b[name] for b in launch], axis=1) for name in rows}
            yield {**rows, **(resident or {})}


def _describe(
    config: RunConfig, source: Source, state: GANState, step: StepFn, num_devices: int
) -> None:
    """Prints what a run would be. Memory is that of the compiled step on one device."""
    rows = config.batch_size // num_devices
    example = jax.tree.map(np.asarray, source[np.zeros(1, np.int64)])
    batch = {k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in example.items()}
    print(cli.as_flags(config), end="")
    print(f"data: {source.name}, {len(source)} images of {source.image_shape}")
    print(f"generator: {loop.count(state.gen.params):,} parameters")
    print(f"discriminator: {loop.count(state.disc.params):,} parameters")
    kind = jax.devices()[0].device_kind
    print(f"devices: {num_devices} x {kind}, {rows} images on each, under {config.parallel}")
    if config.parallel == "jit":
        key = jax.eval_shape(lambda: jax.random.key(0))
        memory = (
            jax.jit(step, donate_argnums=1).lower(key, state, batch).compile().memory_analysis()
        )
        if memory is not None:
            size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            print(f"memory: about {size / 2**20:,.0f} MiB on each device: state, batch and step")


def _module_of(config: RunConfig) -> str:
    """The module a config was defined in, also where that module is the one being run."""
    name = type(config).__module__
    main = sys.modules["__main__"].__spec__ if name == "__main__" else None
    return main.name if main else name
