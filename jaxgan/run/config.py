"""The flags that experiments share: those of every run, and those of runs on a dataset."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxgan import parallel
from jaxgan.data.spec import Spec
from jaxgan.metrics import evaluate, reference
from jaxgan.parallel import meeting
from jaxgan.run import cli
from jaxgan.types import Key, UserError


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The flags of every experiment that trains."""

    workdir: str = cli.field(
        "", "Directory of the run; the same command again resumes it.", changeable=True
    )
    num_steps: int = cli.field(
        2000, "Steps to train for, counted from the start.", minimum=1, changeable=True
    )
    batch_size: int = cli.field(
        128, "Examples a step, over all devices; each of several seeds has as many.", minimum=1,
        changeable=True,
    )  # fmt: skip
    seed: int = cli.field(0, "Seed of everything random.", minimum=0)
    seeds: int = cli.field(
        1, "GANs trained at once in one program, with the seeds seed, seed + 1, ...", minimum=1
    )
    unroll_seeds: bool = cli.field(
        False,
        "Trains several seeds one after the other within a launch rather than as one batch.",
        changeable=True,
    )
    fork_from: str = cli.field(
        "",
        "Run directory whose checkpoint a new run starts from, with settings of its own.",
        changeable=True,
    )
    fork_checkpoint: str = cli.field(
        "newest", "Checkpoint to start from: newest, or a step.", changeable=True
    )
    init_from: str = cli.field(
        "",
        "Run directory whose players a new run begins with, at step 0 and with fresh optimisers.",
        changeable=True,
    )
    init_checkpoint: str = cli.field(
        "newest", "Checkpoint of these players: newest, best by score, or a step.", changeable=True
    )
    init_players: str = cli.field(
        "both",
        "Which players are taken from it; with gen the discriminator is a fresh one, and may be "
        "another network.",
        choices=("both", "gen"),
        changeable=True,
    )
    parallel: str = cli.field(
        "jit",
        "How the step spreads over devices.",
        choices=("jit", "pmap"),
        changeable=True,
    )
    cpu_devices: int = cli.field(
        0, "Fake CPU devices of a process, for trying; 0 uses the real ones.", minimum=0,
        changeable=True,
    )  # fmt: skip
    shard_params: bool = cli.field(
        False,
        "Splits parameters, optimiser state and moving average over the devices: less memory.",
        changeable=True,
    )
    coordinator_address: str = cli.field(
        "",
        "HOST:PORT of process 0, in a run of several processes; not needed on SLURM and TPU pods.",
        changeable=True,
    )
    num_processes: int = cli.field(
        0, "Processes of the run; 1 on a cluster for a run by itself.", minimum=0, changeable=True
    )
    process_id: int = cli.field(
        -1, "Which of the processes this is, from 0.", minimum=-1, changeable=True
    )
    peer_timeout: int = cli.field(
        60,
        "Seconds without a sign of life after which another process is lost, and this one ends.",
        minimum=5,
        changeable=True,
    )
    log_every: int = cli.field(50, "Steps between logged metrics.", minimum=1, changeable=True)
    sample_every: int = cli.field(500, "Steps between sample grids.", minimum=1, changeable=True)
    num_samples: int = cli.field(100, "Images in a sample grid.", minimum=1, changeable=True)
    save_every: int = cli.field(500, "Steps between checkpoints.", minimum=1, changeable=True)
    eval_every: int = cli.field(
        0, "Steps between scores of the generator; 0 for none.", minimum=0, changeable=True
    )
    compute_dtype: str = cli.field(
        "float32",
        "Number format of the networks' computation; parameters, losses and penalties are float32.",
        choices=("float32", "bfloat16"),
    )
    steps_per_call: int = cli.field(
        1,
        "Steps run in one launch; more than 1 helps small nets on accelerators, not on CPU.",
        minimum=1,
        changeable=True,
    )
    on_nonfinite: str = cli.field(
        "stop",
        "Where a player has NaN or infinity: stop; skip the step; or roll back to the last "
        "checkpoint and go on with other random numbers.",
        choices=("stop", "skip", "rollback"),
        changeable=True,
    )
    max_rollbacks: int = cli.field(
        3, "Rollbacks of a run before it stops.", minimum=1, changeable=True
    )
    async_saves: bool = cli.field(
        True,
        "Trains on while a checkpoint is written; where not, a kill never costs more than "
        "save_every steps.",
        changeable=True,
    )
    on_failed_save: str = cli.field(
        "continue",
        "Where a checkpoint other than the last cannot be written, as on a full disk: continue "
        "with a warning, or stop.",
        choices=("continue", "stop"),
        changeable=True,
    )
    strict_restore: bool = cli.field(
        False,
        "Stops where the newest checkpoint is damaged, rather than go on from the one before it.",
        changeable=True,
    )
    data_timeout: float = cli.field(
        600.0, "Seconds to wait for a batch before the process ends; 0 for ever.", minimum=0,
        changeable=True,
    )  # fmt: skip
    step_timeout: float = cli.field(
        3600.0,
        "Seconds without progress in one step, its compilation, or one hook after it (saving, "
        "scoring, logging) before the process ends; 0 for ever.",
        minimum=0,
        changeable=True,
    )
    compilation_cache: str = cli.field(
        "~/.cache/jaxgan",
        "Directory of compiled programs, for a faster second start; empty for none.",
        changeable=True,
    )
    keep_memory: bool = cli.field(
        True,
        "On CPU, keeps freed memory for the next step: faster, never smaller.",
        changeable=True,
    )
    dry_run: bool = cli.field(
        False, "Prints settings, sizes, devices and memory, and exits.", changeable=True
    )

    def __post_init__(self):
        """Checks every field, and that launches end where something is due."""
        cli.check(self)
        if self.init_from and self.fork_from:
            raise UserError(
                f"--init_from={self.init_from} and --fork_from={self.fork_from} both say where to "
                "start; use --init_from for the players only, --fork_from for the whole state"
            )
        meeting.check(self.coordinator_address, self.num_processes, self.process_id)
        if self.shard_params and self.parallel == "pmap":
            raise UserError("--shard_params needs --parallel=jit; pmap keeps all on each device")
        if self.is_ensemble:
            self._check_ensemble()
        for name in ("num_steps", "log_every", "sample_every", "save_every", "eval_every"):
            if getattr(self, name) % self.steps_per_call:
                raise UserError(
                    f"--steps_per_call={self.steps_per_call} does not divide "
                    f"--{name}={getattr(self, name)}"
                )

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that steps and norms average over; None in the global view."""
        return parallel.AXIS if self.parallel == "pmap" else None

    @property
    def micro_batches(self) -> int:
        """How many a batch is computed in, one after the other."""
        return 1

    @property
    def is_ensemble(self) -> bool:
        """Whether the state holds several GANs, each array with a leading axis of them."""
        return self.seeds > 1

    def keys(self, seed: int) -> "Keys":
        """The random keys of the run of one seed."""
        return Keys(*jax.random.split(jax.random.key(seed), 3))

    def resolved(self, spec: Spec) -> "RunConfig":
        """The config with what it leaves to the data taken from them."""
        del spec
        return self

    def cycle(self) -> Sequence["RunConfig"]:
        """The configs whose steps take turns, where something is due every few steps only.

        Returns:
          One config for each step of a period, of which the first has all that is due. The step
          that a config itself makes does the same, and decides at each step what is due.
        """
        return (self,)

    def check_change(self, before: Mapping[str, Any]) -> None:
        """Refuses changes of settings, which a run was made with `before`, that cannot be made."""

    def _check_ensemble(self) -> None:
        for name, plain in (("parallel", "jit"), ("shard_params", False)):
            if getattr(self, name) != plain:
                raise UserError(
                    f"--seeds={self.seeds} needs --{name}={plain}; train the seeds one by one"
                )
        if self.on_nonfinite == "rollback":
            raise UserError(
                f"--on_nonfinite=rollback would take back all of --seeds={self.seeds}; use skip"
            )


class Keys(NamedTuple):
    """The random keys of a run; each is consumed by one thing alone."""

    init: Key
    train: Key
    sample: Key


@dataclasses.dataclass(frozen=True)
class DataConfig(RunConfig):
    """The flags of runs on a dataset, whose generator is scored against it."""

    dataset: str = cli.field(
        "digits", "Training images: digits (bundled), mnist, fashion_mnist, ..., arrays, folder."
    )
    holdout: float = cli.field(
        0.0,
        "Share of a dataset without a test split that is kept out of training, for scores.",
        minimum=0,
        below=1,
    )
    data_dir: str = cli.field(
        "", "Where the data are: idx files, an .npz file, a folder of images.", changeable=True
    )
    eval_samples: int = cli.field(
        10_000,
        "Samples of a score, and test images at most.",
        minimum=reference.MIN_IMAGES,
        changeable=True,
    )
    eval_metric: str = cli.field(
        "frechet_distance",
        "Metric by which the best checkpoint is kept beside the newest.",
        choices=tuple(evaluate.BETTER),
        changeable=True,
    )
    eval_features: str = cli.field(
        "classifier", "What scores compare images by.", choices=reference.KINDS, changeable=True
    )
    eval_weights: str = cli.field(
        "",
        "File of those features' weights, or folder of classifiers, where not in its usual place.",
        changeable=True,
    )

    def __post_init__(self):
        """Checks every field, and that features have weights."""
        super().__post_init__()
        if self.eval_every and self.eval_features == "inception" and not self.eval_weights:
            raise UserError("--eval_features=inception needs --eval_weights=FILE, its weights")
