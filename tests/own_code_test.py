"""A user's own data, step and networks, of two libraries: under jit and pmap, resumed."""

import jax
import numpy as np
import pytest

from jaxgan.run import driver, load
from tests.helpers import own_code, runs, tiny

SMALL = {"batch_size": 16, "num_steps": 3, "save_every": 2, "num_samples": 4, "keep_memory": False}


def _train(workdir, **settings):
    config = own_code.Config(workdir=str(workdir), **{**SMALL, **settings})
    return driver.train(config, build=own_code.build, source=own_code.source)


@pytest.mark.parametrize("network", ["linen", pytest.param("nnx", marks=pytest.mark.slow)])
def test_it_trains_on_many_devices_under_pmap_and_jit_and_resumes(tmp_path, network):
    straight = _train(tmp_path / "straight", network=network, parallel="pmap", log_every=1)
    runs.killed_after(tmp_path / "straight", tmp_path / "resumed", 2)
    resumed = _train(tmp_path / "resumed", network=network, log_every=1)
    assert tiny.largest_difference(jax.device_get(resumed), straight) < 1e-4
    assert runs.steps_logged(tmp_path / "resumed") == [1, 2, 3]
    start = jax.jit(own_code.build(own_code.Config(network=network), None).init)(jax.random.key(0))
    assert tiny.largest_difference(start.gen.params, straight.gen.params) > 1e-3
    trained = load.load(tmp_path / "resumed", build=own_code.build)
    image = trained.sample(jax.random.key(0), 5)["image"]
    assert image.shape == (5, 8, 8, 1) and np.abs(image).max() <= 1
    assert trained.config.network == network
