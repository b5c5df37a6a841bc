"""Golden steps: five training steps of a tiny DCGAN give the losses they always gave.

The numbers are the same on every supported version of JAX. Where a change of the numerics was
meant, write the new ones with

    python -m tests.golden_test

and say in the change what a user will notice.
"""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from tests import tiny

FILE = pathlib.Path(__file__).parent / "golden.json"
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
NUM_STEPS = 5


def _metrics(name):
    step, init = tiny.dcgan_game(**GAMES[name])
    step, state, rows = jax.jit(step), init(), []
    for number in range(NUM_STEPS):
        state, metrics = step(jax.random.key(1), state, tiny.batch(number))
        rows.append({k: float(v) for k, v in sorted(metrics.items())})
    size = tiny.norm(jax.device_get((state.gen.params, state.disc.params)))
    return {"steps": rows, "norm of all parameters": size}


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


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: _metrics(name) for name in GAMES}, indent=1) + "\n")
    sys.exit(f"wrote {FILE}: commit it with the change that was meant")
