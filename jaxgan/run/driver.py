"""From a config to a finished run: resumes, trains, logs, samples, scores, saves, rolls back."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxgan import images, parallel, steps
from jaxgan.data import pipeline
from jaxgan.data.registry import Source
from jaxgan.parallel import processes
from jaxgan.run import checkpoint, hooks, launch, loop, rundir, saver, scoring, signals, watchdog
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, UserError


class OutOfMemory(UserError):
    """What was asked for does not fit the devices."""

    exit_code = 1


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
      The final state, of which each process has `gen_ema` for itself; None after a dry run.

    Raises:
      UserError: the settings cannot work, or belong to another run.
      SystemExit: a signal ended training, after saving; code 128 + signal.
    """
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, mesh.size)
    if config.parallel == "pmap" and processes.several():
        raise UserError("--parallel=pmap spreads over one process only; use --parallel=jit")
    init_key, train_key, sample_key = jax.random.split(jax.random.key(config.seed), 3)
    init, step = _guarded(config, init, step)
    step = steps.on_batch(pipeline.prepare, step)
    processes.check_alike({**_common(config), "training data": source.fingerprint})
    scorer = processes.agreed(lambda: _scorer(config, source))
    shapes = jax.eval_shape(init, init_key)
    shardings = parallel.state_sharding(shapes, mesh, shard_params=config.shard_params)
    if config.dry_run:
        launch.describe(config, source, shapes, step, mesh.size)
        return None
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of the run")

    with (
        signals.Interrupts(parallel.Vote(mesh)) as interrupts,
        processes.agreed(lambda: _folder(config, source)) as folder,
        checkpoint.manager(folder.checkpoints, best=_best(config, folder.path)) as manager,
        processes.together(),
    ):
        run = _Run(
            config=config,
            source=source,
            mesh=mesh,
            folder=folder,
            manager=manager,
            interrupts=interrupts,
            scorer=scorer,
            samples=samples,
            fresh=lambda: jax.jit(init, out_shardings=shardings)(init_key),
            train_key=train_key,
            sample_key=sample_key,
        )
        state = run.last_good()
        start = int(state.step)
        if start % config.steps_per_call:
            raise UserError(
                f"--steps_per_call={config.steps_per_call} does not divide step {start}"
            )
        if start >= config.num_steps:
            _say(f"finished: {folder.path} is at step {start}, asked for {config.num_steps}")
            return _with_own_generator(state)
        begun = "resuming after" if start else "starting at"
        _say(f"{begun} step {start} in {folder.path}{_company()}")
        run.check_space(state)
        if scorer:
            scorer.prepare()
        with _out_of_memory_in_one_line(config, mesh):
            state = run.to_the_end(launch.compiled(step, config, mesh, shardings), state)
        # Before anyone leaves, for whoever leaves first takes the others' last save along.
        manager.wait_until_finished()
        _say(f"finished: {folder.path} is at step {config.num_steps}; see its samples/")
        return _with_own_generator(state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run trains with, the same before and after a rollback."""

    config: RunConfig
    source: Source
    mesh: parallel.Mesh
    folder: rundir.RunDir
    manager: Any
    interrupts: signals.Interrupts
    scorer: scoring.Scorer | None
    samples: scoring.Samples
    fresh: Callable[[], GANState]
    train_key: Key
    sample_key: Key

    def last_good(self) -> GANState:
        """The newest checkpoint, or where there never was one a fresh state."""
        failed = self.manager.failure(wait=True)
        if failed:
            _say(f"warning: {failed}")
        step = checkpoint.good_step(self.manager, strict=self.config.strict_restore)
        state = self.fresh()
        return state if step is None else _restore(self.manager, state, step, self.mesh)

    def check_space(self, state: GANState) -> None:
        """Refuses to begin where the disk will be full before the first old checkpoint goes."""
        config, saved = self.config, len(checkpoint.finished_steps(self.manager))
        most = checkpoint.MAX_TO_KEEP + bool(config.eval_every) + 1  # old ones go after the new one
        to_come = -(-(config.num_steps - int(state.step)) // config.save_every)
        checkpoint.check_space(self.manager, state, more=max(1, min(most - saved, to_come)))

    def to_the_end(self, step: StepFn, state: GANState) -> GANState:
        """Trains to the last step, rolling back where a player diverges and that is wanted."""
        while True:
            times = _rollbacks(state)
            try:
                return self._fit(step, state)
            except hooks.Diverged as error:
                if self.config.on_nonfinite != "rollback":
                    raise
                state = self._rolled_back(error, times + 1)

    def _fit(self, step: StepFn, state: GANState) -> GANState:
        """Trains from a state to the last step; a signal saves and exits."""
        config, start = self.config, int(state.step)
        self.folder.start_logs(start)
        guard, newest = hooks.Guard(), hooks.Newest()
        log = hooks.Log(
            self.folder.log,
            every=config.log_every,
            start=start,
            num_steps=config.num_steps,
            batch_size=config.batch_size,
            show=processes.is_main(),
        )
        try:
            with (
                contextlib.closing(
                    launch.batches(self.source, config, start, self.mesh)
                ) as batches,
                watchdog.Watchdog(limit=config.data_timeout) as dog,
            ):
                return loop.fit(
                    step,
                    state,
                    dog.over(batches),
                    key=self.train_key,
                    num_steps=config.num_steps,
                    hooks=[newest, *self._hooks(guard, log)],
                    steps_per_call=config.steps_per_call,
                )
        except signals.Interrupted as stop:
            guard.flush()
            checkpoint.save(self.manager, stop.state)
            self.manager.wait_until_finished()
            log.flush()
            step_now = int(stop.state.step)
            _say(f"{stop}: saved step {step_now}; the same command resumes")
            raise SystemExit(128 + stop.signum) from None
        except UserError:
            raise  # nothing to save, or nothing more
        except Exception:
            self._save_whole(newest.take(), guard)
            raise
        finally:
            log.close()

    def _save_whole(self, state: GANState | None, guard: hooks.Guard) -> None:
        """Saves the state of the last whole step, where something after it has failed."""
        if state is None or jax.process_count() > 1:  # the other processes would not join in
            return
        try:
            guard.flush()
            checkpoint.save(self.manager, state)
            self.manager.wait_until_finished()
        except Exception as error:  # not the one to tell: that which came first is raised
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"warning: the last step is not saved: {reason}", flush=True)
        else:
            print(f"saved step {int(state.step)} before the error that follows", flush=True)

    def _hooks(self, guard: hooks.Guard, log: hooks.Log) -> list[loop.Hook]:
        """What happens after each step, in this order."""
        config = self.config

        def save_samples(step: int, state: GANState) -> None:
            guard.flush()  # a state that is not finite has no picture
            state = _with_own_generator(state)
            if processes.is_main():
                made = self.samples(state, self.sample_key, config.num_samples)
                self.folder.save_samples(step, images.grid(images.to_uint8(made)))

        def flush() -> None:
            guard.flush()
            log.flush()  # a run killed right after a checkpoint has logged up to it

        def score(step: int, state: GANState) -> None:
            flush()
            self._score(log, step, state)

        at, last = hooks.sample_every, config.num_steps
        return [
            guard,
            log,
            at(config.sample_every, last, save_samples),
            *([at(config.eval_every, last, score)] if config.eval_every else []),
            hooks.save_every(
                config.save_every,
                last,
                self.manager,
                flush,
                asked=self.interrupts.save_asked,
                stop=config.on_failed_save == "stop",
                wait=not config.async_saves,
            ),
            self.interrupts,
        ]

    def _score(self, log: hooks.Log, step: int, state: GANState) -> None:
        """Scores the generator, and saves it if it is the best so far."""
        own = _with_own_generator(state)
        if not processes.from_main(lambda: self._is_best(log, step, own)):
            return
        try:
            checkpoint.save(self.manager, state)
        except saver.SaveFailed as failed:
            if self.config.on_failed_save == "stop":
                raise
            _say(f"warning: {failed}; training goes on")

    def _is_best(self, log: hooks.Log, step: int, state: GANState) -> bool:
        """Scores the generator, and says whether none that is saved is better."""
        assert self.scorer is not None
        config, values = self.config, self.scorer(state, self.samples)
        # The line comes before the checkpoint: a run killed between the two scores again.
        name = f"eval/{config.eval_metric}"
        log.insert(step, values, f"step {step}/{config.num_steps}  {name} {values[name]:.4f}")
        saved = [*checkpoint.finished_steps(self.manager), step]
        return _best(config, self.folder.path)(saved) == step

    def _rolled_back(self, error: hooks.Diverged, times: int) -> GANState:
        """The last good state, to go on from with the random numbers of one more rollback.

        The count is kept in memory, not taken from the checkpoint, which may be older than the
        rollback before; a killed run comes through the same rollbacks again.
        """
        what, limit = str(error).partition(";")[0], self.config.max_rollbacks
        state = self.last_good()
        if times > limit:
            raise hooks.Diverged(
                f"{what}; stopped after {limit} rollbacks. Lower the learning rates, or add a "
                "penalty, and use another workdir"
            ) from error
        counts = state.extra[steps.GUARD]
        # In place of the old count, on the same devices.
        now = parallel.replicate(np.int32(times), self.mesh)
        _say(
            f"warning: {what}; back to step {int(state.step)} with other random numbers, "
            f"{times} of {limit}"
        )
        return state.replace(extra={**state.extra, steps.GUARD: {**counts, "rollbacks": now}})


def _say(text: str) -> None:
    """Tells the person watching; one process does."""
    if processes.is_main():
        print(text, flush=True)


def _company() -> str:
    count = jax.process_count()
    return f", with {count} processes of {jax.local_device_count()} devices" if count > 1 else ""


def _common(config: RunConfig) -> dict[str, Any]:
    """The settings that all processes must have alike."""
    own = ("process_id", "data_dir", "compilation_cache", "coordinator_address")
    return {name: v for name, v in dataclasses.asdict(config).items() if name not in own}


def _folder(config: RunConfig, source: Source) -> rundir.RunDir:
    """The run directory, which process 0 takes for all."""
    return rundir.RunDir(
        config.workdir,
        config,
        experiment=_module_of(config),
        data={"fingerprint": source.fingerprint, "num_classes": source.num_classes},
        main=processes.is_main(),
    )


def _with_own_generator(state: GANState) -> GANState:
    """A state whose generator this process can sample by itself; all must ask for it."""
    return state.replace(gen_ema=parallel.local_copy(state.gen_ema))


def _guarded(
    config: RunConfig, init: Callable[[Key], GANState], step: StepFn
) -> tuple[Callable[[Key], GANState], StepFn]:
    """Start and step of a run that goes on where a player is not finite, where that is wanted."""
    if config.on_nonfinite == "stop":
        return init, step
    wrap = {"skip": steps.skip_nonfinite, "rollback": steps.after_rollback}[config.on_nonfinite]
    return lambda key: steps.init_guard(init(key)), wrap(step)


@contextlib.contextmanager
def _out_of_memory_in_one_line(config: RunConfig, mesh: parallel.Mesh) -> Iterator[None]:
    """Says which setting to change where memory does not suffice, in place of XLA's report."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        kind = jax.devices()[0].device_kind
        raise OutOfMemory(
            f"out of memory: --batch_size={config.batch_size} over {mesh.size} x {kind} does not "
            "fit; use a smaller --batch_size in another workdir, --compute_dtype=bfloat16, or more "
            "devices. What was saved is whole"
        ) from error


def _restore(manager: Any, fresh: GANState, number: int, mesh: parallel.Mesh) -> GANState:
    """A checkpoint, also of a run that began with or without the counts of the guard."""
    try:
        return checkpoint.restore(manager, fresh, step=number)
    except UserError:
        extra = dict(fresh.extra)
        counts = extra.pop(steps.GUARD, None)
        if not counts:
            extra = parallel.replicate(steps.init_guard(fresh).extra, mesh)
        other = fresh.replace(extra=extra)
        try:
            state = checkpoint.restore(manager, other, step=number)
        except UserError:
            state = None
        if state is None:
            raise
        extra = {name: value for name, value in state.extra.items() if name != steps.GUARD}
        return state.replace(extra={**extra, steps.GUARD: counts} if counts else extra)


def _rollbacks(state: GANState) -> int:
    """How often a run was rolled back before this state."""
    return int(state.extra.get(steps.GUARD, {}).get("rollbacks", 0))


def _scorer(config: RunConfig, source: Source) -> scoring.Scorer | None:
    """What measures the generator as it trains, where that is asked for."""
    if not config.eval_every or not processes.is_main():
        return None
    return scoring.Scorer(
        dataset=config.dataset,
        data_dir=config.data_dir,
        image_shape=source.image_shape,
        kind=config.eval_features,
        weights=config.eval_weights,
        num=config.eval_samples,
        train=source,
    )


def _best(config: RunConfig, workdir: pathlib.Path) -> Callable[[Sequence[int]], int | None]:
    """Names the best among saved steps, by the log as it is when asked."""
    return lambda saved: scoring.best_step(rundir.read_metrics(workdir), config.eval_metric, saved)


def _module_of(config: RunConfig) -> str:
    """The module a config was defined in, also where that module is the one being run."""
    name = type(config).__module__
    main = sys.modules["__main__"].__spec__ if name == "__main__" else None
    return main.name if main else name
