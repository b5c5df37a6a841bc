"""From a run directory back to its settings."""

import json

import pytest

from experiments import mnist
from jaxgan.run import load
from jaxgan.types import UserError
from tests.helpers import runs


def test_a_run_is_found_again_with_its_settings():
    workdir, settings = runs.conditional(), {"conditional": True, "num_steps": 4}
    module, config, num_classes = load.load_run(workdir)
    assert module is mnist and num_classes == 3
    assert config == runs.config(workdir, save_every=2, log_every=1, **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "os"}, "holds a run of os, which is not one of experiments"),
        ({"experiment": "experiments.mnist.os"}, "not one of experiments"),
        ({"config": {"num_wings": 2}}, "made by another version: it has the setting num_wings"),
    ],
)
def test_a_record_cannot_import_what_it_likes(tmp_path, change, message):
    record = json.loads((runs.conditional() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match=message):
        load.load_run(tmp_path)
