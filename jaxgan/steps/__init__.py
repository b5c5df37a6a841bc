"""Training steps: functions `(key, state, batch) -> (state, metrics)`, and ways to combine them."""

from jaxgan.steps.adversarial import (
    alternating_step,
    disc_step,
    ema_step,
    gen_step,
    simultaneous_step,
)
from jaxgan.steps.combine import chain, every, fused, on_batch, repeat, train_step

__all__ = [
    "alternating_step",
    "chain",
    "disc_step",
    "ema_step",
    "every",
    "fused",
    "gen_step",
    "on_batch",
    "repeat",
    "simultaneous_step",
    "train_step",
]
