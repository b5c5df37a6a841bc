"""What every experiment shares: its common flags, and the way from a config to a finished run."""

import dataclasses
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxgan import checkpoint, cli, images, loop, parallel, rundir, steps
from jaxgan.data import pipeline
from jaxgan.data.registry import Source
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, UserError


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
    save_every: int = cli.field(500, "Steps between checkpoints.", minimum=1, changeable=True)
    dry_run: bool = cli.field(
        False, "Prints settings, sizes, devices and memory, and exits.", changeable=True
    )

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that steps and norms average over; None in the global view."""
        return parallel.AXIS if self.parallel == "pmap" else None


def train(
    config: RunConfig,
    *,
    source: Source,
    init: Callable[[Key], GANState],
    step: StepFn,
    samples: Callable[[GANState, Key], np.ndarray],
) -> GANState | None:
    """Runs an experiment: resumes or starts it, trains, logs, samples and saves.

    Args:
      config: its flags.
      source: the training data, see `jaxgan.data`.
      init: key -> fresh state.
      step: the training step, before compilation.
      samples: (state, key) -> images [N, H, W, C] in [-1, 1] for the grid; the key is the same each
        time.

    Returns:
      The final state; None after a dry run.

    Raises:
      UserError: the settings cannot work, or belong to another run.
      SystemExit: a signal ended training, after saving; code 128 + signal.
    """
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, mesh.size)
    init_key, train_key, sample_key = jax.random.split(jax.random.key(config.seed), 3)
    step = steps.on_batch(pipeline.prepare, step)
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
        checkpoint.manager(run.checkpoints) as manager,
    ):
        state = parallel.replicate(jax.jit(init)(init_key), mesh)
        if checkpoint.finished_steps(manager):
            state = checkpoint.restore(manager, state)
        start = int(state.step)
        if start >= config.num_steps:
            print(f"finished: {run.path} is at step {start}, asked for {config.num_steps}")
            return state
        print(
            f"{'resuming after' if start else 'starting at'} step {start} in {run.path}", flush=True
        )
        run.start_logs(start)

        def save_samples(step: int, state: GANState) -> None:
            run.save_samples(step, images.grid(images.to_uint8(samples(state, sample_key))))

        guard = loop.Guard()
        log = loop.Log(
            run.log,
            every=config.log_every,
            start=start,
            num_steps=config.num_steps,
            batch_size=config.batch_size,
        )
        hooks = (
            guard,
            log,
            loop.sample_every(config.sample_every, config.num_steps, save_samples),
            loop.save_every(config.save_every, config.num_steps, manager, guard.flush),
            interrupts,
        )
        try:
            state = loop.fit(
                _compiled(step, config, mesh),
                state,
                _batches(source, config, start, mesh),
                key=train_key,
                num_steps=config.num_steps,
                hooks=hooks,
            )
        except loop.Interrupted as stop:
            guard.flush()
            checkpoint.save(manager, stop.state)
            manager.wait_until_finished()
            print(
                f"{stop}: saved step {int(stop.state.step)}; the same command resumes", flush=True
            )
            raise SystemExit(128 + stop.signum) from None
        finally:
            log.close()
        print(f"finished: {run.path} is at step {config.num_steps}; see its samples/", flush=True)
        return state


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


def _compiled(step: StepFn, config: RunConfig, mesh: parallel.Mesh) -> StepFn:
    if config.parallel == "pmap":
        return parallel.pmap_step(step, mesh=mesh)
    return parallel.jit_step(step, mesh)


def _batches(
    source: Source, config: RunConfig, start: int, mesh: parallel.Mesh
) -> Iterator[Mapping[str, Any]]:
    """Batches from a step on; a dataset that is to stay on the devices is put there once."""
    batches = pipeline.batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    resident = None
    for batch in batches:
        if parallel.RESIDENT in batch:
            if resident is None:
                resident = parallel.replicate(batch[parallel.RESIDENT], mesh)
            batch = {**batch, parallel.RESIDENT: resident}
        yield batch


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
