"""One number that all processes agree on, found on the devices."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.parallel.mesh import shard_batch


class Vote:
    """Makes one number of those that the processes give, the same in all, without a wait.

    Every so many calls the largest of them is taken on the devices, behind the steps under way; it
    is read as many calls later. So all processes learn of a signal at the same step.
    """

    def __init__(self, mesh: Mesh, *, every: int = 4):
        """Prepares for votes.

        Args:
          mesh: the devices of all processes.
          every: calls between votes; of one process, every call is one.
        """
        self._mesh, self._every = mesh, every
        self._alone = len(mesh.local_devices) == mesh.size
        self._calls, self._pending = 0, None
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._largest = jax.jit(lambda values: values.max(), out_shardings=everywhere)

    def __call__(self, value: int) -> int:
        """Takes this process's number; every process must call it equally often.

        Args:
          value: 0 for nothing.

        Returns:
          The largest given at the vote before, or 0; for one process, the number itself.
        """
        if self._alone:
            return value
        self._calls += 1
        if self._calls % self._every:
            return 0
        result = 0 if self._pending is None else int(self._pending)
        values = np.full(len(self._mesh.local_devices), value, np.int32)
        split = shard_batch({"value": values}, self._mesh)["value"]
        # What was heard of is not asked for again: whoever gave it may go on.
        self._pending = None if result else self._largest(split)
        return result
