"""Golden steps: training a tiny DCGAN gives the losses it always gave.

Those of five steps are the same on every supported version of JAX; those of a hundred, in which
rounding grows, are kept for each version. Where a change of the numerics was meant, or for a new
version of JAX, write the new ones with

    python -m tests.golden_test

and say in the change what a user will notice.
"""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from tests.helpers import tiny

FILE = pathlib.Path(__file__).parent / "golden.json"
LONG_FILE = FILE.with_name("golden_long.json")  # {version of JAX: {game: {metric: [100]}}}
GAMES = {
    "nonsaturating, batch norm in both": {"loss": "nonsaturating", "disc_norm": "batch"},
    "relativistic, r1_r2, labels": {
        "loss": "relativistic",
        "penalty": "r1_r2",
        "num_classes": 3,
        "update": "alternating",
    },
    "wasserstein, wgan_gp": {"loss": "wasserstein", "penalty": "wgan_gp", "update": "fresh"},
}
NUM_STEPS, NUM_LONG = 5, 100
LOSSES = ("disc/loss", "gen/loss")


@functools.cache
def _train(name):
    """The metrics of a hundred steps, and the norm of all parameters after the fifth."""
    step, init = tiny.dcgan_game(**GAMES[name])
    step, state, rows, size = jax.jit(step), init(), [], 0.0
    for number in range(NUM_LONG):
        state, metrics = step(jax.random.key(1), state, tiny.batch(number))
        rows.append(metrics)
        if number + 1 == NUM_STEPS:
            size = tiny.norm(jax.device_get((state.gen.params, state.disc.params)))
    return [{k: float(v) for k, v in sorted(row.items())} for row in rows], size


def _metrics(name):
    rows, size = _train(name)
    return {"steps": rows[:NUM_STEPS], "norm of all parameters": size}


def _losses(name):
    rows, _ = _train(name)
    return {key: [float(f"{row[key]:.7g}") for row in rows] for key in LOSSES}


@pytest.mark.parametrize("name", GAMES)
def test_training_gives_the_numbers_it_always_gave(name):
    golden, now = json.loads(FILE.read_text())[name], _metrics(name)
    message = (
        "training gives other numbers than before. If that was meant, write them down with "
        "`python -m tests.golden_test` and say in the change what a user will notice"
    )
    assert len(golden["steps"]) == NUM_STEPS
    for number, (before, after) in enumerate(zip(golden["steps"], now["steps"], strict=True)):
        assert before.keys() == after.keys(), message
        for key in before:
            np.testing.assert_allclose(
                after[key],
                before[key],
                rtol=2e-5,
                atol=1e-5,
                err_msg=f"step {number}, {key}: {message}",
            )
    key = "norm of all parameters"
    np.testing.assert_allclose(now[key], golden[key], rtol=1e-5, err_msg=message)


@pytest.mark.parametrize("name", GAMES)
def test_a_hundred_steps_give_the_losses_they_always_gave(name):
    golden = json.loads(LONG_FILE.read_text())
    kept = jax.__version__ in golden
    version = jax.__version__ if kept else list(golden)[-1]  # until there are some of this one
    for key, now in _losses(name).items():
        before = golden[version][name][key]
        assert len(before) == len(now) == NUM_LONG
        near = 1e-5 if kept else 1e-3
        np.testing.assert_allclose(now, before, rtol=near, atol=near, err_msg=f"{version}, {key}")


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: _metrics(name) for name in GAMES}, indent=2) + "\n")
    kept = json.loads(LONG_FILE.read_text()) if LONG_FILE.exists() else {}
    kept[jax.__version__] = {name: _losses(name) for name in GAMES}
    LONG_FILE.write_text(json.dumps(kept, separators=(",", ":")).replace("},", "},\n") + "\n")
    sys.exit(f"wrote {FILE}: commit it with the change that was meant")
