"""Which examples make up a batch, and how batches reach the compiled step.

The position in the data is the step counter and nothing else: batch `s` is rows
`s * B .. (s + 1) * B` of an endless stream of epochs, each a fresh permutation of all examples. A
batch may straddle two epochs, so shapes stay constant and no example is ever dropped.

Three modes give the same batches. "host" indexes arrays in memory and is the fastest on CPU;
"resident" sends only indices, for datasets that the accelerator holds whole; "stream" reads and
decodes ahead, in threads or in worker processes, for all that is not in memory.
"""

import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxgan import images, types
from jaxgan.data import stream
from jaxgan.types import UserError

MODES = ("auto", "host", "resident", "stream")
RESIDENT_BYTES = 2**30

_permutation_lock = threading.Lock()


class Batches(Iterator[dict[str, Any]], Protocol):
    """An endless iterator of batches that knows its position and can be closed.

    Attributes:
      step: the training step that the next batch belongs to, counted from the start of the run. It
        counts single steps, also where one call of a compiled step takes several. `loop.fit`
        compares it with the state's, so that a forgotten `start=` is noticed.
    """

    step: int

    def close(self) -> None:
        """Stops reading ahead."""
        ...


def batch_indices(seed: int, step: int, *, num_examples: int, batch_size: int) -> np.ndarray:
    """Says which examples make up the batch of one step.

    Args:
      seed: of the order, 0 or more.
      step: number of the step, from 0.
      num_examples: size of the dataset, at least 1; may be less than a batch.
      batch_size: examples a step, over all processes.

    Returns:
      int64 [batch_size] in [0, num_examples).
    """
    start, stop = step * batch_size, (step + 1) * batch_size
    parts = []
    while start < stop:
        epoch, offset = divmod(start, num_examples)
        part = epoch_order(seed, epoch, num_examples)[offset : offset + stop - start]
        parts.append(part)
        start += len(part)
    return np.concatenate(parts)


def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Says in which order one epoch visits the examples.

    Args:
      seed: of the order, 0 or more.
      epoch: number of the epoch, from 0.
      num_examples: size of the dataset.

    Returns:
      int64 [num_examples], a permutation, not to be written to.
    """
    # One thread makes it, those that read ahead wait for it.
    with _permutation_lock:
        return _permutation(seed, epoch, num_examples)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(num_examples)
    order.flags.writeable = False
    return order


def batches(
    source,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    mode: str = "auto",
    workers: int | None = None,
) -> Batches:
    """Yields the batches of step `start` and all that follow, without end.

    Close the iterator (`.close()`) to stop reading ahead; leaving the program does so too.

    Args:
      source: where examples come from (see `jaxgan.data`).
      batch_size: examples a step, over all processes.
      seed: of the order, 0 or more.
      start: the first step; on a resume that of the restored state, `int(state.step)`.
      process_index: which process this is.
      process_count: how many processes there are. Each gets its contiguous share of the rows of
        every batch, and reads only these.
      mode: "host", "resident", "stream", or "auto" to choose by platform and size.
      workers: processes that decode in the mode "stream"; 0 for threads of this process; None for
        0 if the data are in memory, and one a core, at most 8, otherwise. With processes, a script
        must start its work under `if __name__ == "__main__":`.

    Returns:
      An iterator of dicts of NumPy arrays, uint8 images among them; its `step` is that of the next
      batch. In the mode "resident" the dicts are `{"index": int32 [b], "data": arrays}`, where
      `data` is the same whole dataset each time, to be put on the device once. `prepare` makes
      floats of either.

    Raises:
      UserError: impossible arguments, before anything is read.
    """
    rows = process_rows(batch_size, process_index, process_count)
    if seed < 0 or start < 0:
        raise UserError(f"seed {seed} and start {start} must be 0 or more")
    if len(source) < 1:
        raise UserError(f"{source.name}: holds no examples")
    mode = choose_mode(source, mode=mode)

    read = _ReadBatch(source, batch_size, seed, rows)
    if mode == "host":
        return _Counted(_host(read, start), start)
    if mode == "resident":
        return _Counted(_resident(read, start), start)
    in_memory = _in_memory(source)
    return _Counted(stream.read_ahead(read, start, in_memory=in_memory, workers=workers), start)


def _in_memory(source) -> bool:
    return hasattr(source, "arrays") or getattr(source, "in_host_memory", False)


class _Counted:
    """An iterator of batches beside the step of its next one."""

    def __init__(self, iterator, step: int):
        self._iterator, self.step = iterator, step

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, Any]:
        batch = next(self._iterator)
        self.step += 1
        return batch

    def close(self) -> None:
        self._iterator.close()


def process_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """Says which rows of a batch are one process's share.

    Args:
      batch_size: examples a step, over all processes.
      process_index: which process, in [0, process_count).
      process_count: how many there are.

    Returns:
      The slice of the global batch.

    Raises:
      UserError: the batch does not divide, or there is no such process.
    """
    if batch_size < 1:
        raise UserError(f"batch_size {batch_size} must be 1 or more")
    if not 0 <= process_index < process_count:
        raise UserError(f"process {process_index} is not one of {process_count}")
    share, rest = divmod(batch_size, process_count)
    if rest:
        lower, upper = batch_size - rest, batch_size - rest + process_count
        near = f"{lower} or {upper}" if lower else str(upper)
        raise UserError(
            f"batch_size {batch_size} does not divide over {process_count} processes; try {near}"
        )
    return slice(process_index * share, (process_index + 1) * share)


def choose_mode(source, *, mode: str = "auto") -> str:
    """Chooses how batches reach the device.

    Args:
      source: where examples come from; one with `arrays` is in memory, and so is one that says
        `in_host_memory`, which need not have all its examples as arrays of one shape.
      mode: "auto", or a mode that is then only checked.

    Returns:
      "host", "resident" or "stream".

    Raises:
      UserError: unknown mode, or one that this source does not allow.
    """
    if mode not in MODES:
        types.lookup(dict.fromkeys(MODES), mode, "mode")
    arrays, in_memory = getattr(source, "arrays", None), _in_memory(source)
    if (mode == "host" and not in_memory) or (mode == "resident" and arrays is None):
        what = f"is not{' as arrays' if in_memory else ''}"
        raise UserError(
            f'mode "{mode}" needs data in memory, which {source.name} {what}; use stream'
        )
    if mode != "auto":
        return mode
    if in_memory and jax.default_backend() == "cpu":
        return "host"
    if arrays is None:
        return "stream"
    size = sum(array.nbytes for array in arrays.values())
    return "resident" if size < RESIDENT_BYTES else "stream"


class _ReadBatch:
    """Step -> this process's rows of its batch. A class, so that workers can unpickle it."""

    def __init__(self, source, batch_size: int, seed: int, rows: slice):
        self.source, self.batch_size, self.seed, self.rows = source, batch_size, seed, rows

    def indices(self, step: int) -> np.ndarray:
        order = batch_indices(
            self.seed, step, num_examples=len(self.source), batch_size=self.batch_size
        )
        return order[self.rows]

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        indices = self.indices(step)
        batch = self.source[indices]
        if "image" in batch:
            check_images(batch["image"], indices, self.source.name)
        return batch


