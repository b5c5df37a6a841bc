"""Reads batches ahead of the training step, in threads or in worker processes."""

import contextlib
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import jax
import numpy as np

# Grain wants a length: more steps than any run takes.
ENDLESS = 2**60
# They reach the whole process group; the parent, which may still be saving, ends its workers.
_OF_THE_PARENT = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGXCPU,
    signal.SIGUSR1,
}


def read_ahead(
    read: Callable[[int], dict[str, Any]], start: int, *, in_memory: bool, workers: int | None
) -> Iterator[dict[str, Any]]:
    """Reads the batches of step `start` and all that follow before they are asked for.

    Args:
      read: step -> batch; can be pickled where there are workers.
      start: the first step.
      in_memory: whether the data are, so that one thread is enough.
      workers: processes that read; 0 for threads of this process, None to choose.

    Returns:
      An endless iterator with a method `close`.
    """
    import grain

    if workers is None:
        workers = 0 if in_memory else min(8, _num_cpus())
    threads = 1 if in_memory or workers else min(16, 2 * _num_cpus())
    steps = grain.MapDataset.range(start, ENDLESS).map(read)
    # With a buffer shorter than the number of threads some would be idle.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
    dataset = steps.to_iter_dataset(options)
    if workers:
        _parse_flags()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
            worker_init_fn=_start_worker,
        )
    return _Stream(iter(dataset), copy=workers > 0)


class _Stream:
    """A Grain iterator, closed once: by hand, with its last reference, or when the program ends."""

    def __init__(self, iterator, *, copy: bool):
        self._copy, self._begun = copy, not copy
        # The only reference: when the interpreter shuts them down, Grain's threads, processes and
        # shared memory report errors.
        self._held = [iterator]
        self.close = weakref.finalize(self, _close, self._held)

    def __iter__(self):
        return self

    def __next__(self):
        if not self._held:
            raise StopIteration
        if not self._begun:  # the workers start now
            self._begun = True
            with _signals_withheld():
                batch = next(self._held[0])
        else:
            batch = next(self._held[0])
        # Out of the workers' shared memory, which must not be held until the program ends.
        return {key: np.array(x) for key, x in batch.items()} if self._copy else batch


def _close(held: list) -> None:
    held.pop().close()


@contextlib.contextmanager
def _signals_withheld() -> Iterator[None]:
    """Has the processes started meanwhile ignore signals from their first instruction on.

    A mask is inherited, handlers are not. Another thread takes this process's signals meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_PARENT)
    try:
        # Where it starts a process that tracks shared memory, Python lets signals through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_PARENT)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Ties a worker process to its parent, which may be killed without a chance to stop it."""
    del worker_index, worker_count
    for signum in _OF_THE_PARENT:
        signal.signal(signum, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # a worker must not take the accelerator
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parse_flags() -> None:
    """Grain's workers read absl flags, which nobody parses under pytest or in a notebook."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
