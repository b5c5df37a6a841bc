"""Scoring a run, and a file of samples, beside the floor."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import evaluate, mnist
from jaxgan import data, parallel
from jaxgan.data import subsets, words
from jaxgan.metrics import bleu, classifiers, features, reference, unlabelled, weights
from jaxgan.metrics import evaluate as metrics
from jaxgan.run import rundir
from jaxgan.types import UserError
from tests.helpers import runs, toy


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """An untrained classifier: any features will do to see that numbers arrive."""
    path = tmp_path_factory.mktemp("net") / "net.npz"
    classifier = classifiers.DigitClassifier(width=2)
    variables = jax.jit(classifier.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    weights.save(path, variables["params"], {"dataset": "digits"})
    return path


def _config(tmp_path, net, **settings):
    options = {"weights": str(net), "num": 60, "cache": str(tmp_path / "cache")}
    return evaluate.Config(**{**options, **settings})


def test_a_run_is_scored_from_its_directory_alone(tmp_path, net, capsys):
    workdir = tmp_path / "run"
    small = {"gen_features": "4,2", "disc_features": "2,4", "keep_memory": False}
    small |= {"penalty": "none"}
    mnist.run(mnist.Config(workdir=str(workdir), batch_size=16, num_steps=1, save_every=1, **small))
    result = evaluate.run(_config(tmp_path, net, workdir=str(workdir)))
    assert result == json.loads((workdir / "evaluation.json").read_text())
    assert result["step"] == 1 and result["num_fake"] == result["num_floor"] == 60
    assert result["reference"]["dataset"] == "digits"
    assert result["features"]["sha256"] == weights.sha256(net)
    # A generator of one step makes grey squares; real images are far nearer to real images.
    assert result["frechet_distance"] > 2 * result["floor"]["frechet_distance"] > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("frechet_distance", "coverage", "is better"))
    # Warnings are errors in tests: it is said in the table only, and there once.
    assert printed.count("60 samples are not more than the 128 features") == 1
    assert f"features of the classifier of digits, sha256 {weights.sha256(net)[:12]}" in printed
    assert result["features"]["dataset"] == "digits"


def test_real_images_given_as_samples_score_as_the_floor_does(tmp_path, net):
    train = reference.take(data.load("digits"), 60)
    np.savez(tmp_path / "samples.npz", image=train)
    config = _config(
        tmp_path,
        net,
        samples=str(tmp_path / "samples.npz"),
        reference="digits",
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


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_files_are_compared_with_files(tmp_path, net, kind):
    # Of a reference without a test split one random half is the reference, the other the floor's.
    real, made = data.load("digits")[np.arange(80)]["image"], tmp_path / "made"
    made.mkdir()
    for number, image in enumerate(real[:40]):
        Image.fromarray(image[..., 0]).save(made / f"{number:03}.png")
    if kind == "folder":
        place = tmp_path / "real"
        place.mkdir()
        for number, image in enumerate(real):
            Image.fromarray(image[..., 0]).save(place / f"{number:03}.png")
    else:
        place = tmp_path / "real.npz"
        np.savez(place, image=real)
    result = evaluate.run(_config(tmp_path, net, samples=str(made), reference=str(place)))
    assert result == json.loads((made / "evaluation.json").read_text())
    assert [result[f"num_{name}"] for name in ("real", "floor", "fake")] == [40, 40, 40]
    assert result["reference"]["dataset"] == kind and "half" in result["reference"]["split"]
    rest, test = subsets.hold_out(data.load(kind, data_dir=str(place)), share=0.5)
    halves = {"real": reference.take(test, 60), "floor": reference.take(rest, 60)}
    halves["fake"] = real[:40]
    feature_fn = features.classifier_features(weights.load(net)[0])
    with pytest.warns(metrics.FewSamples):
        expected = metrics.evaluate(**halves, feature_fn=feature_fn, seed=0)
    for name in ("frechet_distance", "precision", "coverage"):
        assert result[name] == pytest.approx(expected[name], rel=1e-4)
        assert result["floor"][name] == pytest.approx(expected["floor"][name], rel=1e-4)


def _digits_as_samples(tmp_path, net, **settings):
    """Digits of the training split as samples, scored against a split of the digits."""
    np.savez(tmp_path / "samples.npz", image=reference.take(data.load("digits"), 60))
    options = {"samples": str(tmp_path / "samples.npz"), "reference": "digits"}
    options["out"] = str(tmp_path / "result.json")
    return evaluate.run(_config(tmp_path, net, **options, **settings))


def test_the_reference_split_is_chosen_and_recorded_and_the_floor_is_of_the_other(
    tmp_path, net, capsys
):
    result = _digits_as_samples(tmp_path, net, reference_split="train")
    said = {"reference_split": "train", "split": "train", "floor_split": "test"}
    assert said.items() <= json.loads((tmp_path / "result.json").read_text())["reference"].items()
    assert result["frechet_distance"] < 0.01 < result["floor"]["frechet_distance"]
    printed = capsys.readouterr().out
    assert "60 samples against 60 of train" in printed
    assert "floor: 60 of test against the same" in printed


def test_a_reference_of_all_images_has_no_floor_and_says_so(tmp_path, net, capsys):
    result = _digits_as_samples(tmp_path, net, reference_split="all", num=2000)
    assert result["num_real"] == 1797 and result["reference"]["floor_split"] is None
    assert "floor" not in result and "nearer_to_train" not in result
    assert "no floor: the reference holds all real images" in capsys.readouterr().out


def test_images_sorted_by_class_are_scored_on_all_their_classes(tmp_path, monkeypatch):
    def by_brightness(images):
        label = jnp.round((images[:, 0, 0, 0] + 1) * 127.5 / 25).astype(int)
        return {"features": jnp.eye(10)[label], "probs": jnp.eye(10)[label]}

    for label in range(10):
        _pictures(tmp_path / "in" / str(label), *[(8, 8)] * 30, colour=25 * label)
    record = {"name": "classifier", "sha256": "0"}
    monkeypatch.setattr(reference, "open_features", lambda *_, **__: (by_brightness, record))
    options = {"samples": str(tmp_path / "in"), "reference": str(tmp_path / "in"), "num": 100}
    result = evaluate.run(_config(tmp_path, "", **options))
    # In the order of the files, a hundred images of four classes would score 1.
    assert min(result["score"], result["real_score"], result["floor"]["score"]) > 4


@pytest.mark.parametrize("kind", ["autoencoder", "random"])
def test_images_without_labels_are_scored_and_the_features_named(
    tmp_path, monkeypatch, capsys, kind
):
    monkeypatch.setattr(
        unlabelled,
        "train_autoencoder",
        lambda images, num_steps, train=unlabelled.train_autoencoder: train(images, num_steps=2),
    )
    result = _digits_as_samples(tmp_path, "", features=kind)
    assert result["features"]["name"] == kind and "score" not in result
    assert kind in capsys.readouterr().out.splitlines()[-3]


def test_a_weak_classifier_is_noted_in_table_and_file(tmp_path, net, capsys):
    weights.save(tmp_path / "weak.npz", weights.load(net)[0], {"test_accuracy": 0.29})
    result = _digits_as_samples(tmp_path, tmp_path / "weak.npz")
    assert any("right on 29.0% of its test images" in text for text in result["warnings"])
    assert "note: the classifier is right on 29.0%" in capsys.readouterr().out


@pytest.mark.slow  # every metric twice; the parts that spread over devices have tests of their own
def test_one_device_scores_what_eight_score(tmp_path, monkeypatch):
    options = {"data_dir": str(runs.split_file()), "weights": str(runs.classifier_file())}
    options |= {
        "workdir": str(runs.conditional()),
        "module": runs.MODULE,
        "num": 21,
        "cache": "",
        "out": str(tmp_path / "scores.json"),
        "batch_size": 10,
    }
    eight = evaluate.run(evaluate.Config(**options))
    mesh = parallel.make_mesh(jax.devices()[:1])
    monkeypatch.setattr(parallel, "make_mesh", lambda *_: mesh)
    one = evaluate.run(evaluate.Config(**options))
    for name in metrics.BETTER:
        assert eight[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6), name
    assert eight["num_fake"] == one["num_fake"] == 21


def test_a_checkpoint_is_scored_by_its_number(tmp_path):
    options = {"data_dir": str(runs.split_file()), "weights": str(runs.classifier_file())}
    options |= {
        "workdir": str(runs.conditional()),
        "module": runs.MODULE,
        "num": 20,
        "cache": str(tmp_path),
        "out": str(tmp_path / "scores.json"),
    }
    assert evaluate.run(evaluate.Config(checkpoint="2", **options))["step"] == 2
    with pytest.raises(UserError, match="--checkpoint=best: no saved step has a score"):
        evaluate.run(evaluate.Config(checkpoint="best", **options))


def test_the_scores_of_training_are_those_of_this_command(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"data_dir": str(runs.split_file())}
    weights_file = str(runs.classifier_file())
    scores = {"eval_every": 2, "eval_samples": 20, "eval_weights": weights_file}
    toy.run(runs.config(tmp_path / "run", num_steps=2, **options, **scores))
    options |= {
        "module": runs.MODULE,
        "workdir": str(tmp_path / "run"),
        "weights": weights_file,
        "num": 20,
        "cache": "",
    }
    result = evaluate.run(evaluate.Config(checkpoint="best", **options))
    line = rundir.read_metrics(tmp_path / "run")[-1]
    for name in metrics.BETTER:
        assert line[f"eval/{name}"] == pytest.approx(result[name], rel=1e-4, abs=1e-6), name


def test_mistakes_are_one_line(tmp_path, net):
    with pytest.raises(UserError, match="either --workdir or --samples"):
        evaluate.Config()
    with pytest.raises(UserError, match="needs --reference"):
        evaluate.Config(samples="x.npz")
    with pytest.raises(UserError, match="needs --weights=FILE, the Inception weights"):
        evaluate.Config(workdir="run", features="inception")
    with pytest.raises(UserError, match="holds no run"):
        evaluate.run(_config(tmp_path, net, workdir=str(tmp_path)))
    of_images = {"workdir": str(runs.conditional()), "module": runs.MODULE}
    for only in ({"noise": "25"}, {"rivals": "bm3d"}):
        with pytest.raises(UserError, match="--rivals and --noise are of restorers"):
            evaluate.run(_config(tmp_path, net, **of_images, **only))
    with pytest.raises(UserError, match="python -m experiments.classifier"):
        held_out = {
            "workdir": str(runs.conditional()),
            "module": runs.MODULE,
            "data_dir": str(runs.split_file()),
        }
        evaluate.run(_config(tmp_path, tmp_path / "none.npz", **held_out))


def _pictures(folder, *sizes, mode="L", colour=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        Image.new(mode, size, colour).save(folder / f"{number:02}.png")
    return folder


def _floats(value):
    image = np.zeros((12, 28, 28, 1), np.float32)
    image[3, 5, 5] = value
    return image


def _archive(folder, image):
    np.savez(folder / "samples.npz", image=image)
    return folder / "samples.npz"


SQUARE = (28, 28)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: _pictures(f / "in"), "no images in it"),
        (lambda f: f / "nowhere", "no such folder"),
        (lambda f: f / "nowhere.npz", "no such file"),
        (lambda f: _pictures(f / "in", *[SQUARE] * 9, (28, 27)), "images differ in size"),
        (lambda f: _pictures(f / "in", *[SQUARE] * 12, mode="RGB"), r"fake \[28, 28, 3\]"),
        (lambda f: _pictures(f / "in", *[(32, 32)] * 12), r"fake \[32, 32, 1\]"),
        (lambda f: _pictures(f / "in", *[SQUARE] * 9), "9 fake images are too few; need 10"),
        (lambda f: _archive(f, _floats(np.nan)), "image 3 holds NaN or infinite values"),
        (lambda f: _archive(f, _floats(300)), "need uint8 or"),
        (lambda f: _archive(f, np.zeros((0, 28, 28, 1), np.uint8)), "holds no images"),
        (lambda f: _archive(f, np.zeros((12, 28, 28, 2), np.uint8)), "C of 1 or 3"),
    ],
)
def test_bad_samples_are_one_line(tmp_path, net, make, message):
    samples = str(make(tmp_path))
    out = str(tmp_path / "result.json")
    config = _config(tmp_path, net, samples=samples, reference="digits", out=out, cache="")
    with pytest.raises(UserError, match=message) as caught:
        evaluate.run(config)
    assert "\n" not in str(caught.value) and not (tmp_path / "result.json").exists()


def test_samples_of_other_sizes_and_colours_are_brought_to_one(tmp_path, net):
    folder, out = _pictures(tmp_path / "in", *[(32, 30)] * 6, *[SQUARE] * 6, mode="RGB"), "r.json"
    config = _config(
        tmp_path,
        net,
        samples=str(folder),
        reference="digits",
        out=str(tmp_path / out),
        image_size=28,
        channels=1,
    )
    assert evaluate.run(config)["num_fake"] == 12
    with pytest.raises(UserError, match="--image_size and --channels are those of the run"):
        evaluate.Config(workdir="run", image_size=28)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.npz", "holds Conv_0, not a classifier's weights"),
        ("text.npz", "not an npz file"),
        ("small.npz", r"which sees \[B, 8, 8, 1\]"),
        ("mnist.npz", "is the classifier of mnist, and the images are compared with digits"),
    ],
)
def test_wrong_weights_are_one_line(tmp_path, net, name, message):
    weights.save(tmp_path / "other.npz", {"Conv_0": {"kernel": np.zeros((3, 3, 1, 4))}}, {})
    (tmp_path / "text.npz").write_text("<html>")
    small, _ = weights.load(runs.classifier_file())
    weights.save(tmp_path / "small.npz", small, {"dataset": "digits"})
    weights.save(tmp_path / "mnist.npz", weights.load(net)[0], {"dataset": "mnist"})
    samples = _archive(tmp_path, np.zeros((12, 28, 28, 1), np.uint8))
    options = {"samples": str(samples), "reference": "digits", "out": str(tmp_path / "r.json")}
    with pytest.raises(UserError, match=message) as caught:
        evaluate.run(_config(tmp_path, tmp_path / name, **options))
    assert "\n" not in str(caught.value)


def test_an_output_that_cannot_be_written_is_said_first(tmp_path, net):
    options = {"samples": "x.npz", "reference": "digits", "out": str(tmp_path / "no" / "r.json")}
    with pytest.raises(UserError, match="is not a folder that can be written"):
        evaluate.run(_config(tmp_path, net, **options))


def test_sentences_are_compared_with_a_file_of_others(tmp_path, capsys):
    real = ["a cat sits.", "a dog sits down.", "the cat runs.", "the dog runs down."]
    (tmp_path / "real.txt").write_text("\n".join(real))
    (tmp_path / "made.txt").write_text("a cat sits.\n\nthe cat sits down.\n")
    names = {name: str(tmp_path / f"{name}.txt") for name in ("made", "real")}
    result = evaluate.run(evaluate.Config(samples=names["made"], reference=names["real"]))
    split = [["a", "cat", "sits", "."], ["the", "cat", "sits", "down", "."]]
    others = [words.split(line) for line in real]
    assert result["bleu2"] == [pytest.approx(bleu.bleu(split, others)[2])]
    assert result["self_bleu3"] == [pytest.approx(bleu.self_bleu(split)[3])]
    assert result["floor"]["self_bleu3"] == pytest.approx(bleu.self_bleu(others[:2])[3])
    assert (result["num_samples"], result["num_references"]) == (2, 4)
    assert "self bleu3" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text()) == result
    (tmp_path / "made.txt").write_text("a cat sits.\n")
    with pytest.raises(UserError, match="made.txt: holds fewer than two sentences"):
        evaluate.run(evaluate.Config(samples=names["made"], reference=names["real"]))
