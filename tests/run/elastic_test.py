"""A run goes on with another number of devices: same global batch, same data, same losses.

With SGD: Adam turns rounding noise in a gradient that is truly 0 into full-size steps.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from jaxgan import parallel
from jaxgan.run import driver, experiment, rundir
from jaxgan.run.config import DataConfig
from jaxgan.types import UserError
from tests.helpers import runs, tiny

make_mesh, state_sharding = parallel.make_mesh, parallel.state_sharding


@dataclasses.dataclass(frozen=True)
class Config(DataConfig):
    """The flags that every experiment has."""


def _train(monkeypatch, workdir, *, devices, num_steps, **settings):
    """Trains a tiny GAN on the first devices; returns the final state."""
    monkeypatch.setattr(parallel, "make_mesh", lambda _=None: make_mesh(jax.devices()[:devices]))
    every_leaf = functools.partial(state_sharding, min_size=32)
    monkeypatch.setattr(parallel, "state_sharding", every_leaf)
    config = Config(
        **{
            "workdir": str(workdir),
            "dataset": "arrays",
            "data_dir": str(runs.data_file()),
            "num_steps": num_steps,
            "batch_size": 16,
            "log_every": 1,
            "save_every": 1000,
            "num_samples": 4,
            "keep_memory": False,
            **settings,
        }
    )
    step, init = tiny.dcgan_game(tx=optax.sgd(0.05, momentum=0.5), penalty="r1_r2")
    blank = {"image": np.zeros((4, 8, 8, 1), np.float32)}
    made = experiment.Experiment(lambda key: init(), step, lambda variables, key, num: blank)
    return driver.train(config, build=lambda config, spec: made)


def _losses(workdir):
    lines = rundir.read_metrics(workdir)
    return np.array([[line["gen/loss"], line["disc/loss"]] for line in lines])


def _rates(*trees):
    """Of the numbers of a state, the share that each device holds."""
    leaves = jax.tree.leaves(trees)
    return sum(leaf.addressable_shards[0].data.size for leaf in leaves) / sum(
        leaf.size for leaf in leaves
    )


@pytest.mark.slow  # four programs on two and on eight devices
def test_a_run_saved_split_on_eight_devices_goes_on_whole_on_two_and_back(tmp_path, monkeypatch):
    straight = _train(monkeypatch, tmp_path / "straight", devices=8, num_steps=5)
    split = _train(monkeypatch, tmp_path / "run", devices=8, num_steps=2, shard_params=True)
    # Both players' parameters, their optimiser's memory of them and the average.
    kept = [(s.gen.params, s.disc.params, s.gen.opt_state, s.gen_ema) for s in (straight, split)]
    assert _rates(kept[0]) == 1.0 and _rates(kept[1]) < 0.4
    _train(monkeypatch, tmp_path / "run", devices=2, num_steps=4)
    state = _train(monkeypatch, tmp_path / "run", devices=8, num_steps=5, shard_params=True)
    assert tiny.largest_difference(tiny.host(state), tiny.host(straight)) < 1e-5
    np.testing.assert_allclose(_losses(tmp_path / "run"), _losses(tmp_path / "straight"), rtol=1e-5)


def test_a_batch_that_does_not_divide_over_the_new_devices_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="batch_size 16 does not divide over 3 devices; try 15"):
        _train(monkeypatch, tmp_path / "run", devices=3, num_steps=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # a hundred steps each on 8, 4, 2 and 1 devices
@pytest.mark.parametrize("devices", [4, 2, 1])
def test_a_hundred_steps_on_fewer_devices_have_the_losses_of_eight(tmp_path, monkeypatch, devices):
    _train(monkeypatch, tmp_path / "run", devices=8, num_steps=20)
    _train(monkeypatch, tmp_path / "run", devices=devices, num_steps=120)
    _train(monkeypatch, tmp_path / "straight", devices=8, num_steps=120)
    difference = np.abs(_losses(tmp_path / "run") / _losses(tmp_path / "straight") - 1).max()
    print(f"SGD, {devices} devices after 8: losses within {difference:.1e} in 100 steps")
    assert difference < 1e-5
