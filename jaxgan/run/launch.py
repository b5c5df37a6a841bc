"""What a run launches: the compiled step and the batches of each call; or, dry, what they are."""

import contextlib
from collections.abc import Generator, Mapping
from typing import Any

import jax
import numpy as np

from jaxgan import parallel, steps
from jaxgan.data import pipeline
from jaxgan.data.registry import Source
from jaxgan.parallel import processes
from jaxgan.run import cli
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, StepFn


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
    )
    parallel.initialize(
        cpu_devices=config.cpu_devices,
        compilation_cache=config.compilation_cache,
        keep_memory=config.keep_memory,
    )


def compiled(step: StepFn, config: RunConfig, mesh: parallel.Mesh, shardings: GANState) -> StepFn:
    """Compiles a step as the config asks.

    Args:
      step: one step, with its batch prepared.
      config: how many steps a launch has, and how they spread over devices.
      mesh: the devices.
      shardings: where each array of the state lies.

    Returns:
      What `loop.fit` calls with each of `batches`.
    """
    if config.steps_per_call > 1:
        step = steps.multi_step(step, config.steps_per_call)
    if config.parallel == "pmap":
        return parallel.pmap_step(step, mesh=mesh)
    options = parallel.compiler_options(config.compute_dtype)
    split = shardings if config.shard_params else None
    return parallel.jit_step(step, mesh, shardings=split, compiler_options=options)


def batches(
    source: Source, config: RunConfig, start: int, mesh: parallel.Mesh
) -> Generator[Mapping[str, Any], None, None]:
    """Iterates over what each launch takes; a resident dataset goes to the devices once.

    Args:
      source: the training data.
      config: the batch size, the seed of the order, and how many steps a launch has.
      start: the step to begin after.
      mesh: the devices.

    Yields:
      This process's rows of the batches of one launch, by name.
    """
    rows_of_steps = pipeline.batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    resident = None
    with contextlib.closing(rows_of_steps):
        while True:
            launch = [dict(next(rows_of_steps)) for _ in range(config.steps_per_call)]
            data = [batch.pop(parallel.RESIDENT, None) for batch in launch][0]
            if data is not None and resident is None:
                resident = {parallel.RESIDENT: parallel.replicate(data, mesh)}
            rows = launch[0]
            if config.steps_per_call > 1:
                rows = {name: np.stack([b[name] for b in launch], axis=1) for name in rows}
            yield {**rows, **(resident or {})}


def describe(
    config: RunConfig, source: Source, state: GANState, step: StepFn, num_devices: int
) -> None:
    """Prints what a run would be. Memory is that of the compiled step on one device.

    Args:
      config: the flags.
      source: the training data.
      state: a fresh state, or the shapes of one.
      step: one step, with its batch prepared.
      num_devices: over which a batch spreads.
    """
    rows = config.batch_size // num_devices
    example = jax.tree.map(np.asarray, source[np.zeros(1, np.int64)])
    batch = {k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in example.items()}
    print(cli.as_flags(config), end="")
    print(f"data: {source.name}, {len(source)} images of {source.image_shape}")
    print(f"generator: {count(state.gen.params):,} parameters")
    print(f"discriminator: {count(state.disc.params):,} parameters")
    kind = jax.devices()[0].device_kind
    print(f"devices: {num_devices} x {kind}, {rows} images on each, under {config.parallel}")
    if config.parallel == "jit":
        key = jax.eval_shape(lambda: jax.random.key(0))
        memory = (
            jax.jit(step, donate_argnums=1).lower(key, state, batch).compile().memory_analysis()
        )
        if memory is not None:
            size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
            print(f"memory: about {size / 2**20:,.0f} MiB on each device: state, batch and step")


def count(tree: object) -> int:
    """Counts the numbers in a pytree.

    Args:
      tree: pytree of arrays or of their shapes.

    Returns:
      How many, over all leaves.
    """
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
