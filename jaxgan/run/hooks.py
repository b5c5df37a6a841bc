"""What happens after training steps: guard, log, samples, checkpoints.

A hook is `(step, state, metrics) -> None`, called after every step has been *dispatched*. Metrics
are arrays still being computed: a hook that reads those of the step before, as the ones here do,
never stalls the device. The state is donated to the next step: a hook that keeps it must copy it.
"""

import datetime
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import tqdm

from jaxgan.run import checkpoint, saver, summaries
from jaxgan.run.loop import Hook
from jaxgan.state import GANState
from jaxgan.types import Metrics, UserError


class Diverged(UserError):
    """A player, or its loss, is no longer finite."""

    exit_code = 1
    everywhere = True  # the numbers are the same in all processes


class Guard:
    """Stops a run in which a player is no longer finite, one step late so as not to stall it."""

    def __init__(self, *, seeds: Sequence[int] = ()):
        """Prepares the check.

        Args:
          seeds: those trained at once, where metrics have one value a seed.
        """
        self._seeds = seeds
        self._pending: tuple[int, Metrics] | None = None

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Checks the step before, and keeps this one."""
        self.flush()
        self._pending = step, {k: v for k, v in metrics.items() if k.endswith("/finite")}

    def flush(self) -> None:
        """Waits for the step kept and checks it; nothing is saved before this.

        Raises:
          Diverged: a player has NaN or infinity in it.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, flags = pending
        names = {"gen/finite": "generator", "disc/finite": "discriminator"}
        broken = []
        for name, finite in flags.items():
            wrong = [seed for seed, ok in summaries.by_seed(finite, self._seeds).items() if not ok]
            if wrong:
                of = "" if np.ndim(finite) == 0 else f" of seed {', '.join(map(str, wrong))}"
                broken.append(f"{names.get(name, name)}{of}")
        if broken:
            raise Diverged(
                f"step {step}: NaN or infinity in the {' and the '.join(broken)}; stopped, and not "
                "saved. Lower the learning rates, or add a penalty, and use another workdir"
            )


class Log:
    """Writes metrics every so many steps, to the run directory and to the console.

    Beside the metrics each line has "images_per_second", the "seconds" of training so far, and the
    "epoch" where the number of examples is known. A metric of several seeds at once, [S], is
    written as its mean, "NAME/interval" (half the width of the mean's 95 % interval) and
    "NAME/seed_K" of each seed K. One that not every step has, as a penalty that is due every few,
    is the newest since the line before (or since training was resumed).

    Where the steps report what `summaries.alarms` reads, "guard/alarms" counts the signs, and
    "guard/signs" names them where there are any; those that last for PATIENCE lines are reported
    once, in one line.
    """

    PATIENCE = 3

    def __init__(
        self,
        write: Callable[[int, Mapping[str, float | str]], None],
        *,
        every: int,
        start: int,
        num_steps: int,
        batch_size: int,
        num_examples: int = 0,
        seconds: float = 0.0,
        seeds: Sequence[int] = (),
        unit: str = "images",
        show: bool = True,
    ):
        """Starts the clock.

        Args:
          write: takes (step, values by name), as `RunDir.log` does.
          every: steps between lines.
          start: the step that training resumes from.
          num_steps: the step it ends at.
          batch_size: images a step, over all devices; each of several seeds has as many.
          num_examples: of the training data; 0 where unknown or endless.
          seconds: of training before `start`, as `RunDir.start_logs` returns them.
          seeds: those trained at once, where metrics are [S]; counted from 0 by default.
          unit: what examples are called on the console.
          show: whether to print to the console too.
        """
        self._shown, self._seeds, self._unit = show, seeds, unit
        self._write, self._every, self._batch_size = write, every, batch_size
        self._num_examples = num_examples
        self._images = batch_size * max(1, len(seeds))  # a step
        self._last, self._num_steps = start, num_steps
        self._began = time.perf_counter() - seconds
        self._time = 0.0  # set after the first step, so that rates leave its compilation out
        self._pending: tuple[int, Metrics] | None = None
        self._newest: Metrics = {}  # since the line before
        self._alarmed = 0  # lines in a row
        # Steps dropped up to the last line, of each seed; unknown where a run is resumed.
        self._skipped = None if start else dict.fromkeys(seeds or (0,), 0.0)
        self._skips_from, self._skipping = start, False
        self._bar = None
        if show and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=num_steps, initial=start, unit="step", dynamic_ncols=True)

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Writes the line due at the step before; keeps this step's metrics for the next."""
        self.flush()
        self._newest = {**self._newest, **metrics}
        if not self._time:
            self._last, self._time = step, time.perf_counter()
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if step % self._every == 0 or step == self._num_steps:
            self._pending, self._newest = (step, self._newest), {}

    def flush(self) -> None:
        """Writes the line that is due, if any."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, metrics = pending
        metrics = {k: np.asarray(v) for k, v in metrics.items() if not k.endswith("/finite")}
        values = summaries.summary(metrics, self._seeds)
        now = time.perf_counter()
        images = (step - self._last) * self._images
        rate = images / (now - self._time) if images else np.nan
        self._last, self._time = step, now
        signs = summaries.signs(metrics, self._seeds)
        if "gen/gradient" in values:
            values["guard/alarms"] = float(len(signs))
        told = {"guard/signs": "; ".join(signs)} if signs else {}
        timing = {"images_per_second": rate, "seconds": now - self._began}
        if self._num_examples:
            timing["epoch"] = step * self._batch_size / self._num_examples
        self._write(step, {**values, **told, **timing})
        self._show(step, values, timing)
        self._warn(step, signs)
        if "guard/skipped" in metrics:
            self._warn_of_skips(step, summaries.by_seed(metrics["guard/skipped"], self._seeds))

    def insert(self, step: int, values: Mapping[str, float | str], text: str) -> None:
        """Writes a line of numbers measured beside training, after the line that is due.

        Args:
          step: the step they belong to.
          values: by name.
          text: what the console shows of them.
        """
        self.flush()
        self._write(step, values)
        self._last, self._time = step, time.perf_counter()  # their time is not that of steps
        self._print(text)

    def close(self) -> None:
        """Writes the line that is due and ends the progress bar."""
        self.flush()
        if self._bar is not None:
            self._bar.close()

    def _warn(self, step: int, signs: Sequence[str]) -> None:
        """Reports signs that last, once until they have gone."""
        self._alarmed = self._alarmed + 1 if signs else 0
        if self._alarmed == self.PATIENCE:
            self._print(
                f"warning: step {step}: {'; '.join(signs)}. If it lasts, lower --disc_lr, add a "
                "penalty, or raise its weight"
            )

    def _warn_of_skips(self, step: int, skipped: dict[int, float]) -> None:
        """Reports that all steps since the line before were dropped, once until one is not."""
        before, since, warned = self._skipped, self._skips_from, self._skipping
        self._skipped, self._skips_from = skipped, step
        lost = [seed for seed in skipped if before and skipped[seed] - before[seed] >= step - since]
        self._skipping = bool(lost)
        if lost and not warned:
            of = f" of seed {', '.join(map(str, lost))}" if len(skipped) > 1 else ""
            self._print(
                f"warning: step {step}: every step{of} since step {since} left NaN or infinity in "
                "a player and was dropped. If it lasts, lower the learning rates, or add a penalty"
            )

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)
        elif self._shown:
            print(text, flush=True)

    def _show(self, step: int, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Prints losses, epoch, rate and time."""
        losses = {name: summaries.text(name, values) for name in values if name.endswith("/loss")}
        rate = timing["images_per_second"]
        epoch = {"epoch": f"{timing['epoch']:.1f}"} if "epoch" in timing else {}
        if self._bar is not None:
            self._bar.set_postfix(
                {**losses, **epoch, f"{self._unit}/s": f"{rate:.0f}"}, refresh=False
            )
            return
        if not self._shown:
            return
        words = [f"step {step}/{self._num_steps}"]
        words += [f"{name} {text}" for name, text in {**epoch, **losses}.items()]
        if values.get("guard/skipped"):
            words += [f"{values['guard/skipped']:g} steps dropped"]
        if np.isfinite(rate):
            left = (self._num_steps - step) * self._images / rate
            words += [f"{rate:.0f} {self._unit}/s", f"{_clock(timing['seconds'])} elapsed"]
            words += [f"{_clock(left)} left"]
        print("  ".join(words), flush=True)


