"""Training steps: functions `(key, state, batch) -> (state, metrics)`, and ways to combine them."""

from jaxgan.steps.adaptive import with_ada, with_lecam
from jaxgan.steps.adversarial import (
    alternating_step,
    disc_step,
    ema_step,
    gen_step,
    simultaneous_step,
)
from jaxgan.steps.combine import (
    chain,
    ensemble,
    every,
    fused,
    init_ensemble,
    on_batch,
    over_shares,
    repeat,
    scheduled,
    train_step,
)
from jaxgan.steps.guard import GUARD, after_rollback, init_guard, skip_nonfinite
from jaxgan.steps.updates import extragradient, unrolled_gen_step
from jaxgan.steps.variants import (
    instance_noise,
    label_smoothing,
    lazy,
    named_penalty,
    one_sided_smoothing,
    top_k,
)

__all__ = [
    "GUARD",
    "after_rollback",
    "alternating_step",
    "chain",
    "disc_step",
    "ema_step",
    "ensemble",
    "every",
    "extragradient",
    "fused",
    "gen_step",
    "init_ensemble",
    "init_guard",
    "instance_noise",
    "label_smoothing",
    "lazy",
    "named_penalty",
    "on_batch",
    "one_sided_smoothing",
    "over_shares",
    "repeat",
    "scheduled",
    "skip_nonfinite",
    "simultaneous_step",
    "top_k",
    "train_step",
    "unrolled_gen_step",
    "with_ada",
    "with_lecam",
]
