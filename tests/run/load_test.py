"""From a run directory back to its experiment."""

import json

import jax
import numpy as np
import pytest

from experiments import mnist
from jaxgan.run import load
from jaxgan.types import UserError
from tests.helpers import runs, toy


@pytest.mark.parametrize("how", [{"build": toy.build}, {"module": runs.MODULE}])
def test_a_run_of_ones_own_code_is_found_again_with_its_settings_and_data(how):
    workdir, settings = runs.conditional(), {"conditional": True, "num_steps": 4}
    run = load.load_run(workdir, **how)
    expected = runs.config(workdir, save_every=2, log_every=1, channels=1, **settings)
    assert run.config == expected
    assert run.spec.num_classes == 3 and run.spec.shapes["image"] == (8, 8, 1)
    assert run.spec.label_counts == (14, 13, 13)


def test_a_run_of_a_bundled_experiment_says_itself_which(tmp_path):
    config = mnist.Config(image_size=8, channels=1)
    record = {**_record(), "experiment": "experiments.mnist", "config": vars(config)}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert load.load_run(tmp_path).config == config


def test_samples_of_a_loaded_generator_have_the_labels_of_the_data():
    trained = load.load(runs.conditional(), module=runs.MODULE)
    entries = trained.sample(jax.random.key(0), 40)
    assert trained.step == 4 and entries["image"].shape == (40, 8, 8, 1)
    assert np.bincount(entries["label"]).tolist() == [14, 13, 13]


def _record():
    return json.loads((runs.conditional() / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        ({"experiment": "os"}, {}, "holds a run of os, which is not one of experiments"),
        ({"experiment": "experiments.mnist.os"}, {}, "not one of experiments"),
        ({}, {}, "holds a run of tests.helpers.toy, .*--module=NAME"),
        ({}, {"module": "no.such"}, "--module=no.such cannot be imported"),
        ({}, {"module": "json"}, "--module=json has no Config"),
        ({"config": {"num_wings": 2}}, {"module": runs.MODULE}, "another version: .*num_wings"),
    ],
)
def test_a_record_cannot_import_what_it_likes(tmp_path, change, how, message):
    (tmp_path / "config.json").write_text(json.dumps({**_record(), **change}))
    with pytest.raises(UserError, match=message):
        load.load_run(tmp_path, **how)
