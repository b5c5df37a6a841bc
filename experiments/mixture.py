r"""Ring and grid of Gaussians in the plane: the standard benchmark of mode collapse.

    python -m experiments.mixture --flagfile=experiments/flags/ring.flags --workdir=runs/ring

trains all seeds at once in one compiled program, and ends with the benchmark's table row, which
`results.json` in the run directory holds too; `samples/` has the points drawn, the real ones first.
A killed run is taken up again by the same command.
"""

import dataclasses
import itertools
import json
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import ema, images, latents, penalties, steps
from jaxgan import state as states
from jaxgan.data import synthetic
from jaxgan.losses import ADVERSARIAL
from jaxgan.metrics import modes
from jaxgan.nets import mlp
from jaxgan.run import checkpoint, cli, hooks, loop, rundir, signals
from jaxgan.state import GANState, StepFn
from jaxgan.steps import schedules
from jaxgan.types import Array, Batch, Key, Metrics, PyTree, UserError

NUM_SAMPLES = 2500  # of the protocol
UPDATES = {"simultaneous": steps.simultaneous_step, "alternating": steps.alternating_step}


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of this experiment; the defaults are the recipe of the ring."""

    workdir: str = cli.field(
        "", "Directory of the run; the same command again resumes it.", changeable=True
    )
    mixture: str = cli.field("ring", "What to learn.", choices=tuple(synthetic.MIXTURES))
    seeds: int = cli.field(10, "Runs, all at once in one program.", minimum=1)
    seed: int = cli.field(0, "The first of the seeds.", minimum=0)
    num_steps: int = cli.field(8000, "Steps of each run.", minimum=1)
    batch_size: int = cli.field(128, "Points a step.", minimum=1)
    features: int = cli.field(128, "Units of each of the three hidden layers.", minimum=1)
    latent_dim: int = cli.field(2, "Size of one latent.", minimum=1)
    loss: str = cli.field("relativistic", "Adversarial loss.", choices=tuple(ADVERSARIAL))
    penalty: str = cli.field(
        "r1_r2", "Gradient penalty of D.", choices=("none", *penalties.PENALTIES)
    )
    gamma: float = cli.field(
        1e-3, "Weight of the penalty, for points scaled into [-1, 1].", minimum=0
    )
    gamma_final: float = cli.field(
        1.0, "Share of gamma left at the end; by the same factor each step.", above=0
    )
    penalty_every: int = cli.field(
        1, "Steps between penalties, each that many times as strong.", minimum=1
    )
    update: str = cli.field("alternating", "Who moves when.", choices=tuple(UPDATES))
    gen_lr: float = cli.field(1e-3, "G's learning rate.", above=0)
    disc_lr: float = cli.field(1e-3, "D's learning rate.", above=0)
    lr_final: float = cli.field(0.05, "Share of both rates left at the end.", minimum=0)
    beta1: float = cli.field(0.0, "Adam's decay of the mean.", minimum=0, below=1)
    beta2: float = cli.field(0.99, "Adam's decay of the variance.", minimum=0, below=1)
    ema_half_life: float = cli.field(
        2560, "Half-life of G's moving average in points; 0 for none.", minimum=0
    )
    steps_per_call: int = cli.field(500, "Steps in one launch; divides num_steps.", minimum=1)

    def __post_init__(self):
        """Checks every field, and that launches end where the run does."""
        cli.check(self)
        if self.num_steps % self.steps_per_call:
            raise UserError(
                f"--steps_per_call={self.steps_per_call} does not divide "
                f"--num_steps={self.num_steps}; try --steps_per_call=1"
            )


def run(config: Config) -> dict[str, Any]:
    """Trains and measures; returns the results."""
    if not config.workdir:
        raise UserError("--workdir is empty; name the directory of the run")
    begin = time.perf_counter()
    with (
        signals.Interrupts() as interrupts,
        rundir.RunDir(
            config.workdir,
            config,
            experiment="experiments.mixture",
            data={"fingerprint": config.mixture, "num_classes": 0},
        ) as made,
        checkpoint.manager(made.checkpoints, max_to_keep=1) as manager,
    ):
        init, step, samples = game(config)
        keys = jax.vmap(jax.random.key)(config.seed + jnp.arange(config.seeds))
        state = jax.jit(lambda keys: steps.init_ensemble(keys, init))(keys)
        saved = checkpoint.good_step(manager)
        if saved is not None:
            state = checkpoint.restore(manager, state, step=saved)
        start, finished = int(state.step), made.path / "results.json"
        if start == config.num_steps and finished.exists():
            results = json.loads(finished.read_text())
            print(f"finished: {made.path} is at step {start}\n{modes.table_row(results)}")
            return results
        made.start_logs(start)
        guard = hooks.Guard()
        log = hooks.Log(
            made.log,
            every=config.steps_per_call,
            start=start,
            num_steps=config.num_steps,
            batch_size=config.batch_size * config.seeds,
        )
        several = steps.ensemble(steps.multi_step(step, config.steps_per_call))

        def launch(keys: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
            state, metrics = several(keys, state, batch)
            return state, {name: x.mean() if x.ndim else x for name, x in metrics.items()}

        try:
            state = loop.fit(
                jax.jit(launch, donate_argnums=1),
                state,
                itertools.repeat({}),
                key=keys,
                num_steps=config.num_steps,
                hooks=(
                    guard,
                    log,
                    hooks.save_every(
                        4 * config.steps_per_call,
                        config.num_steps,
                        manager,
                        guard.flush,
                        asked=interrupts.save_asked,
                    ),
                    interrupts,
                ),
                steps_per_call=config.steps_per_call,
            )
        except signals.Interrupted as stop:
            guard.flush()
            checkpoint.save(manager, stop.state)
            manager.wait_until_finished()
            print(f"{stop}: saved step {int(stop.state.step)}; the same command resumes")
            raise SystemExit(128 + stop.signum) from None
        finally:
            log.close()
        points = np.asarray(jax.jit(samples)(state.gen_ema, keys))
        seconds = time.perf_counter() - begin
        return report(config, made, points, seconds=seconds, start=start)


def game(config: Config) -> tuple[Any, StepFn, Any]:
    """(key -> fresh state, training step, (averages, keys) -> points [S, N, 2]) of one seed.

    The players see points scaled into [-1, 1], so that settings mean the same for every mixture.
    """
    mixture = synthetic.MIXTURES[config.mixture]()
    scale = float(np.abs(mixture.modes).max())
    gen = mlp.Generator(features=(config.features,) * 3)
    disc = mlp.Discriminator(features=(config.features,) * 3)
    gen_tx, disc_tx = (
        optax.adam(
            schedules.cosine(rate, rate * config.lr_final, config.num_steps),
            b1=config.beta1,
            b2=config.beta2,
        )
        for rate in (config.gen_lr, config.disc_lr)
    )
    fading = schedules.geometric(1.0, config.gamma_final, config.num_steps)

    def update(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        real_key, step_key = jax.random.split(key)
        real = synthetic.sample(real_key, mixture, config.batch_size) / scale
        played = steps.Game(
            gen=steps.from_latents(gen, config.latent_dim),
            disc=steps.judged(disc, "image"),
            loss=ADVERSARIAL[config.loss],
            penalty=steps.named_penalty(
                config.penalty,
                config.gamma * fading(state.step),
                interval=config.penalty_every,
                step=state.step,
            ),
        )
        step = UPDATES[config.update](played, gen_tx, disc_tx)
        return step(step_key, state, {**batch, "image": real})

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, 2))
        return states.init_state(
            states.init_player(gen.init(gen_key, z, train=False), gen_tx),
            states.init_player(disc.init(disc_key, x, train=False), disc_tx),
        )

    def samples(average: PyTree, keys: Key) -> Array:
        def of_one(variables: PyTree, key: Key) -> Array:
            z = latents.normal(jax.random.fold_in(key, 0), NUM_SAMPLES, config.latent_dim)
            return scale * gen.apply(variables, z, train=False)  # pyright: ignore

        return jax.vmap(of_one)(average, keys)

    decay = ema.decay_from_half_life(config.ema_half_life, config.batch_size)
    return init, steps.train_step(update, steps.ema_step(decay, warm_up=True)), samples


def report(
    config: Config, made: rundir.RunDir, points: np.ndarray, *, seconds: float, start: int
) -> dict[str, Any]:
    """Measures the points [S, N, 2] of every seed; prints, writes and returns the results."""
    mixture = synthetic.MIXTURES[config.mixture]()
    scores = [modes.mixture_modes(x, mixture.modes, mixture.std) for x in points]
    num_modes = len(mixture.modes)
    results = {
        "protocol": config.mixture,
        "seeds": config.seeds,
        "modes": [int(score["modes"]) for score in scores],
        "high_quality": [100 * score["high_quality"] for score in scores],
        "kl": [score["kl"] for score in scores],
        "floor": {
            "modes": num_modes,
            # Within three standard deviations in the plane: Rayleigh's distribution.
            "high_quality": 100 * (1 - math.exp(-4.5)),
            "kl": modes.kl_floor(num_modes, NUM_SAMPLES),
        },
        "seconds": round(seconds, 1),
        "resumed_from": start,
        "num_samples": NUM_SAMPLES,
    }
    real = synthetic.sample(jax.random.key(config.seed), mixture, NUM_SAMPLES)
    extent = 1.2 * float(np.abs(mixture.modes).max())
    panels = [scatter(np.asarray(x), extent) for x in (real, *points)]
    path = made.save_samples(config.num_steps, images.grid(np.stack(panels), fill=0))
    modes.save_results(made.path / "results.json", results)
    print(f"{modes.table_row(results)}\n{path}: the real points, then each seed's", flush=True)
    return results


def scatter(points: np.ndarray, extent: float, *, side: int = 200) -> np.ndarray:
    """Draws points [N, 2] as a picture [side, side, 1] uint8 of the square of +- extent."""
    edges = np.linspace(-extent, extent, side + 1)
    counts, _, _ = np.histogram2d(-points[:, 1], points[:, 0], bins=(edges, edges))
    return np.where(counts > 0, np.maximum(0, 160 - 20 * counts), 255).astype(np.uint8)[..., None]


if __name__ == "__main__":
    cli.main(Config, run)
