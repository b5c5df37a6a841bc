"""A run from its last checkpoint to its last step: hooks, scores, saves, rollbacks, signals."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan import images, parallel, steps
from jaxgan.data import subsets
from jaxgan.data.registry import Source
from jaxgan.data.spec import Spec
from jaxgan.metrics import modes
from jaxgan.parallel import processes
from jaxgan.run import (
    checkpoint,
    ending,
    hooks,
    launch,
    loop,
    resume,
    rundir,
    saver,
    scoring,
    signals,
    summaries,
    trouble,
    watchdog,
)
from jaxgan.run.config import Keys, RunConfig
from jaxgan.run.experiment import Experiment, Sample, members
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, PyTree

PRINTED = 3  # lines of samples that the console shows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """What a run trains with, the same before and after a rollback.

    Attributes:
      config: the flags, those left to the data resolved.
      experiment: the task.
      source: the training data; None for a step that makes its own.
      spec: of the data.
      mesh: the devices.
      folder: the run directory.
      manager: of its checkpoints.
      interrupts: what signals ask for.
      scorer: measures the generator every `eval_every` steps; None where that is not asked for.
      fresh: makes the state at step 0.
      start: makes the state that the run starts from: that one, or another run's checkpoint.
      keys: the run's; of several seeds, a row of keys for each.
    """

    config: RunConfig
    experiment: Experiment
    source: Source | None
    spec: Spec
    mesh: parallel.Mesh
    folder: rundir.RunDir
    manager: Any
    interrupts: signals.Interrupts
    scorer: scoring.Scorer | None
    fresh: Callable[[], GANState]
    start: Callable[[], GANState]
    keys: Keys

    @property
    def seeds(self) -> list[int]:
        """The seeds of the run, one for each GAN."""
        return list(range(self.config.seed, self.config.seed + self.config.seeds))

    def last_good(self, *, every: int = 1) -> GANState:
        """Restores the newest checkpoint.

        Args:
          every: only steps that are multiples of it count.

        Returns:
          It; where there never was one, the state that the run starts from.
        """
        failed = self.manager.failure(wait=True)
        if failed:
            say(f"warning: {failed}")
        step = checkpoint.good_step(self.manager, strict=self.config.strict_restore, every=every)
        if step is None:
            return self.start()
        return resume.restore(self.manager, self.fresh(), step, self.mesh)

    def check_space(self, state: GANState) -> None:
        """Refuses to begin where the disk will be full before the first old checkpoint goes."""
        config, saved = self.config, len(checkpoint.finished_steps(self.manager))
        most = checkpoint.MAX_TO_KEEP + bool(config.eval_every) + 1  # old ones go after the new one
        to_come = -(-(config.num_steps - int(state.step)) // config.save_every)
        checkpoint.check_space(self.manager, state, more=max(1, min(most - saved, to_come)))

    def to_the_end(
        self, stages: Sequence[tuple[int, Sequence[StepFn]]], state: GANState
    ) -> GANState:
        """Trains to the last step, rolling back where a player diverges and that is wanted.

        Args:
          stages: the number of steps each is trained with until, and its compiled steps, which
            take turns.
          state: where to start from.

        Returns:
          The state at the end.
        """
        while True:
            times = resume.rollbacks(state)
            try:
                return self._fit(stages, state)
            except hooks.Diverged as error:
                if self.config.on_nonfinite != "rollback":
                    raise
                state = self._rolled_back(error, times + 1)

    def _fit(self, stages: Sequence[tuple[int, Sequence[StepFn]]], state: GANState) -> GANState:
        """Trains from a state to the last step; a signal saves and exits."""
        config, start = self.config, int(state.step)
        seeds = self.seeds if config.is_ensemble else ()
        seconds = self.folder.start_logs(start)
        guard, newest = hooks.Guard(seeds=seeds), hooks.Newest()
        log = hooks.Log(
            self.folder.log,
            every=config.log_every,
            start=start,
            num_steps=config.num_steps,
            batch_size=config.batch_size,
            num_examples=self.spec.num_examples,
            seconds=seconds,
            seeds=seeds,
            unit="sentences" if "text" in self.spec.shapes else "images",
            show=processes.is_main(),
        )

        def flush() -> None:
            guard.flush()
            log.flush()  # a run killed right after a checkpoint has logged up to it
            self.folder.sync()

        save = ending.Ending(self.manager, self.interrupts, newest, flush)
        try:
            with (
                contextlib.closing(
                    launch.batches(self.source, config, start, self.mesh)
                ) as batches,
                watchdog.Watchdog(
                    limit=config.data_timeout,
                    step_limit=config.step_timeout,
                    start=start,
                    end=save.without_data,
                ) as dog,
                save,  # before the batches are closed, which may take time
            ):
                watched = save.over(dog.over(batches))
                every = [newest, *self._hooks(guard, log, flush, dog)]
                for end, turns in stages:
                    state = loop.fit(
                        turns,
                        state,
                        watched,
                        key=self.keys.train,
                        num_steps=end,
                        hooks=every,
                        steps_per_call=config.steps_per_call,
                    )
                return state
        finally:
            log.close()

    def _hooks(
        self,
        guard: hooks.Guard,
        log: hooks.Log,
        flush: Callable[[], None],
        dog: watchdog.Watchdog,
    ) -> list[loop.Hook]:
        """What happens after each step, in this order."""
        config = self.config

        def save_samples(step: int, state: GANState) -> None:
            guard.flush()  # a state that is not finite has no picture
            state = with_own_generator(state)
            if processes.is_main():
                self._save_samples(step, state)

        def score(step: int, state: GANState) -> None:
            flush()
            self._score(log, step, state)

        at, last = hooks.sample_every, config.num_steps
        save = hooks.save_every(
            config.save_every,
            last,
            self.manager,
            flush,
            asked=self.interrupts.save_asked,
            stop=config.on_failed_save == "stop",
            wait=not config.async_saves,
        )
        named: dict[str, loop.Hook] = {
            "computing": guard,  # it waits for the step before
            "logging": log,
            "saving samples": at(config.sample_every, last, save_samples),
            **({"scoring": at(config.eval_every, last, score)} if config.eval_every else {}),
            "saving a checkpoint": save,
            "agreeing on signals": self.interrupts,
        }
        # One process scores, and says how far it is; the others only wait for it.
        own = processes.is_main()
        return [
            dog.named(name, hook, watched=own or name != "scoring") for name, hook in named.items()
        ]

    def _score(self, log: hooks.Log, step: int, state: GANState) -> None:
        """Scores the generator, and saves it if it is the best so far."""
        own = with_own_generator(state)
        if not processes.call_on_main(lambda: self._is_best(log, step, own)):
            return
        try:
            checkpoint.save(self.manager, state)
        except saver.SaveFailed as failed:
            if self.config.on_failed_save == "stop":
                raise
            say(f"warning: {failed}; training continues")

    def _is_best(self, log: hooks.Log, step: int, state: GANState) -> bool:
        """Scores the generator, and says whether none that is saved is better."""
        assert self.scorer is not None
        metric = scoring.best_metric(self.config, self.experiment)
        score = self.experiment.score
        each = [self.scorer(draw) for draw in self._draws(state, score and score.draw)]
        of_seeds = {name: np.array([one[name] for one in each]) for name in each[0]}
        if not self.config.is_ensemble:
            of_seeds = {name: value[0] for name, value in of_seeds.items()}
        numbers = summaries.summary(of_seeds, self.seeds)
        values = {f"eval/{name}": value for name, value in numbers.items()}
        # The line comes before the checkpoint: a run killed between the two scores again.
        name = f"eval/{metric}"
        line = {**values, scoring.PROTOCOL: self.scorer.protocol}
        log.insert(step, line, f"step {step}/{self.config.num_steps}  {name} {values[name]:.4f}")
        saved = [*checkpoint.finished_steps(self.manager), step]
        return scoring.best_step(self.folder.metrics(), metric, saved) == step

    def _draws(self, state: GANState, sample: Sample | None = None) -> list[scoring.Draw]:
        """Draws samples, one function for the generator of each seed."""
        sample = sample or self.experiment.sample

        def of(variables: PyTree) -> scoring.Draw:
            def draw(key: Key, num: int) -> Mapping[str, np.ndarray]:
                entries = sample(variables, key, num)
                return {name: np.asarray(value) for name, value in entries.items()}

            return draw

        return [of(variables) for variables in members(state.gen_ema, self.config)]

    def _save_samples(self, step: int, state: GANState) -> None:
        """Saves a picture of samples, several seeds side by side, beside one of real examples.

        Samples that are shown as lines go into a text file, and some onto the console.
        """
        config, show = self.config, self.experiment.show
        keys = self.keys.sample if config.is_ensemble else [self.keys.sample]
        shown = [
            show(draw(key, config.num_samples))
            for draw, key in zip(self._draws(state), keys, strict=True)
        ]
        if isinstance(shown[0], list):
            self.folder.save_lines(step, [line for lines in shown for line in lines])
            for line in shown[0][:PRINTED]:
                say(f"    {line}")
            return
        self.folder.save_samples(
            step, shown[0] if len(shown) == 1 else images.grid(np.stack(shown), fill=0)
        )
        real = self.folder.path / "samples" / "real.png"
        if self.source is not None and not real.exists():
            chosen = subsets.choose(self.source, config.num_samples)
            examples = self.source[chosen]
            self.folder.save_picture(real.name, show(examples))  # pyright: ignore[reportArgumentType]

    def results(self, state: GANState, seconds: float) -> dict[str, Any] | None:
        """Measures the trained generators as the experiment says, and writes the table's row.

        Args:
          state: the state at the end, of which this process has the generator for itself.
          seconds: how long training took.

        Returns:
          What results.json holds; None where the experiment has no measure of its own.
        """
        score = self.experiment.score
        if score is None:
            return None
        scorer = scoring.TaskScorer(score)
        each = [scorer(draw) for draw in self._draws(state, score.draw)]
        results = {
            "protocol": score.protocol,
            "seeds": self.config.seeds,
            **{name: [one[name] for one in each] for name in each[0]},
            "floor": dict(score.floor),
            "seconds": round(seconds, 1),
            "num_samples": score.num,
        }
        path = self.folder.path / "results.json"
        try:
            modes.save_results(path, results)
        except OSError as error:
            say(f"warning: {path} cannot be written: {trouble.reason(error)}")
        return results

    def _rolled_back(self, error: hooks.Diverged, times: int) -> GANState:
        """The last good state, to go on from with the random numbers of one more rollback.

        A checkpoint that a signal asked for is none to go back to: other runs do not have it.
        The count is kept in memory, not taken from the checkpoint, which may be older than the
        rollback before; a killed run comes through the same rollbacks again.
        """
        what, limit = str(error).partition(";")[0], self.config.max_rollbacks
        state = self.last_good(every=self.config.save_every)
        if times > limit:
            raise hooks.Diverged(
                f"{what}; stopped after {limit} rollbacks. Lower the learning rates, or add a "
                "penalty, and use another workdir"
            ) from error
        counts = state.extra[steps.GUARD]
        # In place of the old count, on the same devices.
        count = parallel.replicate(np.int32(times), self.mesh)
        self.folder.note("rollback", step=int(state.step), why=what, times=times)
        say(
            f"warning: {what}; back to step {int(state.step)} with other random numbers, "
            f"{times} of {limit}"
        )
        return state.replace(extra={**state.extra, steps.GUARD: {**counts, "rollbacks": count}})


def say(text: str) -> None:
    """Prints a line on the console of process 0.

    Args:
      text: the line.
    """
    if processes.is_main():
        print(text, flush=True)


def with_own_generator(state: GANState) -> GANState:
    """Makes the generator of a state this process's own, to be sampled without the others.

    Args:
      state: of all processes, which must all call this.

    Returns:
      The state with such a `gen_ema`.
    """
    return state.replace(gen_ema=parallel.local_copy(state.gen_ema))
