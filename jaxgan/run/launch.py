"""What a run launches: the compiled step and the batches of each call; or, dry, what they are."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import parallel, steps
from jaxgan.data import pipeline
from jaxgan.data.registry import Source
from jaxgan.data.spec import Spec
from jaxgan.parallel import processes
from jaxgan.run import cli
from jaxgan.run.config import Keys, RunConfig
from jaxgan.state import GANState, StepFn
from jaxgan.types import Key, UserError

C = TypeVar("C", bound=RunConfig)


class OutOfMemory(UserError):
    """What was asked for does not fit the devices."""

    exit_code = 1


def initialize(config: RunConfig) -> None:
    """Prepares the process for a run; call it before anything touches a device.

    Args:
      config: its flags.

    Raises:
      UserError: the devices asked for cannot be made, or the other processes not be reached.
    """
    processes.start(
        coordinator_address=config.coordinator_address,
        num_processes=config.num_processes,
        process_id=config.process_id,
        peer_timeout=config.peer_timeout,
        run=config.workdir,
    )
    parallel.initialize(
        cpu_devices=config.cpu_devices,
        compilation_cache=config.compilation_cache,
        keep_memory=config.keep_memory,
    )


def resolved(config: C, spec: Spec) -> C:
    """Takes what a config leaves to its data from them, and prints it.

    The channels are left out, which most runs leave to the data.

    Args:
      config: as the flags have it.
      spec: of the data.

    Returns:
      The same, `resolved`.
    """
    result = config.resolved(spec)
    before, after = (
        cli.as_flags(each, without=("channels",)).splitlines() for each in (config, result)
    )
    found = [line for line in after if line not in before]
    if found and processes.is_main():
        print(f"taken from the data: {' '.join(found)}", flush=True)
    return result  # pyright: ignore[reportReturnType]


def keys(config: RunConfig) -> Keys:
    """Makes the random keys of a run.

    Args:
      config: its seeds.

    Returns:
      One key for each purpose; of several seeds, a row of keys for each.
    """
    if not config.is_ensemble:
        return config.keys(config.seed)
    each = [config.keys(config.seed + number) for number in range(config.seeds)]
    return Keys(*(jnp.stack(column) for column in zip(*each, strict=True)))


def init(config: RunConfig, one: Callable[[Key], GANState]) -> Callable[[Key], GANState]:
    """Makes the start of a run.

    Args:
      config: how many seeds it has.
      one: key -> fresh state of one GAN.

    Returns:
      Key, or row of keys -> fresh state of all.
    """
    return (lambda keys: steps.init_ensemble(keys, one)) if config.is_ensemble else one


def compiled(
    step: StepFn,
    config: RunConfig,
    mesh: parallel.Mesh,
    shardings: GANState,
    *,
    per_seed: bool = False,
) -> StepFn:
    """Compiles a step as the config asks.

    Args:
      step: one step of one GAN, with its batch prepared.
      config: how many steps a launch has, of how many seeds, and how they spread over devices.
      mesh: the devices.
      shardings: where each array of the state lies.
      per_seed: whether each seed has batches of its own, as those of `batches` are.

    Returns:
      What `loop.fit` calls with each of `batches`.
    """
    if config.steps_per_call > 1:
        step = steps.multi_step(step, config.steps_per_call)
    if config.is_ensemble:
        step = steps.ensemble(step, per_seed=per_seed, unroll=config.unroll_seeds)
    if config.parallel == "pmap":
        return parallel.pmap_step(step, mesh=mesh)
    options = parallel.compiler_options(config.compute_dtype)
    split = shardings if config.shard_params else None
    return parallel.jit_step(step, mesh, shardings=split, compiler_options=options)


def batches(
    source: Source | None, config: RunConfig, start: int, mesh: parallel.Mesh
) -> Generator[Mapping[str, Any], None, None]:
    """Iterates over what each launch takes; a resident dataset goes to the devices once.

    Args:
      source: the training data; None for a step that makes its own.
      config: the batch size, the seeds of the order, and how many steps a launch has.
      start: the step to begin after.
      mesh: the devices.

    Yields:
      This process's rows of the batches of one launch, by name: [B, ...], with an axis of the
      seeds, if there are several, and one of the steps of a launch, if those are, after the first.
    """
    if source is None:
        yield from itertools.repeat({})
        return
    seeds = range(config.seed, config.seed + config.seeds)
    with contextlib.ExitStack() as opened:
        each = [
            opened.enter_context(
                contextlib.closing(
                    pipeline.batches(
                        source,
                        batch_size=config.batch_size,
                        seed=seed,
                        start=start,
                        process_index=jax.process_index(),
                        process_count=jax.process_count(),
                    )
                )
            )
            for seed in seeds
        ]
        resident = None
        while True:
            launches = [_one_launch(rows, config.steps_per_call) for rows in each]
            data = [launch.pop(parallel.RESIDENT, None) for launch in launches][0]
            if data is not None and resident is None:
                resident = {parallel.RESIDENT: parallel.replicate(data, mesh)}
            rows = launches[0]
            if config.is_ensemble:
                rows = {name: np.stack([one[name] for one in launches], axis=1) for name in rows}
            yield {**rows, **(resident or {})}


def _one_launch(batches: Iterator[dict[str, Any]], num: int) -> dict[str, Any]:
    """The next batches side by side, [B, num, ...]; of one, itself."""
    if num == 1:
        return dict(next(batches))
    each = [next(batches) for _ in range(num)]
    return {
        name: value if name == parallel.RESIDENT else np.stack([b[name] for b in each], axis=1)
        for name, value in each[0].items()
    }


def describe(
    config: RunConfig, source: Source | None, state: GANState, step: StepFn, num_devices: int
) -> None:
    """Prints what a run would be. Memory is that of the compiled step on one device.

    Args:
      config: the flags.
      source: the training data; None for a step that makes its own.
      state: a fresh state of one GAN, or the shapes of one.
      step: one step of one GAN, with its batch prepared.
      num_devices: over which a batch spreads.
    """
    rows = config.batch_size // num_devices
    print(cli.as_flags(config), end="")
    batch = {}
    if source is not None:
        example = jax.tree.map(np.asarray, source[np.zeros(1, np.int64)])
        batch = {k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in example.items()}
        shapes = {name: x.shape[1:] for name, x in example.items()}
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        print(f"data: {source.name}, {len(source)} examples of {told}")
    print(f"generator: {count(state.gen.params):,} parameters")
    print(f"discriminator: {count(state.disc.params):,} parameters")
    kind = jax.devices()[0].device_kind
    parts = f" in {config.micro_batches} micro-batches" if config.micro_batches > 1 else ""
    spread = f"{num_devices} x {kind}, {rows} examples on each{parts}"
    print(f"devices: {spread}, under {config.parallel}")
    if config.parallel == "jit":
        key = jax.eval_shape(lambda: jax.random.key(0))
        memory = (
            jax.jit(step, donate_argnums=1).lower(key, state, batch).compile().memory_analysis()
        )
        if memory is not None:
            size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            each = ", times the seeds" if config.is_ensemble else ""
            print(
                f"memory: about {size / 2**20:,.0f} MiB on each device{each}: state, batch and step"
            )


def count(tree: object) -> int:
    """Counts the numbers in a pytree.

    Args:
      tree: pytree of arrays or of their shapes.

    Returns:
      How many, over all leaves.
    """
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@contextlib.contextmanager
def out_of_memory_in_one_line(config: RunConfig, mesh: parallel.Mesh) -> Iterator[None]:
    """Reports in one line which setting to change where memory does not suffice.

    Args:
      config: of the run.
      mesh: the devices.

    Yields:
      Nothing.

    Raises:
      OutOfMemory: in place of XLA's report.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        kind, accumulate = jax.devices()[0].device_kind, 2 * getattr(config, "accumulate", 0)
        can = accumulate and config.batch_size % (2 * config.micro_batches * mesh.size) == 0
        less = f"--accumulate={accumulate} to go on, " if can else ""
        raise OutOfMemory(
            f"out of memory: --batch_size={config.batch_size} over {mesh.size} x {kind} does not "
            f"fit; use {less}a smaller --batch_size in another workdir, --compute_dtype=bfloat16, "
            "or more devices. What was saved is whole"
        ) from error
