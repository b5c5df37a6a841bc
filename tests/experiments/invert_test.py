"""Latents of images: files read, samples found again, labels, pictures, edits, and mistakes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from experiments import _latents, invert
from jaxgan import images, sample
from jaxgan import invert as inversion
from jaxgan.nets import stylegan2
from jaxgan.run import load
from jaxgan.types import UserError
from tests.helpers import command, runs


def _config(photos, out, **settings):
    workdir = settings.pop("workdir", runs.conditional())
    return invert.Config(
        workdir=str(workdir),
        images=str(photos),
        out=str(out),
        **{"module": runs.MODULE, "steps": 40, **settings},
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six samples of the run's generator, two a class."""
    folder = tmp_path_factory.mktemp("photos")
    trained = load.load(runs.conditional(), module=runs.MODULE)
    sampler = trained.experiment.sample
    z = np.asarray(sampler.draw(jax.random.key(9), 6))
    made = sampler.generate(trained.variables, z, np.arange(6, dtype=np.int32) % 3)["image"]
    for number, image in enumerate(images.to_uint8(made)):
        images.save_png(folder / f"{number}.png", image)
    return folder


@pytest.fixture(scope="module")
def inverted(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("invert") / "out"
    return invert.run(_config(photos, out, edit=2)), out


def test_what_the_generator_made_is_as_near_as_its_samples(inverted):
    record, out = inverted
    assert record["ratio"] < 1.5 and record["mean_distance"] < 0.7 * record["start"]
    assert record == json.loads((out / "inversion.json").read_text())
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_latents_make_the_reconstructions(inverted):
    _, out = inverted
    trained = load.load(runs.conditional(), module=runs.MODULE)
    with np.load(out / "latents.npz", allow_pickle=False) as found:
        made = trained.experiment.sample.generate(trained.variables, found["z"], found["label"])
        names, distance = found["name"], found["distance"]
    assert names.tolist() == [str(n) for n in range(6)] and distance.shape == (6,)
    for name, image in zip(names, images.to_uint8(made["image"]), strict=True):
        with Image.open(out / "reconstructions" / f"{name}.png") as picture:
            assert np.abs(np.asarray(picture).astype(int) - image[..., 0]).max() <= 1


def test_images_stand_above_their_reconstructions(inverted, photos):
    _, out = inverted
    with Image.open(out / "inversion.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * 10 + 2, 6 * 10 + 2)
    with Image.open(photos / "1.png") as picture:
        np.testing.assert_array_equal(pixels[2:10, 12:20], np.asarray(picture))
    with Image.open(out / "reconstructions" / "1.png") as picture:
        np.testing.assert_array_equal(pixels[12:20, 12:20], np.asarray(picture))


def test_an_edit_has_a_row_a_direction_and_the_image_in_the_middle(inverted):
    _, out = inverted
    with Image.open(out / "edits" / "0.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * 10 + 2, 7 * 10 + 2)
    with Image.open(out / "reconstructions" / "0.png") as picture:
        for row in (2, 12):
            middle = pixels[row : row + 8, 32:40].astype(int)
            assert np.abs(middle - np.asarray(picture)).max() <= 1
    assert np.abs(pixels[2:10, 2:10].astype(int) - pixels[2:10, 62:70]).max() > 3


def test_a_tuned_generator_makes_what_it_could_not(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):  # of no class that the run has
        picture = np.zeros((8, 8, 1), np.uint8)
        picture[number : number + 3, 2:6] = 255
        images.save_png(tmp_path / "photos" / f"{number}.png", picture)
    out = tmp_path / "out"
    record = invert.run(_config(tmp_path / "photos", out, tune=60, tune_rate=1e-2, edit=1))
    assert record["mean_distance"] < 0.7 * record["before_tuning"]
    assert 0 < record["moved"] < record["before_tuning"] - record["mean_distance"]
    trained = load.load(runs.conditional(), module=runs.MODULE)
    with np.load(out / "parameters.npz", allow_pickle=False) as arrays:
        variables = traverse_util.unflatten_dict(dict(arrays), sep=".")
    with np.load(out / "latents.npz", allow_pickle=False) as found:
        made = trained.experiment.sample.generate(variables, found["z"], found["label"])
    for number, image in enumerate(images.to_uint8(made["image"])):
        for path, box in (("reconstructions", (0, 0, 8, 8)), ("edits", (32, 2, 40, 10))):
            with Image.open(out / path / f"{number}.png") as picture:
                pixels = np.asarray(picture.crop(box)).astype(int)
            assert np.abs(pixels - image[..., 0]).max() <= 1


def test_a_label_that_is_given_is_kept_and_classes_are_rows(photos, tmp_path):
    some = f"{photos / '0.png'},{photos / '1.png'}"
    out = tmp_path / "out"
    invert.run(_config(some, out, label="2", restarts=2, steps=6))
    with np.load(out / "latents.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["label"], [2, 2])
    invert.run(_config(some, tmp_path / "all", steps=6, edit=3, along="classes"))
    with Image.open(tmp_path / "all" / "edits" / "classes.png") as picture:
        assert picture.size == (2 * 10 + 2, 3 * 10 + 2)


@pytest.mark.parametrize("layered", [False, True])
def test_a_style_based_generator_is_searched_and_edited_in_w(layered):
    gen = stylegan2.Generator(8, 1, (4, 4), features=4, mapping_layers=1)
    fresh = jax.jit(lambda key: gen.init(key, jnp.zeros((1, 4)), train=False))
    space = _latents.Space(sample.Sampler(gen, 4), layered=layered)
    assert space.name == ("w+" if layered else "w") and space.bound == np.inf
    config = invert.Config(restarts=2, steps=3, edit=2, tune=4)
    search = invert._Search(config, space, fresh(jax.random.key(0)), None)
    w = space.draw(search.variables, jax.random.key(1), None, 2)
    made = inversion.made(space.make, search.variables, w, None)
    expected = space.sampler(search.variables, jax.random.key(1), 2)["image"]
    np.testing.assert_allclose(made, expected, atol=1e-5)
    np.testing.assert_array_equal(
        inversion.made(space.make, search.variables, space.spread(w), None), made
    )
    found = search(made, "images")
    assert found.latent.shape == (2, 4 * 4 if layered else 4)
    untuned = search.variables
    tuned, moved = search.tune(-made, found)  # what it cannot make
    assert tuned.distance.mean() < invert._distance(found.image, -made).mean() and moved > 0
    changed = jax.tree.map(
        lambda x, y: bool((x != y).any()), untuned["params"], search.variables["params"]
    )
    assert not any(jax.tree.leaves(changed["mapping"])) and any(jax.tree.leaves(changed))
    edits = invert._editor(config, search)(found, ["a", "b"])
    assert list(edits) == ["a", "b"] and edits["a"].shape == (2 * 10 + 2, 7 * 10 + 2, 1)


def test_colours_that_are_grey_are_read_as_grey_and_names_stay_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        images.save_png(tmp_path / folder / "x.png", np.full((8, 8, 3), 51, np.uint8))
    found = _latents.read(str(tmp_path), (8, 8, 1))
    assert list(found) == ["a_x", "b_x"]
    np.testing.assert_allclose(found["a_x"], np.full((8, 8, 1), -0.6), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 8, 1), "9 x 8 pixels .height x width., and the generator makes 8 x 8; crop or scale"),
        ((8, 8, 3), "is in colour, and the generator makes images of 1 channel; convert it"),
    ],
)
def test_an_image_of_another_shape_is_one_line(tmp_path, shape, message):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    images.save_png(tmp_path / "x.png", pixels)
    with pytest.raises(UserError, match=message):
        invert.run(_config(tmp_path / "x.png", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": ""}, "--images is empty"),
        ({"images": "no_such.png"}, "--images=no_such.png: there is no such file or folder"),
        ({"workdir": ""}, "--workdir is empty"),
        ({"out": ""}, "--out is empty"),
        ({"label": "3"}, "--label=3: the run has labels 0 to 2"),
        ({"member": 1}, "--member=1: the run has 1"),
        ({"edit": 5}, "--edit=5: there are 4 directions"),
        ({"space": "w+"}, "--space=w. is of StyleGAN2; this generator has z alone"),
    ],
)
def test_mistakes_are_named(photos, tmp_path, settings, message):
    config = {"workdir": str(runs.conditional()), "images": str(photos), "module": runs.MODULE}
    with pytest.raises(UserError, match=message):
        invert.run(invert.Config(**{**config, "out": str(tmp_path / "out"), **settings}))
    assert command.tree(tmp_path) == []