def _clock(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=round(seconds))


def sample_every(every: int, num_steps: int, save: Callable[[int, GANState], object]) -> Hook:
    """Makes a hook that saves samples at every so many steps and at the last.

    Args:
      every: steps.
      num_steps: the last step.
      save: takes (step, state); it reads the state before it returns.

    Returns:
      The hook.
    """

    def hook(step: int, state: GANState, metrics: Metrics) -> None:
        del metrics
        if step % every == 0 or step == num_steps:
            save(step, state)

    return hook


def save_every(
    every: int,
    num_steps: int,
    manager: saver.Manager,
    flush: Callable[[], None],
    *,
    asked: Callable[[], bool] = lambda: False,
    stop: bool = False,
    wait: bool = False,
) -> Hook:
    """Makes a hook that saves a checkpoint at every so many steps, at the last, and on request.

    A save that fails costs that checkpoint and a warning: training continues and the next save is
    tried as usual; only the last must succeed. A failure in the background is reported at the next
    step.

    Args:
      every: steps.
      num_steps: the last step.
      manager: from `checkpoint.manager`.
      flush: called before each save (`Guard.flush`): it raises where the state is not worth saving.
      asked: whether to save at this step too, as `Interrupts.save_asked`.
      stop: whether a failure is raised rather than reported.
      wait: whether training waits until each save is written; otherwise a kill during one loses it.

    Returns:
      The hook; it raises `SaveFailed` where the last step could not be saved.
    """

    def report(failed: saver.SaveFailed | None, *, raises: bool) -> None:
        if failed is None:
            return
        if raises:
            raise failed
        print(f"warning: {failed}; training continues", flush=True)

    def hook(step: int, state: GANState, metrics: Metrics) -> None:
        del metrics
        last = step == num_steps
        due = asked() or step % every == 0 or last
        report(manager.failure(wait=due), raises=stop)
        if due:
            flush()
            try:
                checkpoint.save(manager, state)
            except saver.SaveFailed as failed:
                report(failed, raises=stop or last)
            if wait:
                report(manager.failure(wait=True), raises=stop or last)

    return hook


class Newest:
    """A hook that keeps the state of the last whole step."""

    def __init__(self):
        """Starts without one."""
        self._state: GANState | None = None

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Keeps a reference, which does not prevent its donation to the next step."""
        del step, metrics
        self._state = state

    def take(self) -> GANState | None:
        """Returns the state if it is still whole.

        Returns:
          The state; None if there was none, or if the next step has consumed it.
        """
        leaves = jax.tree.leaves(self._state)
        donated = any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)
        return None if donated else self._state
