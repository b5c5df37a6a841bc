"""The StackedMNIST experiment, tiny: both protocols from the digits to the row."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import stacked_mnist
from jaxgan.metrics import features, weights
from jaxgan.types import UserError
from tests.helpers import command

SMALL = {
    "num_steps": 2,
    "batch_size": 8,
    "num_images": 40,
    "num_scored": 50,
    "gen_features": "8,4",
    "num_samples": 4,
    "keep_memory": False,
    "compilation_cache": "",
}


def _idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with forty images in the place of MNIST, and an untrained classifier of them."""
    folder, random = tmp_path_factory.mktemp("mnist"), np.random.default_rng(0)
    for split in ("train", "t10k"):
        image = random.integers(0, 256, (20, 28, 28), np.uint8)
        _idx(folder / f"{split}-images-idx3-ubyte", image)
        _idx(folder / f"{split}-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 10)
    net = features.DigitClassifier(width=2, features=4)
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    weights.save(folder / "net.npz", params, {"dataset": "mnist"})
    return folder


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


# The second differs in a width and in numbers: its half minute of compiling is for the long run.
@pytest.mark.parametrize("protocol", ["p1", pytest.param("p2", marks=pytest.mark.slow)])
def test_every_protocol_trains_and_writes_the_row(digits, tmp_path, capsys, protocol):
    results = stacked_mnist.run(_config(digits, tmp_path / "run", protocol=protocol, seeds=2))
    assert results == json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["protocol"] == f"stacked_mnist_{protocol}" and results["seeds"] == 2
    assert len(results["modes"]) == len(results["kl"]) == 2
    assert all(1 <= found <= 50 for found in results["modes"])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"| stacked_mnist_{protocol} |")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"seed_0", "seed_1", "results.json"}
    again = stacked_mnist.run(_config(digits, tmp_path / "run", protocol=protocol, seeds=2))
    for name in ("modes", "kl", "floor"):  # finished: measured again, the same
        assert again[name] == results[name]


def test_protocols_are_what_the_benchmark_says():
    p1, p2 = stacked_mnist.PROTOCOLS["p1"], stacked_mnist.PROTOCOLS["p2"]
    assert (p1.latent_dim, p1.num_samples) == (100, 26_000)
    assert (p2.latent_dim, p2.num_samples) == (256, 25_600)
    z = p1.prior(jax.random.key(0), 1000, 100)
    assert float(jnp.abs(z).max()) <= 1.0
    for protocol, share in (("p1", 1.0), ("p2", 0.25)):
        config = stacked_mnist.Config(protocol=protocol, gen_features="128,64")
        gen, disc = stacked_mnist.players(config, num_classes=0)
        assert [share * width for width in reversed(gen.features)] == list(disc.features)


def test_a_lazy_penalty_is_due_at_multiples_of_its_interval_only(digits, tmp_path):
    stacked_mnist.run(_config(digits, tmp_path / "run", penalty_every=2, log_every=1))
    lines = (tmp_path / "run" / "seed_0" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["disc/penalty"] for line in lines)
    assert first > 0 and second == 0


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


def test_the_floor_is_that_of_even_digits():
    from jaxgan.data import arrays

    label = np.arange(1000)
    source = arrays.ArraySource(
        {"image": np.zeros((1000, 1, 1, 3), np.uint8), "label": label}, name="x", num_classes=1000
    )
    found = stacked_mnist.floor(source, 26_000)
    assert found["modes"] == 1000 and found["kl"] == pytest.approx(0.0194, abs=5e-4)


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
