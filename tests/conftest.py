"""Tests run on eight fake CPU devices; rank promotion raises, and warnings are errors."""

import gc
import importlib.metadata
import os
import pathlib
import signal

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["PJRT_NPROC"] = "32"  # fewer threads dead-lock eight fake devices on jax 0.10 and 0.11
# Programs that run for milliseconds are not worth optimising: half the time to compile them. A flag
# from outside comes last and wins.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 "
    + os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_collective_call_warn_stuck_timeout_seconds=10"
    + " --xla_cpu_collective_call_terminate_timeout_seconds=60"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know the flag
    # The older way to compile loops takes a fifth less time.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
_CACHE = pathlib.Path(__file__).parent.parent / ".jax_cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))  # children of tests inherit it
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax  # noqa: E402

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, also by what tests start
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes millions of objects, few of them garbage in cycles: to look for those as often as
# Python does by itself takes a sixth of the time.
gc.set_threshold(50_000, 20, 50)


def pytest_configure(config):
    """Warnings are errors, but for those that other packages raise about themselves."""
    config.addinivalue_line("filterwarnings", "error")
    # Where one array of a checkpoint cannot be read or written, Orbax abandons the others.
    abandoned = "Exception ignored in. <coroutine object (async_serialize|_read_array)"
    kind = "pytest.PytestUnraisableExceptionWarning"
    config.addinivalue_line("filterwarnings", f"ignore:{abandoned}:{kind}")


# Of two processes that take file after file, one would wait for the other to end a long last one.
LONGEST_FIRST = (
    "lint_test.py",
    "run/driver_test.py",
    "nets/layers_test.py",
    "parallel/parallel_test.py",
    "steps/adversarial_test.py",
    "steps/accumulate_test.py",
    "experiments/images_test.py",
    "experiments/evaluate_test.py",
    "run/scores_test.py",
    "nets/conv_test.py",
    "steps/keys_test.py",
    "faults/kills_test.py",
    "parallel/many_processes_test.py",
)


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first; the others stay in their order."""

    def place(item):
        found = [n for n, name in enumerate(LONGEST_FIRST) if str(item.path).endswith(f"/{name}")]
        return min(found, default=len(LONGEST_FIRST))

    items.sort(key=place)


def pytest_collection_finish(session):
    """What was imported stays: no collection need look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real datasets, where there is one (JAXGAN_DATA, or ../shared/data)."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("JAXGAN_DATA", default))
    if not (folder / "mnist").is_dir():
        pytest.skip("needs the real datasets: set JAXGAN_DATA to a folder that holds mnist/")
    return folder
