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

from jaxgan.run import checkpoint, saver
from jaxgan.run.loop import Hook
from jaxgan.state import GANState
from jaxgan.types import Metrics, UserError


class Diverged(UserError):
    """A player, or its loss, is no longer finite."""

    exit_code = 1
    everywhere = True  # the numbers are the same in all processes


class Guard:
    """Stops a run in which a player is no longer finite, one step late so as not to stall it."""

    def __init__(self):
        """Starts with nothing to look at."""
        self._pending: tuple[int, Metrics] | None = None

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Looks at the step before, and remembers this one."""
        self.flush()
        self._pending = step, {k: v for k, v in metrics.items() if k.endswith("/finite")}

    def flush(self) -> None:
        """Waits for the step remembered and looks at it; nothing is saved before this.

        Raises:
          Diverged: a player has NaN or infinity in it.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, flags = pending
        names = {"gen/finite": "generator", "disc/finite": "discriminator"}
        broken = [names.get(name, name) for name, finite in flags.items() if not bool(finite)]
        if broken:
            raise Diverged(
                f"step {step}: NaN or infinity in the {' and the '.join(broken)}; stopped, and not "
                "saved. Lower the learning rates, or add a penalty, and use another workdir"
            )


def alarms(values: Mapping[str, float]) -> list[str]:
    """Says which signs of collapse the metrics of a step show.

    Args:
      values: numbers by name; those that are missing or NaN are no sign.

    Returns:
      A phrase for each: all samples alike, D right about every image, G without gradient.
    """
    nan = float("nan")
    diversity, gradient = values.get("gen/diversity", nan), values.get("gen/gradient", nan)
    signs = {
        f"G's samples are all alike (diversity {diversity:.2g} of the data's)": diversity < 0.02,
        "D is right about every image": values.get("disc/accuracy", nan) >= 1.0,
        f"G's gradient has vanished (norm {gradient:.2g})": gradient < 1e-7,
    }
    return [text for text, seen in signs.items() if seen]


class Log:
    """Writes metrics every so many steps: to the run directory, and to the person watching.

    Where the steps report what `alarms` looks at, "guard/alarms" counts the signs; those that last
    for PATIENCE lines are told in one line, once.
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
        show: bool = True,
    ):
        """Begins to count time.

        Args:
          write: takes (step, values by name), as `RunDir.log` does.
          every: steps between lines.
          start: the step training goes on from.
          num_steps: the step it ends at.
          batch_size: images a step, over all devices.
          show: tells the person watching too.
        """
        self._shown = show
        self._write, self._every, self._batch_size = write, every, batch_size
        self._last, self._num_steps = start, num_steps
        self._time = 0.0  # set after the first step, so that rates leave its compilation out
        self._pending: tuple[int, Metrics] | None = None
        self._alarmed = 0  # lines in a row
        self._bar = None
        if show and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=num_steps, initial=start, unit="step", dynamic_ncols=True)

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Writes what was due at the step before; keeps this step's metrics if they are due."""
        self.flush()
        if not self._time:
            self._last, self._time = step, time.perf_counter()
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if step % self._every == 0 or step == self._num_steps:
            self._pending = step, metrics

    def flush(self) -> None:
        """Writes what is due."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, metrics = pending
        values = {
            name: float(np.asarray(value))
            for name, value in metrics.items()
            if not name.endswith("/finite")
        }
        now = time.perf_counter()
        images = (step - self._last) * self._batch_size
        rate = images / (now - self._time) if images else np.nan
        self._last, self._time = step, now
        signs = alarms(values)
        if "gen/gradient" in values:
            values["guard/alarms"] = float(len(signs))
        self._write(step, {**values, "images_per_second": rate})
        self._show(step, values, rate)
        self._warn(step, signs)

    def insert(self, step: int, values: Mapping[str, float | str], text: str) -> None:
        """Writes a line of numbers measured beside training, after what is due.

        Args:
          step: the step they belong to.
          values: by name.
          text: what the person watching is told of them.
        """
        self.flush()
        self._write(step, values)
        self._last, self._time = step, time.perf_counter()  # their time is not that of steps
        self._say(text)

    def close(self) -> None:
        """Writes what is due and ends the progress bar."""
        self.flush()
        if self._bar is not None:
            self._bar.close()

    def _warn(self, step: int, signs: Sequence[str]) -> None:
        """Tells of signs that last, once until they have gone."""
        self._alarmed = self._alarmed + 1 if signs else 0
        if self._alarmed == self.PATIENCE:
            self._say(
                f"warning: step {step}: {'; '.join(signs)}. If it lasts, lower --disc_lr, add a "
                "penalty, or raise its weight"
            )

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)
        elif self._shown:
            print(text, flush=True)

    def _show(self, step: int, values: Mapping[str, float], rate: float) -> None:
        losses = {name: f"{v:.3f}" for name, v in values.items() if name.endswith("/loss")}
        if self._bar is not None:
            self._bar.set_postfix({**losses, "images/s": f"{rate:.0f}"}, refresh=False)
            return
        if not self._shown:
            return
        words = [f"step {step}/{self._num_steps}", *(f"{k} {v}" for k, v in losses.items())]
        if np.isfinite(rate):
            left = round((self._num_steps - step) * self._batch_size / rate)
            words += [f"{rate:.0f} images/s", f"{datetime.timedelta(seconds=left)} left"]
        print("  ".join(words), flush=True)


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
    """Makes a hook that saves a checkpoint at every so many steps, at the last, and when asked to.

    A save that fails costs that checkpoint and a warning: training goes on, the next one is tried
    as if nothing had been, and only the last must succeed. What fails in the background is told of
    at the next step.

    Args:
      every: steps.
      num_steps: the last step.
      manager: from `checkpoint.manager`.
      flush: called before each save (`Guard.flush`): it raises where the state is not worth saving.
      asked: whether to save at this step too, as `Interrupts.save_asked`.
      stop: raises a failure rather than to go on.
      wait: until each save is written. Otherwise a kill while one is loses that one, too.

    Returns:
      The hook; it raises `SaveFailed` where the last step could not be saved.
    """

    def tell(failed: saver.SaveFailed | None, *, raises: bool) -> None:
        if failed is None:
            return
        if raises:
            raise failed
        print(f"warning: {failed}; training goes on", flush=True)

    def hook(step: int, state: GANState, metrics: Metrics) -> None:
        del metrics
        last = step == num_steps
        due = asked() or step % every == 0 or last
        tell(manager.failure(wait=due), raises=stop)
        if due:
            flush()
            try:
                checkpoint.save(manager, state)
            except saver.SaveFailed as failed:
                tell(failed, raises=stop or last)
            if wait:
                tell(manager.failure(wait=True), raises=stop or last)

    return hook


class Newest:
    """Remembers the state of the last whole step; a hook."""

    def __init__(self):
        """Has seen none."""
        self._state: GANState | None = None

    def __call__(self, step: int, state: GANState, metrics: Metrics) -> None:
        """Remembers it, without keeping it from being donated."""
        del step, metrics
        self._state = state

    def take(self) -> GANState | None:
        """Looks whether there is a whole state.

        Returns:
          It; None if there was none, or the next step has taken it apart.
        """
        leaves = jax.tree.leaves(self._state)
        donated = any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)
        return None if donated else self._state
