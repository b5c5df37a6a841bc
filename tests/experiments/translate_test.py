"""The experiment that translates between two looks: methods, images, scores, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from experiments import _looks, _translated, apply, translate
from jaxgan.data import pictures
from jaxgan.data import spec as specs
from jaxgan.metrics import modes, restoration
from jaxgan.run import load
from jaxgan.types import UserError
from tests.helpers import runs, tiny

SMALL = {
    "image_size": 16,
    "width": 4,
    "blocks": 1,
    "disc_widths": "4",
    "batch_size": 8,
    "pool_size": 8,
    "patches": 5,
    "num_samples": 3,
    "eval_images": 4,
    "keep_memory": False,
}
SPEC = specs.Spec("looks", shapes={"a": (16, 16, 3), "b": (16, 16, 3)})


@functools.cache
def folders():
    """40 pictures of each look: the second is the negative of the first, by names."""
    places = runs.folder(), runs.folder()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(places[0] / f"{number:02}.png")
        PIL.Image.fromarray(255 - pixels).save(places[1] / f"{number:02}.png")
    return {"data_dir_a": str(places[0]), "data_dir_b": str(places[1])}


def config(method, **settings):
    return translate.Config(**{**SMALL, **folders(), "method": method, **settings})


@pytest.mark.parametrize("method", translate.METHODS)
def test_every_method_has_a_step_and_tells_its_losses(method):
    experiment = translate.build(config(method), SPEC)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(experiment.init, key)
    batch = {name: jax.ShapeDtypeStruct((4, 16, 16, 3), jnp.float32) for name in "ab"}
    after, metrics = jax.eval_shape(experiment.step, key, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    named = {"cyclegan": {"cycle", "identity"}, "cut": {"contrast", "identity"}}
    terms = named.get(method, {"contrast"})
    assert {f"gen/{name}" for name in terms} <= set(metrics)
    assert ("gen/identity" in metrics) == ("identity" in terms)
    assert set(experiment.directions) == ({"ab", "ba"} if method == "cyclegan" else {"ab"})


@pytest.mark.slow  # compiles the step and the scores
def test_a_run_is_scored_shown_resumed_and_applied_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(_translated, "AUTOENCODER_STEPS", 2)
    monkeypatch.setattr(_translated.references, "CACHE", "")
    options = {"num_steps": 4, "save_every": 2, "sample_every": 4, "hidden_pairs": True}
    ours = translate.run(config("cyclegan", workdir=str(tmp_path / "ours"), **options))
    for num in (2, 4):
        settings = {**options, "num_steps": num}
        theirs = translate.run(config("cyclegan", workdir=str(tmp_path / "theirs"), **settings))
    assert ours is not None and tiny.equal(ours, theirs)
    assert int(ours.extra["pool"]["count"]) == 8
    trained = load.load(tmp_path / "ours")
    numbers = trained.experiment.score.measure(
        trained.experiment.score.draw(trained.members()[0], jax.random.key(0), 4)
    )
    assert {"ab_top1", "ba_top5", "ab_cycle", "ab_input_ssim", "frechet"} < set(numbers)
    photo = tmp_path / "photo.png"
    PIL.Image.fromarray(np.zeros((9, 11, 3), np.uint8)).save(photo)
    made = []
    for way in ("ab", "ba"):
        options = {"workdir": str(tmp_path / "ours"), "input": str(photo), "direction": way}
        (out,) = apply.run(apply.Config(**options, out=str(tmp_path / f"{way}.png")))
        made.append(np.asarray(PIL.Image.open(out)))
    assert made[0].shape == (9, 11, 3) and not np.array_equal(*made)
    with pytest.raises(UserError, match="--direction=up is not one of ab, ba"):
        apply.run(apply.Config(**{**options, "direction": "up"}, out=str(tmp_path / "no.png")))


def test_training_sees_no_two_images_of_one_name():
    looks = _looks.load(config("cut", hidden_pairs=True))
    assert looks.paired and len(looks.test_a) == 4 and len(looks.a) == len(looks.b) == 18
    a, b = (getattr(looks, name)[np.arange(18)]["image"] for name in "ab")
    for image in a.astype(int):  # but for rounding, the other is its negative
        assert np.abs(image[None] + b - 255).max((1, 2, 3)).min() > 1
    held_a, held_b = (getattr(looks, f"test_{name}")[np.arange(4)]["image"] for name in "ab")
    assert abs(held_a.astype(int) + held_b - 255).max() <= 1  # row by row, but for rounding


def test_digits_have_two_looks_and_training_sees_no_digit_in_both():
    settings = translate.Config(method="cut")
    assert settings.dataset == "digits"
    looks = _looks.load(settings)
    assert looks.paired and len(looks.test_a) == len(looks.test_b) == 297
    assert looks.a.image_shape == looks.b.image_shape == (28, 28, 3)
    (a, b), test_a, test_b = (
        [each[np.arange(len(each))] for each in (looks.a, looks.b)],
        looks.test_a[np.arange(20)],
        looks.test_b[np.arange(20)],
    )
    shown = {_looks.other_look(image[None, ..., :1]).tobytes() for image in a["image"]}
    assert not shown & {image.tobytes() for image in b["image"]}
    np.testing.assert_array_equal(test_a["label"], test_b["label"])
    thick = ndimage.grey_dilation(test_a["image"][..., :1], size=(1, 3, 3, 1)).astype(int)
    assert abs(_looks.as_digits(test_b["image"], "b") - thick).max() <= 1
    np.testing.assert_array_equal(_looks.as_digits(test_a["image"], "a"), test_a["image"][..., :1])


def test_digits_are_taken_only_where_nothing_speaks_of_folders(tmp_path):
    with pytest.raises(UserError, match="name a folder of each look"):
        _looks.training(translate.Config(method="cut", crop=128))
    options = {"workdir": str(tmp_path / "run"), "classifier_weights": str(tmp_path / "no.npz")}
    with pytest.raises(UserError, match="no.npz"):
        translate.run(translate.Config(method="cut", **options))
    assert not (tmp_path / "run").exists()


def test_digits_are_kept_where_a_classifier_still_knows_them(monkeypatch):
    monkeypatch.setattr(_translated, "AUTOENCODER_STEPS", 1)
    monkeypatch.setattr(_translated.references, "CACHE", "")
    monkeypatch.setattr(_translated.weights, "load", lambda path: ({}, {}))
    monkeypatch.setattr(
        _translated.features,
        "classifier_features",
        lambda params: (
            lambda x: {"probs": jax.nn.one_hot(jnp.where(x[:, 14, 14, 0] > 0, 1, 0), 10)}
        ),
    )
    looks = _looks.load(translate.Config(method="cut"))
    a, b = (_looks.some(source, 12) for source in (looks.test_a, looks.test_b))
    label = _looks.labels(looks.test_a, 12)
    found = _translated.measure({"a": a, "b": b, "ab": b}, looks, "weights.npz")
    dark = ndimage.grey_dilation(a[..., :1], size=(1, 3, 3, 1))[:, 14, 14, 0] > 127
    assert found["ab_kept"] == found["ab_floor_kept"] == np.mean(dark == label)


def test_parts_of_pictures_are_as_they_are():
    looks = _looks.load(config("cut", crop=18, holdout=0.5))
    assert looks.a.image_shape == (18, 18, 3) and not looks.paired
    assert len(looks.a.pictures) == len(looks.test_a.pictures) == 20


def test_parts_are_of_each_picture_at_each_scale():
    source = _looks.load(config("cut", crop=16, scales="1,0.8")).a
    assert len(source.pictures) == 2 * 36
    assert source.pictures.images[0].shape == (20, 24, 3)
    assert source.pictures.images[36].shape == (16, 19, 3)
    smooth = pictures.Pictures(
        "ramp", ("a.png",), (np.tile(np.arange(0, 240, 6), (20, 1))[..., None].astype(np.uint8),)
    )
    (half,) = smooth.at_scales([0.5])
    np.testing.assert_allclose(
        half[:, 2:-2, 0], smooth.images[0][::2, :, 0].reshape(10, 20, 2).mean(-1)[:, 2:-2], atol=1
    )


def test_samples_are_rows_of_there_and_back():
    entries = {name: np.full((4, 2, 2, 3), n, np.uint8) for n, name in enumerate(
        ("a", "b", "ab", "ba", "aba", "bab")
    )}  # fmt: skip
    picture = _translated.show(entries)
    row = [int(picture[2, 2 + 4 * n, 0]) for n in range(3)]
    assert row == [0, 2, 4]  # a, ab, aba
    assert set(picture.ravel()) == {0, 1, 2, 3, 4, 5, 255}
    pairs = _translated.show({name: entries[name] for name in "ab"})
    assert [int(pairs[2, 2 + 4 * n, 0]) for n in range(2)] == [0, 1]


def test_scores_know_a_translator_that_is_right():
    looks = _looks.load(config("cut", hidden_pairs=True))
    a, b = (_looks.some(getattr(looks, f"test_{name}"), 4) for name in "ab")
    entries = {"a": a, "b": b, "ab": b, "ba": a, "aba": a, "bab": b}
    codes = {id(looks.a): a, id(looks.b): b}

    def flat(source):
        images = codes[id(source)]
        return (lambda x: {"features": x.reshape(len(x), -1)[:, ::160]}), images

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_translated, "_codes", lambda source: (
            flat(source)[0], _translated._features(*flat(source))
        ))  # fmt: skip
        found = _translated.measure(entries, looks)
    assert found["ab_cycle"] == found["ab_difference"] == 0 and found["ab_top1"] == 1
    np.testing.assert_allclose(found["ab_ssim"], 1)
    soft = [ndimage.gaussian_filter(x, (1, 1, 0)) for x in a]
    each = [restoration.ssim(x, y) for x, y in zip(soft, b, strict=True)]
    assert found["ab_blurred_ssim"] == pytest.approx(np.mean(each))
    assert found["ab_frechet"] < 1e-6 < found["ab_input_frechet"]
    assert "ab_edges" not in found


def test_scores_without_pairs_tell_textures_and_edges(monkeypatch):
    looks = _looks.load(config("cut"))
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (6, 4, 4, 3)), 5, 1), 5, 2).astype(np.uint8)
    rough = rng.integers(0, 255, smooth.shape, np.uint8)
    blank = (lambda x: {"features": x.reshape(len(x), -1)[:, :2]}), np.ones((6, 2))
    monkeypatch.setattr(_translated, "_codes", lambda source: blank)
    inverted = _translated.measure({"a": smooth, "b": rough, "ab": 255 - smooth}, looks)
    redrawn = _translated.measure({"a": smooth, "b": rough, "ab": rough[::-1]}, looks)
    assert inverted["ab_edges"] == pytest.approx(1) and abs(redrawn["ab_edges"]) < 0.1
    assert redrawn["ab_texture"] < 0.5 * redrawn["ab_input_texture"]
    assert inverted["ab_texture"] > 0.5 * inverted["ab_input_texture"]
    row = {name: [value] for name, value in {**redrawn, "ab_kept": 1.0}.items()}
    shown = modes.table_row({**row, "protocol": "cut", "seeds": 1, "floor": {}, "seconds": 1})
    assert all(f" {name.replace('_', ' ')} " in shown for name in row)


def test_a_single_picture_is_scored_whole_as_well(tmp_path, monkeypatch):
    for name, shade in (("a", 60), ("b", 200)):
        (tmp_path / name).mkdir()
        pixels = np.random.default_rng(shade).integers(0, shade, (26, 37, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name / "one.png")
    places = {"data_dir_a": str(tmp_path / "a"), "data_dir_b": str(tmp_path / "b")}
    settings = config("cut", **places, crop=16)
    looks = _looks.load(settings)
    experiment = translate.build(settings, SPEC)
    variables = jax.jit(experiment.init)(jax.random.key(0)).gen_ema
    entries = experiment.score.draw(variables, jax.random.key(0), 4)
    assert entries["whole_ab"].shape == entries["whole_a"].shape == (1, 26, 37, 3)
    blank = (lambda x: {"features": x.reshape(len(x), -1)[:, :2]}), np.ones((6, 2))
    monkeypatch.setattr(_translated, "_codes", lambda source: blank)
    monkeypatch.setattr(_translated, "_texture", lambda x, y: abs(np.mean(x) - np.mean(y)))
    asked = {**entries, "ab": entries["a"], "whole_ab": np.full((1, 26, 37, 3), 100, np.uint8)}
    found = _translated.measure(asked, looks)
    assert found["ab_edges"] == pytest.approx(1) and found["ab_whole_edges"] < 0.5
    assert found["ab_whole_texture"] == pytest.approx(0, abs=1)  # noise of 0..199
    assert found["ab_whole_input_texture"] == pytest.approx(70, abs=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data_dir_b": ""}, "name a folder of each look"),
        ({"data_dir_b": folders()["data_dir_a"]}, "are both"),
        ({"hidden_pairs": True, "data_dir_b": str(runs.folder())}, "no images|holds no"),
        ({"crop": 50}, "smaller than a crop of 50"),
        ({"crop": 16, "scales": "1,0.5"}, "a picture 20 pixels high or wide, 10 at 0.5, less than"),
    ],
)
def test_folders_that_cannot_be_are_one_line(settings, said):
    with pytest.raises(UserError, match=said) as caught:
        _looks.training(config("cut", **settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "cycle"}, "cycle"),
        ({"crop": 10}, "--crop=10 is too small; use 16 or more"),
        ({"parallel": "pmap"}, "--pool_size needs --parallel=jit"),
        ({"accumulate": 2}, "--accumulate=2 needs --pool_size=0"),
        ({"penalty": "r1"}, "--penalty=r1 is for --method=cut"),
        ({"image_size": 8}, "--image_size=8 is too small"),
        ({"scales": "1,0.5"}, "--scales=1,0.5 needs --crop"),
        ({"scales": "0", "crop": 16}, "--scales=0 is not a list of numbers above 0"),
        ({"dataset": "mnist"}, "--dataset=mnist makes both looks of digits; leave --data_dir_a"),
        ({"classifier_weights": "a.npz"}, "--classifier_weights=a.npz is for digits"),
    ],
)
def test_a_mistake_is_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        config(**{"method": "cyclegan", **settings})
