"""How fast a training step is here, and how soon a run starts.

    python -m experiments.bench                          # the whole table
    python -m experiments.bench --model=dcgan28 --r1=10  # one row
    python -m experiments.bench --model=dcgan28 --devices=1,2,4

Prints one JSON line a row. Each row runs in two processes of its own: the first with an empty
compilation cache, for the compile time and the first start; the second with what the first one
left, for the second start, the step times and the peak memory. Compare numbers only if taken in
turn on the same idle machine.

Models: dcgan28 is G: Dense(64 -> 7x7x2w), two transposed convolutions 4x4 of stride 2, batch norm
and ReLU; D: its mirror, batch norm on all but the first layer (none with R1). dcgan64 likewise with
Dense(128 -> 4x4x8w), four of them, and three channels. r3gan32 and r3gan64 have w channels in each
stage (half at 64 pixels) and two blocks; the relativistic loss, and with --r1 R2 as well.
stylegan2_32 and stylegan2_64 have 4w channels up to 8 pixels, then half as many each time, w at 32
and at 64, and two layers that map latents of 4w. Adam for both players; non-saturating loss.
"""

import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgan import parallel, penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.nets import dcgan, r3gan, stylegan2
from jaxgan.run import cli
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, UserError


class Model(NamedTuple):
    """What is timed.

    Attributes:
      make: (width, normalised, dtype) -> (G, D); normalised: whether D has batch norm.
      image_size: pixels a side.
      channels: of the images.
      latent_dim: size of one latent, for a width.
      batch_size: of the table.
      width: of the table.
      steps: update rules and weights of R1 of the table.
    """

    make: Callable[[int, bool, Any], tuple[nn.Module, nn.Module]]
    image_size: int
    channels: int
    latent_dim: Callable[[int], int]
    batch_size: int
    width: int
    steps: Sequence[tuple[str, float]]


def _dcgan(image_size: int, channels: int, latent_dim: int, batch_size: int, width: int) -> Model:
    def make(width: int, normalised: bool, dtype: Any) -> tuple[nn.Module, nn.Module]:
        gen = dcgan.Generator(image_size=image_size, channels=channels, width=width, dtype=dtype)
        norm = "batch" if normalised else "none"
        return gen, dcgan.Discriminator(width=width, norm=norm, dtype=dtype)

    table = (("simultaneous", 0.0), ("alternating", 0.0), ("alternating", 10.0))
    return Model(make, image_size, channels, lambda _: latent_dim, batch_size, width, table)


