"""The experiment that restores pictures: every task, its inputs, its scores and its mistakes."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from experiments import _pictures, _restoration, _restored, _rivals, evaluate, restore
from jaxgan import images
from jaxgan.data import spec as specs
from jaxgan.metrics import restoration
from jaxgan.run import load
from jaxgan.types import UserError
from tests.helpers import flagfile, runs

SMALL = {
    "crop": 16,
    "widths": "4,4",
    "blocks": 1,
    "disc_widths": "4,4",
    "batch_size": 8,
    "keep_memory": False,
}
SHAPES = {"image": (16, 16, 3)}
PAIRS = {"image": (16, 16, 3), "source": (16, 16, 1)}


@functools.cache
def pictures():
    """A folder of three pictures in colour, one of another size, and one grey one."""
    folder, random = runs.folder(), np.random.default_rng(0)
    for number in range(4):
        size = (24 if number == 1 else 20, 27, 3)
        smooth = np.cumsum(np.cumsum(random.normal(size=size), 0), 1)
        span = smooth.max() - smooth.min()
        pixels = (255 * (smooth - smooth.min()) / span).astype(np.uint8)
        picture = PIL.Image.fromarray(pixels)
        (picture.convert("L") if number == 3 else picture).save(folder / f"{number}.png")
    return folder


def config(task, **settings):
    given = {**SMALL, "data_dir": str(pictures()), **settings}
    if task == "pairs":
        given = {**given, "source": str(pictures()), "image_size": 20}
    return restore.Config(**{**given, "task": task})


@pytest.mark.parametrize("task", _restoration.TASKS)
@pytest.mark.parametrize("adv_weight", [0.0, 0.1])
def test_every_task_has_a_step(task, adv_weight):
    content = "l1,features:2" if adv_weight else "l1,frequency:0.1,total_variation:0.01"
    settings = config(task, adv_weight=adv_weight, content=content, loss="least_squares")
    shapes = PAIRS if task == "pairs" else SHAPES
    experiment = restore.build(settings, specs.Spec("data", shapes=shapes))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(experiment.init, key)
    size = (20, 20) if task == "pairs" else (16, 16)
    shapes = {name: (*size, shape[-1]) for name, shape in shapes.items()}
    batch = {k: jax.ShapeDtypeStruct((4, *v), jnp.float32) for k, v in shapes.items()}
    after, metrics = jax.eval_shape(experiment.step, key, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"gen/loss", "gen/l1"} < set(metrics) and ("disc/loss" in metrics) == bool(adv_weight)
    assert ("gen/features" in metrics) == bool(adv_weight)
    assert experiment.translator.source_channels == (1 if task in ("pairs", "colorize") else 3)
    assert experiment.translator.masked == (task == "inpaint")
    assert experiment.translator.scale == (4 if task == "superres" else 1)


def test_strides_of_the_discriminator_are_as_asked_for():
    for strides, side in (("", 6), ("1,1", 13), ("2,2", 3)):
        disc = _restoration.discriminator(
            config("denoise", disc_strides=strides), with_features=False
        )
        image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        logits, _ = jax.eval_shape(
            lambda x, disc=disc: disc.init_with_output(jax.random.key(0), x, train=True), image
        )
        assert logits.shape == (1, side, side)


@pytest.mark.slow  # compiles two steps, the generator for each size, and texture distances
def test_a_run_is_pretrained_scored_shown_and_measured_on_another_folder(tmp_path, capsys):
    settings = config(
        "superres",
        scale=2,
        workdir=str(tmp_path / "run"),
        adv_weight=0.1,
        pretrain_steps=1,
        num_steps=2,
        log_every=1,
        eval_every=2,
        sample_every=2,
        save_every=2,
    )
    state = restore.run(settings)
    assert state is not None and int(state.step) == 2
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    played = [line["step"] for line in lines if "disc/loss" in line]
    assert played == [2]
    scored = [line for line in lines if "eval/psnr" in line]
    assert [line["step"] for line in scored] == [2] and 0 < scored[0]["eval/ssim"] <= 1
    # G begins as the bicubic enlargement of its input, which is what it is compared with.
    assert abs(scored[0]["eval/psnr"] - scored[0]["eval/input_psnr"]) < 1
    picture = np.asarray(PIL.Image.open(tmp_path / "run" / "samples" / "step_00000002.png"))
    assert (picture.shape[1] - 2) % 3 == 0  # input, output and truth
    trained = load.load(tmp_path / "run")
    assert trained.experiment.translator.scale == 2
    capsys.readouterr()
    options = {"data_dir": str(pictures()), "rivals": "bicubic"}
    result = evaluate.run(evaluate.Config(workdir=str(tmp_path / "run"), **options))
    assert len(result["psnr"]) == 1 and abs(result["bicubic_psnr"][0] - result["input_psnr"][0]) < 1
    printed = capsys.readouterr().out
    assert f"superres of {pictures()} | psnr" in printed and "bicubic psnr" in printed


def _entries(settings, held, **shapes):
    """What an untrained G makes of pictures: their inputs, but for holes and colours."""
    experiment = restore.build(settings, specs.Spec("data", shapes={**SHAPES, **shapes}))
    variables = jax.eval_shape(experiment.init, jax.random.key(0)).gen_ema
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variables)
    restored = _restored.Restored(settings, experiment.translator, lambda: held, whole=True)
    return restored(zeros, jax.random.key(0), 9)


def test_noise_is_of_the_level_asked_for_and_another_one_for_each_picture():
    held = _pictures.Held([np.full((40, 50, 3), 128, np.uint8)] * 2)
    source = _entries(config("denoise", noise="15"), held)["source"]
    np.testing.assert_allclose(source.std((1, 2, 3)) * 127.5, 15, rtol=0.03)
    assert not np.array_equal(source[0], source[1])


def test_what_was_trained_on_a_range_of_noise_is_tested_at_one_level():
    held = _pictures.Held([np.full((40, 50, 3), 128, np.uint8)] * 2)
    settings = config("denoise", noise="0,55")
    experiment = restore.build(settings, specs.Spec("data", shapes=SHAPES))
    score = _restored.score(settings, experiment.translator, lambda: held, num=2)
    tested = score.of("", (), "15").draw.config
    assert (tested.noise, settings.noise) == ("15", "0,55")
    with pytest.raises(UserError, match="--noise=1,x is neither a number"):
        score.of("", (), "1,x")
    counted = config("denoise", photons="100")
    with pytest.raises(UserError, match="--noise=15: --task=denoise --photons adds none"):
        _restored.score(counted, experiment.translator, lambda: held, num=2).of("", (), "15")
    other = config("inpaint")
    with pytest.raises(UserError, match="--noise=15: --task=inpaint adds none"):
        _restored.score(other, experiment.translator, lambda: held, num=2).of("", (), "15")


def test_a_grey_network_is_tested_on_the_luminance_of_pictures_whose_sides_divide():
    colour = np.asarray(PIL.Image.open(pictures() / "1.png"))
    held = _pictures.Held([colour, np.repeat(colour[..., :1], 3, -1)])
    settings = config("superres", scale=4)
    truth = _entries(settings, held, image=(16, 16, 1))["truth"]
    assert truth.shape == (2, 24, 24, 1)
    expected = images.to_uint8(restoration.luminance(colour))[:24, :24]
    np.testing.assert_array_equal(truth[0], expected)
    np.testing.assert_array_equal(truth[1], colour[:24, :24, :1])  # grey stays as it is


def test_what_a_file_can_hold_is_what_restorers_of_files_see():
    image = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3), minval=-1.0)
    for task in ("deblur", "superres", "colorize", "dejpeg", "lowlight"):
        settings = config(task, quality="30", darkness="2")
        source = _restoration.TASKS[task].degrade(settings)(jax.random.key(1), image)
        values = (np.asarray(source) + 1) * 127.5
        np.testing.assert_allclose(values, np.rint(values), atol=1e-3, err_msg=task)
        assert values.min() > -0.01 and values.max() < 255.01


def test_scores_are_the_means_over_pictures_of_several_sizes(monkeypatch):
    monkeypatch.setattr(restoration, "PATCHES", 64)
    settings = config("denoise")
    held = _pictures.folder(settings, str(pictures()))
    entries = _entries(settings, held)
    score = _restored.score(settings, None, lambda: held, num=9)
    found = score.measure(entries)
    each = [restoration.psnr(x, y) for x, y in zip(entries["image"], held.truth, strict=True)]
    np.testing.assert_allclose(found["psnr"], np.mean(each))
    assert found["psnr"] == found["input_psnr"]  # of this G
    assert {"ssim", "texture", "input_texture", "halves_texture"} < set(found)


def test_outputs_of_pairs_are_looked_for_among_their_truths(monkeypatch):
    monkeypatch.setattr(restoration, "PATCHES", 64)
    truth = np.random.default_rng(0).integers(0, 255, (4, 20, 20, 3), np.uint8)
    score = _restored.score(config("pairs"), None, lambda: _pictures.Held(list(truth)), num=4)
    made = truth[[0, 1, 3, 2]]  # two are another's
    found = score.measure(
        {"truth": truth, "image": made, "source": np.asarray(images.from_uint8(truth[::-1]))}
    )
    assert (found["small_top1"], found["small_top5"]) == (0.5, 1.0)
    assert found["input_small_top1"] == 0.0


def test_pictures_are_held_out_of_training_and_read_once(monkeypatch):
    settings = config("denoise", holdout=0.5)
    _pictures._pictures.cache_clear()
    source, held = _pictures.training(settings), _pictures.held_out(settings)
    assert len(source.pictures) == 2 and len(held.truth) == 2
    assert _pictures._pictures.cache_info().misses == 1
    known = {x.tobytes() for x in source.pictures}
    assert not any(x.tobytes() in known for x in held.truth)


def test_without_a_folder_there_are_two_photographs():
    settings = restore.Config(channels=1)
    source, held = _pictures.training(settings), _pictures.held_out(settings)
    assert source.image_shape == (64, 64, 1) and held.truth[0].shape == (427, 640, 1)


def test_samples_are_rows_of_input_output_and_truth():
    entries = {
        "source": np.zeros((4, 2, 2, 1), np.float32),
        "image": np.full((4, 4, 4, 3), 50, np.uint8),
        "truth": np.full((4, 4, 4, 3), 100, np.uint8),
    }
    picture = _restored.show(entries)
    assert picture.shape == (4 * 6 + 2, 3 * 6 + 2, 3)
    assert [picture[3, 3 + 6 * n, 0] for n in range(3)] == [128, 50, 100]


def test_bicubic_is_pillows_and_a_missing_package_is_one_line(monkeypatch):
    settings = config("superres", scale=2)
    small = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    expected = PIL.Image.fromarray(small).resize((10, 12), PIL.Image.Resampling.BICUBIC)
    made = _rivals.method("bicubic", settings)(np.asarray(images.from_uint8(small)), (12, 10, 3))
    np.testing.assert_array_equal(made, np.asarray(expected))
    monkeypatch.setitem(__import__("sys").modules, "bm3d", None)
    with pytest.raises(UserError, match="needs the package bm3d: pip install bm3d"):
        _rivals.method("bm3d", config("denoise"))
    with pytest.raises(UserError, match="is for --task=denoise, not --task=superres"):
        _rivals.method("bm3d", settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "denois"}, "denois.*did you mean|denois.*denoise"),
        ({"noise": "50,15"}, "lower end must come first"),
        ({"noise": "loud"}, "--noise=loud is neither a number"),
        ({"content": "l3"}, 'loss "l3" is not one of'),
        ({"content": "l1:-1"}, "the weight of l1 must be a number above 0"),
        ({"content": "features"}, "compares nothing with the truth"),
        ({"content": "l1,features"}, "--content=l1,features: features are D's"),
        ({"pretrain_steps": 5}, "--pretrain_steps=5 come before adversarial ones"),
        ({"task": "superres", "net": "unet"}, "use --net=srresnet"),
        ({"task": "superres", "crop": 30}, "--crop=30 is not a multiple of --scale=4; use 28"),
        ({"disc_norm": "batch"}, "--disc_norm=batch mixes"),
        ({"widths": "a"}, "--widths=a is not a list"),
        ({"disc_strides": "1,0,2"}, "--disc_strides=1,0,2 is not a list"),
        ({"disc_strides": "1,2"}, "not one stride for each of --disc_widths=64,128,256"),
        ({"disc_strides": "1,2,2", "disc": "unet"}, "--disc_strides=1,2,2 is for --disc=patch"),
    ],
)
def test_a_mistake_is_one_line(settings, said):
    with pytest.raises(UserError, match=said) as caught:
        restore.Config(**settings)
    assert "\n" not in str(caught.value)


def test_pairs_without_their_other_half_are_one_line():
    with pytest.raises(UserError, match="--task=pairs needs --data_dir=FOLDER"):
        _pictures.training(restore.Config(task="pairs"))


def test_colours_are_tested_on_pictures_that_have_them(tmp_path, capsys):
    colour = np.asarray(PIL.Image.open(pictures() / "1.png"))
    PIL.Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    settings = config("colorize")
    with pytest.raises(UserError, match="has no picture in colour to test --task=colorize"):
        _pictures.folder(settings, str(tmp_path))
    PIL.Image.fromarray(colour).save(tmp_path / "colour.png")
    (found,) = _pictures.folder(settings, str(tmp_path)).truth
    np.testing.assert_array_equal(found, colour)
    assert "1 of 2 pictures are grey, left out" in capsys.readouterr().out


@pytest.mark.parametrize("path", flagfile.FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_of_this_experiment_hold_settings_it_knows(path):
    if not flagfile.fits(restore.Config, path):
        pytest.skip("of another experiment")
    flagfile.config(restore.Config, path)