def check_images(image: np.ndarray, indices: np.ndarray, name: str) -> None:
    """Refuses images whose values are wrong and would not be noticed later; bytes are always fine.

    Args:
      image: [B, H, W, C] of any source.
      indices: int [B], the numbers of the examples.
      name: the source's name.

    Raises:
      UserError: neither uint8 nor floats in [-1, 1]; the message names an example and its range.
    """
    if image.dtype == np.uint8:
        return
    if image.dtype.kind != "f":
        raise UserError(f"{name}: images are {image.dtype}; need uint8, or floats in -1..1")
    wrong = ~(np.abs(image) <= 1 + 1e-3).reshape(len(image), -1).all(axis=1)  # NaN is wrong too
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        low, high = image[first].min(), image[first].max()
        raise UserError(
            f"{name}: image {indices[first]} ranges over {low:g}..{high:g} ({wrong.sum()} such"
            " images in the batch); need uint8, or floats in -1..1"
        )
    if image.min() >= 0:
        text = "%s: no value of a batch is below 0; images in 0..1 belong in -1..1, so use 2 x - 1"
        logging.log_first_n(logging.WARNING, text, 1, name)


def _host(read: _ReadBatch, step: int):
    while True:
        yield read(step)
        step += 1


def _resident(read: _ReadBatch, step: int):
    while True:
        yield {"index": read.indices(step).astype(np.int32), "data": read.source.arrays}
        step += 1


def gather(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Takes a batch out of the dataset on the device.

    Args:
      batch: `{"index": [B] integers, "data": {name: [N, ...]}}`.

    Returns:
      `{name: [B, ...]}`.
    """
    return {
        key: jnp.take(x, batch["index"], axis=0, mode="clip") for key, x in batch["data"].items()
    }


def prepare(batch: Mapping[str, Any]) -> types.Batch:
    """Makes a training batch of what `batches` yields, inside the compiled step.

    Args:
      batch: of any mode: `{"image": uint8 [B, H, W, C], ...}`, or indices and data to gather from.

    Returns:
      The batch with images float32 in [-1, 1] and integer labels int32; the rest as it is.
    """
    if "data" in batch:
        batch = gather(batch)
    return {key: _prepare_one(jnp.asarray(x)) for key, x in batch.items()}


def _prepare_one(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.uint8:
        return images.from_uint8(x)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.int32)
    return x
