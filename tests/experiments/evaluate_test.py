"""Scoring a run, and a file of samples, beside the floor."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate, mnist
from jaxgan import data
from jaxgan.metrics import features, weights
from jaxgan.types import UserError
from tests import runs


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """An untrained classifier: any features will do to see that numbers arrive."""
    path = tmp_path_factory.mktemp("net") / "net.npz"
    variables = features.DigitClassifier().init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    weights.save(path, variables["params"], {"dataset": "digits"})
    return path


def _config(tmp_path, net, **settings):
    options = {"weights": str(net), "num": 60, "cache": str(tmp_path / "cache")}
    return evaluate.Config(**{**options, **settings})


@pytest.mark.filterwarnings("ignore:60 samples are not more than")
def test_a_run_is_scored_from_its_directory_alone(tmp_path, net, capsys):
    workdir = tmp_path / "run"
    small = {"gen_features": "8,4", "disc_features": "4,8", "keep_memory": False}
    mnist.run(mnist.Config(workdir=str(workdir), batch_size=16, num_steps=1, save_every=1, **small))
    result = evaluate.run(_config(tmp_path, net, workdir=str(workdir)))
    assert result == json.loads((workdir / "evaluation.json").read_text())
    assert result["step"] == 1 and result["num_fake"] == result["num_train"] == 60
    assert result["reference"]["dataset"] == "digits"
    assert result["features"]["sha256"] == weights.sha256(net)
    # A generator of one step makes grey squares; real images are far nearer to real images.
    assert result["frechet_distance"] > 2 * result["floor"]["frechet_distance"] > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("frechet_distance", "coverage", "is better"))


@pytest.mark.filterwarnings("ignore:60 samples are not more than")
def test_real_images_given_as_samples_score_as_the_floor_does(tmp_path, net):
    train = data.load("digits")[np.arange(60)]["image"]
    np.savez(tmp_path / "samples.npz", image=train)
    config = _config(
        tmp_path,
        net,
        samples=str(tmp_path / "samples.npz"),
        dataset="digits",
        out=str(tmp_path / "result.json"),
    )
    first = evaluate.run(config)
    for name in ("frechet_distance", "precision", "recall", "coverage"):
        assert first[name] == pytest.approx(first["floor"][name], rel=1e-4)
    kept = sorted((tmp_path / "cache").iterdir())
    assert len(kept) == 2  # of the test and of the training images
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = evaluate.run(config)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in first.items() if k != "seconds"
    }


def test_mistakes_are_one_line(tmp_path, net):
    with pytest.raises(UserError, match="either --workdir or --samples"):
        evaluate.Config()
    with pytest.raises(UserError, match="needs --dataset"):
        evaluate.Config(samples="x.npz")
    with pytest.raises(UserError, match="holds no run"):
        evaluate.run(_config(tmp_path, net, workdir=str(tmp_path)))
    with pytest.raises(UserError, match="python -m experiments.classifier"):
        evaluate.run(_config(tmp_path, tmp_path / "none.npz", workdir=str(runs.conditional())))
