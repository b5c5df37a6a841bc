"""Run directories of jaxgan 0.1, made before experiments were values: they load, resume and match.

`tests/fixtures/run_0_1_*` hold a run in the middle, and the arrays that that version ended with.
"""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from experiments import mixture, mnist
from jaxgan.run import load
from tests.helpers import runs

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
RUNS = {"mnist": (mnist, 2, 4), "mixture": (mixture, 8, 16)}


@pytest.fixture(params=RUNS)
def old(request, tmp_path):
    """(module, a copy of its old run, its last step, the arrays expected there)."""
    module, saved, last = RUNS[request.param]
    workdir = shutil.copytree(FIXTURES / f"run_0_1_{request.param}", tmp_path / "run")
    with np.load(workdir / "expected.npz") as archive:
        expected = dict(archive)
    return module, workdir, saved, last, expected


def test_an_old_run_resumes_and_ends_with_the_same_arrays(old):
    module, workdir, saved, last, expected = old
    settings = json.loads((workdir / "config.json").read_text())["config"]
    settings |= {"workdir": str(workdir), "num_steps": last, "keep_memory": False}
    if module is mnist:
        settings["data_dir"] = str(runs.data_file())
    else:
        settings |= {"log_every": 2, "sample_every": 16, "save_every": 8, "compilation_cache": ""}
    state = module.run(module.Config(**settings))
    assert int(state.step) == last
    ours = runs.arrays(workdir, last)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_an_old_run_is_sampled_from_its_directory(old):
    _, workdir, saved, _, _ = old
    trained = load.load(workdir)
    made = [trained.sample(jax.random.key(0), 6, member=n) for n in range(len(trained.members()))]
    assert trained.step == saved and all(np.isfinite(x["image"]).all() for x in made)
    if trained.spec.num_classes:
        np.testing.assert_array_equal(made[0]["label"], [0, 1, 2, 0, 1, 2])
