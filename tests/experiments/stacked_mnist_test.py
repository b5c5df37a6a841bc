"""The StackedMNIST experiment, tiny: both protocols from the digits to the row."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sample, stacked_mnist
from jaxgan.data.spec import Spec
from jaxgan.types import UserError
from tests.helpers import command, idx

SMALL = {
    "num_steps": 2,
    "batch_size": 8,
    "num_images": 40,
    "num_scored": 50,
    "gen_features": "4,2",
    "unroll_seeds": False,
    "num_samples": 4,
    "keep_memory": False,
    "compilation_cache": "",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with forty images in the place of MNIST, and an untrained classifier of them."""
    return idx.mnist(tmp_path_factory.mktemp("mnist"))


def _config(digits, workdir, **settings):
    return stacked_mnist.Config(
        **{
            **SMALL,
            "data_dir": str(digits),
            "classifier": str(digits / "net.npz"),
            "workdir": str(workdir),
            **settings,
        }
    )


# The second differs in a width and in numbers, two seeds in how long they compile.
@pytest.mark.parametrize(
    ("protocol", "seeds"),
    [("p1", 1), *(pytest.param(each, 2, marks=pytest.mark.slow) for each in ("p1", "p2"))],
)
def test_every_protocol_trains_and_writes_the_row(digits, tmp_path, capsys, protocol, seeds):
    config = _config(
        digits, tmp_path / "run", protocol=protocol, seeds=seeds, penalty_every=2, log_every=1
    )
    stacked_mnist.run(config)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["protocol"] == f"stacked_mnist_{protocol}" and results["seeds"] == seeds
    assert len(results["modes"]) == len(results["kl"]) == seeds
    assert all(1 <= found <= 50 for found in results["modes"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith(f"| stacked_mnist_{protocol} |")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["disc/penalty"] > 0 and "disc/penalty" not in second  # due every second step
    stacked_mnist.run(config)
    assert capsys.readouterr().out.splitlines()[-1] == row  # finished: the same again
    out = tmp_path / "samples.npz"
    sample.run(sample.Config(workdir=config.workdir, out=str(out), num=3, member=seeds - 1))
    with np.load(out) as arrays:
        assert arrays["image"].shape == (3, 28, 28, 3) and arrays["image"].dtype == np.uint8


def test_protocols_are_what_the_benchmark_says():
    for name, dim, num, share in (("p1", 100, 26_000, 1.0), ("p2", 256, 25_600, 0.25)):
        config = stacked_mnist.Config(protocol=name, gen_features="128,64")
        made = stacked_mnist.build(config, Spec("", num_classes=1000))
        shapes = jax.eval_shape(made.init, jax.random.key(0))
        assert made.sample.dim == dim and made.score.num == num
        kernel = shapes.disc.params["Conv_1"]["kernel"]
        assert kernel.shape[2:] == (share * 64, share * 128)
    z = stacked_mnist.PROTOCOLS["p1"].prior(jax.random.key(0), 1000, 100)
    assert float(jnp.abs(z).max()) <= 1.0  # and is sampled as it was trained


def test_a_run_that_trained_its_seeds_one_by_one_is_one_gan():
    config = {"protocol": "p1", "seeds": 2, "dataset": "digits"}
    record = {"data": {"fingerprint": "", "num_classes": 1000}, "config": config}
    upgraded = stacked_mnist.upgraded(record)["config"]
    assert upgraded["seeds"] == 1 and upgraded["dataset"] == "mnist"
    new = {"data": {"fingerprint": "", "shapes": {}}, "config": config}
    assert stacked_mnist.upgraded(new) is new


def test_pairing_anew_keeps_every_digit_in_its_channel():
    seen = {}

    def step(key, now, batch):
        seen.update(batch)
        return now, {}

    x = jnp.arange(6 * 3.0).reshape(6, 1, 1, 3)
    stacked_mnist.paired_anew(step)(jax.random.key(1), None, {"image": x})  # pyright: ignore
    ours = np.asarray(seen["image"])
    for c in range(3):
        np.testing.assert_array_equal(np.sort(ours[..., c].ravel()), x[..., c].ravel())
    assert not np.array_equal(ours[..., 0] + 1, ours[..., 1])  # not the old pairs


def test_the_floor_is_that_of_the_digits_frequencies():
    even = stacked_mnist.floor(Spec("", num_classes=1000, label_counts=(3,) * 1000), 26_000)
    assert even["modes"] == 1000 and even["kl"] == pytest.approx(0.0194, abs=5e-4)
    only = stacked_mnist.floor(Spec("", num_classes=1000, label_counts=(1,) + (0,) * 999), 100)
    assert only == {"modes": 1, "kl": pytest.approx(np.log(1000))}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gen_features": "8"}, "--gen_features=8 is not two numbers"),
        ({"workdir": ""}, "--workdir is empty"),
        ({"classifier": "none.npz"}, "no classifier of mnist"),
    ],
)
def test_mistakes_are_one_line_before_training(digits, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        stacked_mnist.run(_config(digits, **{"workdir": tmp_path / "run", **settings}))
    assert command.tree(tmp_path) == []
