"""The largest of the processes' numbers, known to all of them at the same step."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.parallel.mesh import shard_batch


class Vote:
    """Exchanges a number between processes without stalling the devices.

    Every few calls the devices compute the largest of the numbers, queued behind the current steps,
    and as many calls later it is read. So all processes receive a signal at the same step.
    """

    def __init__(self, mesh: Mesh, *, every: int = 4):
        """Compiles nothing yet.

        Args:
          mesh: the devices of all processes.
          every: calls between exchanges; with one process every call returns its number.
        """
        self._mesh, self._every = mesh, every
        self._alone = len(mesh.local_devices) == mesh.size
        self._calls, self._pending = 0, None
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._largest = jax.jit(lambda values: values.max(), out_shardings=everywhere)

    def __call__(self, value: int) -> int:
        """Gives this process's number; every process must call this equally often.

        Args:
          value: the number; 0 for none.

        Returns:
          The largest number of the previous exchange, or 0; with one process its own.
        """
        if self._alone:
            return value
        self._calls += 1
        if self._calls % self._every:
            return 0
        result = 0 if self._pending is None else int(self._pending)
        values = np.full(len(self._mesh.local_devices), value, np.int32)
        split = shard_batch({"value": values}, self._mesh)["value"]
        # A number that was delivered is not exchanged again: its process may continue.
        self._pending = None if result else self._largest(split)
        return result
