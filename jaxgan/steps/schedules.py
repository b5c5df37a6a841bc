"""Numbers that change as training goes on: functions of the steps taken, traced or not.

They are Optax schedules, `step -> value`, so a rate goes into `optax.adam(rate)` as it is; `adam`
here takes one for beta2 too. A penalty's weight, a share or a noise follows one through
`steps.scheduled`, a moving average through `steps.ema_step(half_life(...))`.

See "The GAN is dead; long live the GAN! A Modern Baseline GAN" by Huang et al.
(https://arxiv.org/abs/2501.05441), appendix: rate, beta2, gamma and half-life all move on a cosine
during a burn-in, and stay where they have arrived.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from jaxgan.types import Array

Schedule = Callable[[Any], Array]  # steps taken -> value []


def cosine(start: float, end: float, num_steps: int) -> Schedule:
    """Moves from one value to another on half a cosine, and stays there.

      end + (start - end) (1 + cos(pi min(t / num_steps, 1))) / 2

    Args:
      start: value at step 0.
      end: value from `num_steps` on.
      num_steps: length of the burn-in in steps; 0 for `end` from the first step on.

    Returns:
      `step [] -> value []`.
    """

    def schedule(step: Any) -> Array:
        done = jnp.clip(step / num_steps, 0.0, 1.0) if num_steps else jnp.ones(())
        return end + (start - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    return schedule


def geometric(start: float, end: float, num_steps: int) -> Schedule:
    """Moves from one value to another by the same factor each step, and stays there.

      start (end / start)^min(t / num_steps, 1)

    Args:
      start: value at step 0, above 0.
      end: value from `num_steps` on, above 0.
      num_steps: length in steps, at least 1.

    Returns:
      `step [] -> value []`.
    """
    return lambda step: start * (end / start) ** jnp.clip(step / num_steps, 0.0, 1.0)


def late_line(start: float, end: float, num_steps: int) -> Schedule:
    """Stays for the first half, and moves on a line to another value in the second.

    See "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks" by Zhu et
    al. (https://arxiv.org/abs/1703.10593), section 4: rates of CycleGAN, to 0.

    Args:
      start: value until half of `num_steps`.
      end: value from `num_steps` on.
      num_steps: length in steps, at least 1.

    Returns:
      `step [] -> value []`.
    """
    return lambda step: start + (end - start) * jnp.clip(2.0 * step / num_steps - 1.0, 0.0, 1.0)


def half_life(images: optax.Schedule, batch_size: int) -> Schedule:
    """Turns a schedule of half-lives into the decays of a moving average.

    See `ema.decay_from_half_life`, of which this is the moving form: `0.5^(batch_size / images)`.

    Args:
      images: `step -> half-life in images`; at 0 the average has no memory.
      batch_size: images a step, over all devices.

    Returns:
      `step [] -> decay [] in [0, 1)`, for `steps.ema_step`.
    """

    def schedule(step: Any) -> Array:
        now = jnp.asarray(images(step), jnp.float32)
        return jnp.where(now > 0, 0.5 ** (batch_size / jnp.where(now > 0, now, 1.0)), 0.0)

    return schedule


def adam(
    learning_rate: float | optax.Schedule, *, b1: float = 0.0, b2: float | optax.Schedule = 0.99
) -> optax.GradientTransformation:
    """Adam whose decay of the variance may follow a schedule, as the rate may.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the mean.
      b2: decay of the variance, a number or a schedule; the bias correction uses the decay of the
        moment, as `betas` set on the fly do in PyTorch.

    Returns:
      The Optax transformation.
    """
    if not callable(b2):
        return optax.adam(learning_rate, b1=b1, b2=b2)
    # A number would be kept in the state, and a run that resumes with another rate not follow it.
    rate = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
    inject = optax.inject_hyperparams(optax.adam, static_args=("b1",))
    return inject(learning_rate=rate, b1=b1, b2=b2)
