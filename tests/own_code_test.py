"""A user's own data, step and networks, of two libraries: under jit and pmap, resumed."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgan.run import driver, load
from tests.helpers import own_code, runs, tiny

SMALL = {"batch_size": 16, "num_steps": 6, "save_every": 2, "num_samples": 4, "keep_memory": False}


def _train(workdir, **settings):
    config = own_code.Config(workdir=str(workdir), **{**SMALL, **settings})
    return driver.train(config, build=own_code.build, source=own_code.source)


@pytest.mark.parametrize("network", ["linen", "nnx"])
def test_it_trains_resumes_exactly_and_is_the_same_on_many_devices(tmp_path, network):
    straight = _train(tmp_path / "straight", network=network, parallel="pmap")
    for num_steps in (4, 6):
        resumed = _train(
            tmp_path / "resumed", network=network, parallel="pmap", num_steps=num_steps
        )
    assert tiny.equal(resumed, straight)
    assert runs.different(tmp_path / "resumed", tmp_path / "straight", 6) == []
    jit = _train(tmp_path / "jit", network=network)
    assert tiny.largest_difference(jax.device_get(jit.gen.params), straight.gen.params) < 1e-4
    start = jax.jit(own_code.build(own_code.Config(network=network), None).init)(jax.random.key(0))
    assert tiny.largest_difference(start.gen.params, straight.gen.params) > 1e-3
    trained = load.load(tmp_path / "jit", build=own_code.build)
    image = trained.sample(jax.random.key(0), 5)["image"]
    assert image.shape == (5, 8, 8, 1) and np.abs(image).max() <= 1
    assert trained.config == dataclasses.replace(trained.config, network=network)
