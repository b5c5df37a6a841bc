"""Sampling from a run directory: pictures, arrays, interpolations, labels, and mistakes."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from experiments import _augmented, sample
from jaxgan import data, images, latents
from jaxgan.run import checkpoint
from jaxgan.types import UserError
from tests.helpers import command, runs, tiny

OLD = pathlib.Path(__file__).parents[1] / "fixtures" / "run_0_1_mixture"


@pytest.fixture(scope="module")
def workdir():
    return runs.conditional()


def _sample(workdir, out, **settings):
    config = sample.Config(workdir=str(workdir), out=str(out), module=runs.MODULE, **settings)
    return sample.run(config)["image"]


def test_a_png_holds_the_grid(workdir, tmp_path):
    made = _sample(workdir, tmp_path / "grid.png", num=6)
    assert made.shape == (6, 8, 8, 1) and made.dtype == np.uint8
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * 10 + 2, 3 * 10 + 2)
    np.testing.assert_array_equal(pixels[2:10, 2:10], made[0, ..., 0])
    np.testing.assert_array_equal(pixels[12:20, 22:30], made[5, ..., 0])


def test_an_archive_holds_images_and_labels(workdir, tmp_path):
    made = _sample(workdir, tmp_path / "a.npz", num=7)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["image"], made)
        np.testing.assert_array_equal(archive["label"], [0, 1, 2, 0, 1, 2, 0])


def test_samples_are_a_function_of_the_seed(workdir, tmp_path):
    first, again, other = (
        _sample(workdir, tmp_path / "a.npz", num=6, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_samples_do_not_depend_on_how_many_are_made_at_a_time(workdir, tmp_path):
    all_at_once = _sample(workdir, tmp_path / "a.npz", num=7)
    by_threes = _sample(workdir, tmp_path / "a.npz", num=7, batch_size=3)
    assert np.abs(all_at_once.astype(int) - by_threes).max() <= 1


def test_a_label_is_the_one_in_turn(workdir, tmp_path):
    in_turn = _sample(workdir, tmp_path / "a.npz", num=6)
    ones = _sample(workdir, tmp_path / "a.npz", num=6, label="1")
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["label"], np.ones(6))
    same = np.abs(in_turn.astype(int) - ones).reshape(6, -1).max(1)
    assert (same[[1, 4]] == 0).all()


def test_truncation_makes_images_more_alike(workdir, tmp_path):
    free = _sample(workdir, tmp_path / "a.npz", num=64, label="0")
    narrow = _sample(workdir, tmp_path / "a.npz", num=64, label="0", truncation=0.05)
    assert narrow.std(0).mean() < 0.3 * free.std(0).mean()


def test_interpolation_fills_the_grid_row_by_row(workdir, tmp_path):
    made = _sample(workdir, tmp_path / "a.png", num=20, interpolate=True, label="0")
    assert len(made) == 20  # 4 rows of 5
    rows = made.reshape(4, 5, -1).astype(float)
    steps = np.abs(np.diff(rows, axis=1)).mean()
    ends = np.abs(rows[:, 0] - rows[:, -1]).mean()
    assert steps < 0.6 * ends


def test_interpolation_stays_within_a_class_and_within_the_truncation(workdir, tmp_path):
    _sample(workdir, tmp_path / "a.npz", num=20, interpolate=True)
    with np.load(tmp_path / "a.npz") as archive:
        label = archive["label"].reshape(4, 5)
    np.testing.assert_array_equal(label, np.repeat([[0], [1], [2], [0]], 5, axis=1))
    free = _sample(workdir, tmp_path / "a.npz", num=64, interpolate=True, label="0")
    narrow = _sample(
        workdir, tmp_path / "a.npz", num=64, interpolate=True, label="0", truncation=0.05
    )
    assert narrow.std(0).mean() < 0.3 * free.std(0).mean()


def test_the_moving_average_is_what_is_sampled(workdir, tmp_path):
    _, variables = checkpoint.restore_generator(workdir / "checkpoints")
    gen = tiny.DenseGen(shape=(8, 8, 1), num_classes=3)
    z = latents.normal(jax.random.key(0), 3, 4)
    expected = gen.apply(variables, z, np.arange(3), train=False)
    made = _sample(workdir, tmp_path / "a.npz", num=3)
    assert np.abs(made.astype(int) - images.to_uint8(expected)).max() <= 1


def test_a_label_may_be_named_by_its_class(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    record["data"]["class_names"] = ["Latin", "Greek", "Runes"]
    path.write_text(json.dumps(record))
    named = _sample(tmp_path / "run", tmp_path / "a.npz", num=4, label="Greek")
    np.testing.assert_array_equal(named, _sample(workdir, tmp_path / "b.npz", num=4, label="1"))
    with pytest.raises(UserError, match="--label=Norse: the run has labels 0 to 2, or Latin"):
        _sample(tmp_path / "run", tmp_path / "a.npz", label="Norse")


def test_nothing_but_the_average_is_read(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/state"):
        shutil.rmtree(path)
    copied = _sample(tmp_path / "run", tmp_path / "a.npz", num=3)
    np.testing.assert_array_equal(copied, _sample(workdir, tmp_path / "b.npz", num=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "3"}, "--label=3: the run has labels 0 to 2"),
        ({"module": ""}, "is not one of experiments.*; give the module"),
        ({"out": "a.jpg"}, "ends in none of .png, .npz, .txt, .gif, .webp and .mp4"),
        ({"out": "a.gif", "interpolate": True}, "--interpolate is of a still picture"),
        ({"out": "a.gif", "fps": 60.0}, "--fps=60: a GIF shows 50 pictures a second at most"),
        ({"out": "no/such/folder/a.png"}, "is not a folder that can be written"),
        ({"workdir": ""}, "--workdir is empty"),
        ({"workdir": "/no/such/run"}, "holds no run"),
    ],
)
def test_mistakes_are_named(workdir, tmp_path, settings, message):
    config = {"workdir": str(workdir), "out": str(tmp_path / "a.png"), **settings}
    config = {"module": runs.MODULE, **config}
    with pytest.raises(UserError, match=message):
        sample.run(sample.Config(**config))
    assert command.tree(tmp_path) == []


@pytest.mark.parametrize("settings", [{"num": 0}, {"truncation": -1.0}, {"member": -1}])
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=f"--{next(iter(settings))}="):
        sample.Config(**settings)


def test_a_run_without_checkpoint_is_said(workdir, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(workdir / "config.json", tmp_path / "run")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        _sample(tmp_path / "run", tmp_path / "a.png")


def test_labels_of_a_run_without_them_are_refused(tmp_path):
    config = sample.Config(workdir=str(OLD), out=str(tmp_path / "a.png"), label="0")
    with pytest.raises(UserError, match="--label=0: the run has no labels"):
        sample.run(config)


def test_the_command_needs_no_flag_of_the_training_run(workdir, tmp_path):
    argv = [
        f"--workdir={workdir}",
        f"--module={runs.MODULE}",
        "--num=4",
        f"--out={tmp_path / 'grid.png'}",
    ]
    result = command.run("experiments.sample", *argv)
    assert result.code == 0 and result.err == "", result
    assert result.out == f"wrote 4 samples of step 4 to {tmp_path / 'grid.png'}\n"
    assert (tmp_path / "grid.png").stat().st_size > 100
    message = command.mistake("experiments.sample", *argv, "--label=9")
    assert message == "--label=9: the run has labels 0 to 2"


def _frames(path):
    """Every picture of a file, and the milliseconds that each is shown."""
    with Image.open(path) as picture:
        each = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(picture)
        ]
        assert picture.info["loop"] == 0
    return [pixels for pixels, _ in each], [time for _, time in each]


def test_a_walk_begins_with_samples_and_comes_back_in_even_steps(workdir, tmp_path):
    made = _sample(workdir, tmp_path / "a.gif", num=4, frames=24, label="1")
    pictures, times = _frames(tmp_path / "a.gif")
    assert len(pictures) == 24 and set(times) == {50}
    np.testing.assert_array_equal(pictures[0][2:10, 2:10, 0], made[0, ..., 0])
    steps = [
        np.abs(a.astype(float) - b).mean()
        for a, b in zip(pictures, pictures[1:] + pictures[:1], strict=True)
    ]
    assert steps[-1] < 2 * np.median(steps) and min(steps) > 0


def test_each_walk_stays_within_its_class(workdir, tmp_path):
    config = sample.Config(
        workdir=str(workdir), out=str(tmp_path / "a.webp"), module=runs.MODULE, num=3, frames=4
    )
    np.testing.assert_array_equal(sample.run(config)["label"], [0, 1, 2])
    pictures, _ = _frames(tmp_path / "a.webp")
    assert len(pictures) == 4 and pictures[0].shape == (22, 22, 3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the reader forks
def test_a_video_has_even_sides_and_every_picture(workdir, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    _sample(workdir, tmp_path / "a.mp4", num=1, frames=10, fps=5.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    reader = ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    meta = next(reader)
    assert meta["size"] == (12, 12) and meta["fps"] == 5 and len(list(reader)) == 10


def test_a_video_without_its_library_is_one_line(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs imageio-ffmpeg: pip install imageio-ffmpeg"):
        _sample(workdir, tmp_path / "a.mp4")


def test_training_without_pictures_is_one_line(tmp_path):
    config = sample.Config(workdir=str(tmp_path), out=str(tmp_path / "a.gif"), motion="training")
    with pytest.raises(UserError, match="samples has no pictures; train with --sample_every"):
        sample.run(config)


def test_training_is_shown_in_order_and_its_end_longer(tmp_path):
    (tmp_path / "samples").mkdir()
    for step, side in ((10, 12), (200, 14), (9, 12)):  # the grid grew on the way
        image = np.full((side, side, 1), step, np.uint8)
        images.save_png(tmp_path / "samples" / f"step_{step:08d}.png", image)
    images.save_png(tmp_path / "samples" / "real.png", np.zeros((4, 4, 1), np.uint8))
    out = tmp_path / "a.gif"
    sample.run(sample.Config(workdir=str(tmp_path), out=str(out), motion="training"))
    pictures, times = _frames(out)
    assert [picture[0, 0, 0] for picture in pictures] == [9, 10, 200]
    assert times == [500, 500, 2500] and pictures[0].shape == (14, 14, 3)


@pytest.fixture
def near(monkeypatch):
    """Of noise, a blurred image is nearer to any than any two to each other: another distance."""
    monkeypatch.setattr(_augmented.neighbours, "own_distance", lambda flat: 50.0)


def test_a_set_is_a_folder_of_pictures_for_each_class_with_a_manifest(
    workdir, tmp_path, capsys, near
):
    made = _sample(workdir, tmp_path / "set", per_class=3, seed=5)
    assert made.shape == (9, 8, 8, 1)
    found = sorted(str(p.relative_to(tmp_path / "set")) for p in tmp_path.glob("set/*/*"))
    assert found == [f"{k}/{n:05d}.png" for k in range(3) for n in range(3)]
    with Image.open(tmp_path / "set" / "1" / "00002.png") as image:
        np.testing.assert_array_equal(np.asarray(image), made[5, ..., 0])
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 5 and manifest["images"] == {"0": 3, "1": 3, "2": 3}
    assert manifest["trained_on"] == manifest["compared_with"] and manifest["left_out"] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]
    out = capsys.readouterr().out
    assert "memorisation: 0.0000 nearer than training images to each other" in out
    source = data.load("folder", data_dir=str(tmp_path / "set"))
    np.testing.assert_array_equal(source.labels, np.repeat(np.arange(3), 3))


def test_a_set_is_a_function_of_the_seed_and_takes_the_place_of_an_earlier_one(
    workdir, tmp_path, near
):
    first = _sample(workdir, tmp_path / "set", per_class=2)
    again = _sample(workdir, tmp_path / "set", per_class=2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, _sample(workdir, tmp_path / "set", per_class=2, seed=1))
    _sample(workdir, tmp_path / "set", per_class=1)
    assert len(list(tmp_path.glob("set/*/*.png"))) == 3


def test_an_archive_of_a_set_is_a_dataset_with_class_names(workdir, tmp_path, near):
    made = _sample(workdir, tmp_path / "set.npz", per_class=2)
    source = data.load("arrays", data_dir=str(tmp_path / "set.npz"))
    np.testing.assert_array_equal(source.arrays["image"], made)
    assert source.class_names == ("0", "1", "2") and source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert json.loads((tmp_path / "set.json").read_text())["left_out"] == 0


def test_copies_of_training_images_are_left_out_drawn_anew_and_counted(
    workdir, tmp_path, monkeypatch, capsys, near
):
    made, training = sample.sample.Sampler.generate, runs.images()["image"]

    def copying(self, variables, z, label):
        out = made(self, variables, z, label)
        if len(label) > 3:  # the first draw of all
            out["image"][1] = images.from_uint8(training[7])
        return out

    monkeypatch.setattr(sample.sample.Sampler, "generate", copying)
    found = _sample(workdir, tmp_path / "set", per_class=2)
    assert len(found) == 6 and not (found == training[7]).all((1, 2, 3)).any()
    assert "1 copies of training images left out" in capsys.readouterr().out
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["left_out"] == 1


def test_what_others_have_written_is_not_touched(workdir, tmp_path):
    (tmp_path / "mine" / "cats").mkdir(parents=True)
    (tmp_path / "mine" / "cats" / "00001.png").write_bytes(b"a cat")
    (tmp_path / "mine.npz").write_bytes(b"arrays")
    (tmp_path / "settings.json").write_text("{}")
    ours = tmp_path / "ours"
    _sample(workdir, ours, per_class=1)
    (ours / "0" / "notes.txt").write_text("mine")
    before = command.tree(tmp_path)
    for name in ("mine", "mine.npz", "ours", "settings.npz"):
        with pytest.raises(UserError, match="not of this command|has not written"):
            _sample(workdir, tmp_path / name, per_class=1)
    assert command.tree(tmp_path) == before


def test_a_killed_write_leaves_no_set_and_is_made_up_for(workdir, tmp_path, monkeypatch):
    save, count = images.save_png, iter(range(100))

    def killed(path, image):
        if next(count) == 4:
            raise KeyboardInterrupt
        return save(path, image)

    monkeypatch.setattr(images, "save_png", killed)
    with pytest.raises(KeyboardInterrupt):
        _sample(workdir, tmp_path / "set", per_class=2)
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    _sample(workdir, tmp_path / "set", per_class=2)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_class_names_become_names_of_folders(workdir, tmp_path):
    assert _augmented.folders(("T-shirt/top", "Ankle boot"), 2) == ["T-shirt_top", "Ankle boot"]
    assert _augmented.folders((), 2) == _augmented.folders(("a/b", "a:b"), 2) == ["0", "1"]
    assert _augmented.folders(("..", "x"), 2) == ["0", "1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": "a.png"}, "--per_class writes a folder, or NAME.npz"),
        ({"label": "1"}, "leave out --interpolate and --label"),
        ({"workdir": str(OLD), "module": ""}, "the run has no labels; train with --conditional"),
    ],
)
def test_mistakes_of_a_set_are_named(workdir, tmp_path, settings, message):
    given = {"workdir": str(workdir), "module": runs.MODULE, "out": "set", "per_class": 1}
    given = {**given, **settings}
    with pytest.raises(UserError, match=message):
        sample.run(sample.Config(**{**given, "out": str(tmp_path / given["out"])}))
    assert command.tree(tmp_path) == []


def test_classes_that_are_called_otherwise_in_the_data_are_refused(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    record["data"]["class_names"] = ["Latin", "Greek", "Runes"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="classes are Latin, Greek, Runes; those of .* are 3 wit"):
        _sample(tmp_path / "run", tmp_path / "set", per_class=1)
