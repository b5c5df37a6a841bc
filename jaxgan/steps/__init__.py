"""Training steps: functions `(key, state, batch) -> (state, metrics)`, and ways to combine them."""

from jaxgan.steps.accumulate import accumulated
from jaxgan.steps.adaptive import with_ada, with_lecam
from jaxgan.steps.adaptors import from_entries, from_entry, from_latents, judged
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
    init_ensemble,
    map_batch,
    microbatches,
    mirrored,
    multi_step,
    repeat,
    scheduled,
    train_step,
    when,
)
from jaxgan.steps.game import Game, Round
from jaxgan.steps.guard import GUARD, after_rollback, init_guard, skip_nonfinite
from jaxgan.steps.path import PATH, init_path, path_length_step
from jaxgan.steps.pool import POOL, init_pool, pooled_step
from jaxgan.steps.supervised import supervised_step
from jaxgan.steps.text import ROLLOUT, init_rollout, mle_step, policy_gradient_step
from jaxgan.steps.updates import extragradient_step, unrolled_gen_step
from jaxgan.steps.variants import (
    instance_noise,
    label_smoothing,
    lazy,
    named_penalty,
    one_sided_smoothing,
    top_k,
)
from jaxgan.steps.writers import Writer, from_gumbel, from_writer, one_hot, reader, writer

__all__ = [
    "GUARD",
    "Game",
    "PATH",
    "POOL",
    "ROLLOUT",
    "Round",
    "Writer",
    "accumulated",
    "after_rollback",
    "alternating_step",
    "chain",
    "disc_step",
    "ema_step",
    "ensemble",
    "every",
    "extragradient_step",
    "from_entries",
    "from_entry",
    "from_gumbel",
    "from_latents",
    "from_writer",
    "gen_step",
    "init_ensemble",
    "init_guard",
    "init_path",
    "init_pool",
    "init_rollout",
    "instance_noise",
    "judged",
    "label_smoothing",
    "lazy",
    "map_batch",
    "microbatches",
    "mirrored",
    "mle_step",
    "multi_step",
    "named_penalty",
    "one_hot",
    "one_sided_smoothing",
    "path_length_step",
    "policy_gradient_step",
    "pooled_step",
    "reader",
    "repeat",
    "scheduled",
    "simultaneous_step",
    "skip_nonfinite",
    "supervised_step",
    "top_k",
    "train_step",
    "unrolled_gen_step",
    "when",
    "with_ada",
    "with_lecam",
    "writer",
]
