"""Many devices, of this process or of several: the only package that says device, mesh or pmap."""

from jaxgan.collectives import gather, mean, own_key, share
from jaxgan.parallel.compile import jit_step, pmap_step
from jaxgan.parallel.devices import compiler_options, initialize
from jaxgan.parallel.mesh import (
    AXIS,
    MIN_SHARDED,
    RESIDENT,
    Mesh,
    check_batch_size,
    local_copy,
    make_mesh,
    place,
    replicate,
    shard_batch,
    spread,
    state_sharding,
)
from jaxgan.parallel.vote import Vote

__all__ = [
    "AXIS",
    "MIN_SHARDED",
    "RESIDENT",
    "Mesh",
    "Vote",
    "check_batch_size",
    "compiler_options",
    "gather",
    "initialize",
    "jit_step",
    "local_copy",
    "make_mesh",
    "mean",
    "own_key",
    "place",
    "pmap_step",
    "replicate",
    "shard_batch",
    "share",
    "spread",
    "state_sharding",
]