def _r3gan(image_size: int) -> Model:
    def make(width: int, _: bool, dtype: Any) -> tuple[nn.Module, nn.Module]:
        widths = [width] * 4 + [width // 2] * (image_size == 64)
        gen = r3gan.Generator(image_size, widths=widths, dtype=dtype)
        return gen, r3gan.Discriminator(widths=widths, dtype=dtype)

    return Model(make, image_size, 3, lambda _: 64, 32, 128, [("alternating", 1.0)])


def _stylegan2(image_size: int) -> Model:
    def make(width: int, _: bool, dtype: Any) -> tuple[nn.Module, nn.Module]:
        widths = [4 * width] * (2 + (image_size == 64)) + [2 * width, width]
        gen = stylegan2.Generator(
            image_size,
            widths=widths,
            features=4 * width,
            mapping_layers=2,
            mixing=0.0,
            dtype=dtype,
        )
        return gen, stylegan2.Discriminator(widths=widths, dtype=dtype)

    table = (("alternating", 0.0), ("alternating", 1.0))
    return Model(make, image_size, 3, lambda width: 4 * width, 32, 32, table)


MODELS = {
    "dcgan28": _dcgan(28, 1, 64, 128, 64),
    "dcgan64": _dcgan(64, 3, 128, 64, 32),
    "r3gan32": _r3gan(32),
    "r3gan64": _r3gan(64),
    "stylegan2_32": _stylegan2(32),
    "stylegan2_64": _stylegan2(64),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One row; an empty model means every row of the table."""

    model: str = cli.field("", "Model to time; empty for the whole table.", choices=("", *MODELS))
    batch_size: int = cli.field(0, "Images a step; 0 for the table's.", minimum=0)
    width: int = cli.field(0, "Width w of both networks; 0 for the table's.", minimum=0)
    r1: float = cli.field(0.0, "Weight gamma of R1; 0 for none.", minimum=0)
    update: str = cli.field("simultaneous", "Update rule.", choices=("simultaneous", "alternating"))
    compute_dtype: str = cli.field(
        "float32", "Number format of the computation.", choices=("float32", "bfloat16")
    )
    devices: str = cli.field("", "Devices to sweep over, such as 1,2,4; empty for all at once.")
    steps: int = cli.field(30, "Steps timed.", minimum=3)
    isolate: bool = cli.field(True, "Runs each row in processes of its own.")

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)


def run(config: Config) -> None:
    """Prints the rows."""
    for row in _rows(config):
        result = _in_two_processes(row) if config.isolate else measure(row)
        print(json.dumps(result), flush=True)


def build(config: Config) -> tuple[StepFn, Any, dict[str, np.ndarray]]:
    """The step of a row, its initialiser (key -> state), and a batch."""
    model = MODELS[config.model]
    size, channels, latent_dim = model.image_size, model.channels, model.latent_dim(config.width)
    gen, disc = model.make(config.width, not config.r1, jnp.dtype(config.compute_dtype))
    tx = optax.adam(2e-4, b1=0.5, b2=0.999)
    relativistic = config.model.startswith("r3gan")
    penalty = penalties.r1_r2 if relativistic else penalties.r1
    builder = {"simultaneous": steps.simultaneous_step, "alternating": steps.alternating_step}
    game = steps.Game(
        gen=steps.from_latents(gen, latent_dim),
        disc=steps.judged(disc, "image"),
        loss=ADVERSARIAL["relativistic" if relativistic else "nonsaturating"],
        penalty=penalties.weighted(penalty, config.r1) if config.r1 else None,
    )
    step = builder[config.update](game, tx, tx)

    def init(key: Key) -> GANState:
        z, x = jnp.zeros((1, latent_dim)), jnp.zeros((1, size, size, channels))
        return state.init_state(
            state.init_player(gen.init(key, z, train=False), tx),
            state.init_player(disc.init(key, x, train=False), tx),
        )

    shape = (config.batch_size, size, size, channels)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return steps.train_step(step), init, {"image": images}


def measure(config: Config) -> dict[str, Any]:
    """Times one row in this process; returns what its JSON line says."""
    parallel.initialize()  # as a run does
    mesh = parallel.make_mesh()
    step, init, batch = build(config)
    options = parallel.compiler_options(config.compute_dtype)
    compiled = parallel.jit_step(step, mesh, compiler_options=options)
    key = jax.random.key(0)
    now = parallel.replicate(jax.jit(init)(key), mesh)
    batch = parallel.shard_batch(batch, mesh)

    begin = time.perf_counter()
    program = jax.jit(step, donate_argnums=1, compiler_options=options).lower(key, now, batch)
    program.compile()
    compile_seconds = time.perf_counter() - begin
    now, _ = jax.block_until_ready(compiled(key, now, batch))
    start_seconds = time.time() - _process_started()
    times = []
    for _ in range(config.steps):
        begin = time.perf_counter()
        now, _ = jax.block_until_ready(compiled(key, now, batch))
        times.append(time.perf_counter() - begin)
    median = float(np.median(times))

    # Counted before compiling: of a library's own calls the compiler does not know the cost.
    flops = float((program.cost_analysis() or {}).get("flops", 0.0))
    rate = matmul_rate(config.compute_dtype)
    row = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("isolate", "devices")}
    return row | {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "ms": round(1e3 * median, 2),
        "ms_min": round(1e3 * min(times), 2),
        "images_per_s": round(config.batch_size / median, 1),
        "compile_s": round(compile_seconds, 2),
        "start_s": round(start_seconds, 2),
        "peak_mib": round(peak_memory() / 2**20),
        "gflop": round(flops / 1e9, 2),
        "matmul_gflop_per_s": round(rate / 1e9),
        "share_of_matmul": round(flops / median / rate / mesh.size, 3),
    }


def matmul_rate(dtype: str, size: int = 2048) -> float:
    """Measures FLOP/s of a square matrix product on one device: the ceiling to compare with."""
    a = jnp.ones((size, size), jnp.dtype(dtype))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


def peak_memory() -> int:
    """Bytes: the accelerator's peak where it tells, else the process's."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _rows(config: Config) -> list[Config]:
    """The rows asked for, every number filled in."""
    table = [config]
    if not config.model:
        table = [
            dataclasses.replace(config, model=model, update=update, r1=r1, compute_dtype=dtype)
            for model, told in MODELS.items()
            for (update, r1), dtype in itertools.product(told.steps, ("float32", "bfloat16"))
        ]
    return [
        dataclasses.replace(
            row,
            batch_size=row.batch_size or MODELS[row.model].batch_size,
            width=row.width or MODELS[row.model].width,
            devices=devices,
        )
        for row in table
        for devices in (row.devices.split(",") if row.devices else [""])
    ]


def _in_two_processes(row: Config) -> dict[str, Any]:
    """Runs a row twice, the second time with the first one's compilation cache."""
    environment = dict(os.environ)
    if row.devices:
        if not row.devices.isdecimal() or not int(row.devices):
            raise UserError(f"--devices={row.devices} is not a list of numbers such as 1,2,4")
        count = int(row.devices)
        environment |= {"JAX_NUM_CPU_DEVICES": row.devices, "PJRT_NPROC": str(max(2 * count, 2))}
        environment |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(count)))}
    lines = cli.as_flags(dataclasses.replace(row, isolate=False, devices="")).split()
    with tempfile.TemporaryDirectory() as cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        first, second = (_child(lines, environment) for _ in range(2))
    starts = {"first_start_s": first["start_s"], "second_start_s": second.pop("start_s")}
    return second | {"compile_s": first["compile_s"]} | starts


def _child(lines: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.bench", *lines]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _process_started() -> float:
    """When this process began, in seconds since the epoch: imports count as part of a start."""
    ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    return booted + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    cli.main(Config, run)
