"""The experiment of any images: every network, every condition, images of any size."""

import jax
import numpy as np
import PIL.Image
import pytest

from experiments import images
from jaxgan.data import spec as specs
from jaxgan.run import launch, load
from jaxgan.types import UserError
from tests.helpers import flagfile, runs, tiny
from tests.nets import published

SMALL = {
    "dcgan": {"widths": "8", "latent_dim": 4},
    "light": {"widths": "8,8", "latent_dim": 4},
    "resnet": {"widths": "8,8", "latent_dim": 4},
    "r3gan": {"widths": "8,8", "latent_dim": 4, "blocks": 1, "groups": "2,2"},
    "stylegan2": {"widths": "8,8", "latent_dim": 4, "mapping_layers": 1},
}


ONE = {"widths": "8", "groups": "2"}  # one stage
R1_R2 = {"penalty": "r1_r2"}
CBN = {"condition": "cbn", "embedding": 4, "hierarchical": True}


def _config(workdir, net, **settings):
    # Without a penalty: second derivatives of the networks are compiled by their own tests.
    given = {**runs.SMALL, "penalty": "none", "num_steps": 2, "data_dir": str(runs.data_file())}
    given |= SMALL[net]
    return images.Config(**{**given, "net": net, "workdir": str(workdir), **settings})


@pytest.mark.parametrize(
    ("net", "settings"),
    [
        ("dcgan", {"condition": "concat", "penalty": "r1_r2"}),
        ("light", {"condition": "projection", "widths": "8"}),
        ("r3gan", {"condition": "projection", "beta2_final": 0.95, "ema_ramp": True, **ONE}),
        ("dcgan", {"condition": "ac", "class_loss": "hinge"}),
        # The largest programs. `sample_test.py` trains and samples a StyleGAN2 too; a residual
        # pair is traced by default, with the same settings.
        pytest.param("stylegan2", {"condition": "projection", **R1_R2}, marks=pytest.mark.slow),
        pytest.param("resnet", {**CBN, **R1_R2}, marks=pytest.mark.slow),
        pytest.param("r3gan", {"condition": "projection", **R1_R2}, marks=pytest.mark.slow),
        pytest.param("light", {"condition": "projection", **R1_R2}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value["condition"],
)
def test_every_network_trains_with_labels_and_is_sampled_from_its_directory(
    tmp_path, net, settings
):
    state = images.run(_config(tmp_path / "run", net, **settings))
    assert state is not None and int(state.step) == 2
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
    entries = load.load(tmp_path / "run").sample(jax.random.key(0), 3)
    assert entries["image"].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(entries["label"], [0, 1, 2])


@pytest.mark.parametrize(
    ("net", "settings"), [("resnet", CBN), ("stylegan2", {"condition": "projection"})]
)
def test_the_larger_networks_have_a_step_that_keeps_the_state_as_it_is(tmp_path, net, settings):
    config = _config(tmp_path / "run", net, **settings)
    spec = specs.Spec("", 40, {"image": (8, 8, 1)}, 3, label_counts=(14, 13, 13))
    made = images.build(config, spec)
    batch = {"image": np.zeros((16, 8, 8, 1), np.float32), "label": np.zeros(16, np.int32)}
    state = jax.eval_shape(made.init, jax.random.key(0))
    after, metrics = jax.eval_shape(made.step, jax.random.key(0), state, batch)
    assert tree_of(after) == tree_of(state) and {"gen/loss", "disc/loss"} <= set(metrics)


def tree_of(shapes):
    """The shape and dtype of every leaf, by its place."""
    leaves, structure = jax.tree.flatten(shapes)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def test_penalties_and_path_lengths_that_are_due_at_times_take_turns(tmp_path):
    config = _config(
        tmp_path, "stylegan2", penalty="r1", gamma=0.5, penalty_every=6, path_weight=2.0
    )
    told = [(one.penalty, one.gamma, one.path_weight) for one in config.cycle()]
    both, rest, path = ("r1", 3.0, 8.0), ("none", 0.5, 0.0), ("none", 0.5, 8.0)
    penalty = ("r1", 3.0, 0.0)
    period = [both, *[rest] * 3, path, rest, penalty, rest, path, *[rest] * 3]
    assert told == period
    assert {one.penalty_every for one in config.cycle()} == {1}
    assert config.path_every == 4 and {one.path_weight for one in config.cycle()} == {0.0, 8.0}


@pytest.mark.slow  # compiles three programs
def test_a_run_of_path_lengths_that_is_stopped_ends_as_one_that_is_not(tmp_path):
    settings = {"path_weight": 2.0, "path_every": 2, "save_every": 2}
    ours, theirs = (
        [images.run(_config(tmp_path / name, "stylegan2", num_steps=n, **settings)) for n in stops][
            -1
        ]
        for name, stops in (("straight", [4]), ("stopped", [2, 4]))
    )
    assert ours is not None and float(ours.extra["path"]) > 0
    assert tiny.equal(ours, theirs)


def test_images_that_are_not_square_train_as_they_are(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 12, 4), np.uint8)
        PIL.Image.fromarray(pixels, "RGBA").save(folder / f"{number}.png")
    data = {"dataset": "folder", "data_dir": str(folder), "image_size": 0, "batch_size": 8}
    images.run(_config(tmp_path / "run", "r3gan", **data, **ONE))
    assert load.load(tmp_path / "run").sample(jax.random.key(0), 2)["image"].shape == (2, 20, 12, 3)
    with pytest.raises(UserError, match="--net=dcgan makes square images, not 20 x 12"):
        images.run(_config(tmp_path / "other", "dcgan", **data))


def test_pictures_of_odd_shapes_train_at_the_shape_asked_for(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, shape in enumerate([(20, 12), (9, 30), (16, 16), (31, 17)] * 6):
        pixels = np.random.default_rng(number).integers(0, 255, (*shape, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:02}.png")
    data = {"dataset": "folder", "data_dir": str(folder), "image_size": 0, "batch_size": 8}
    shape = {"height": 8, "width": 12}
    config = _config(tmp_path / "run", "r3gan", **data, **shape, **ONE)
    images.run(config)
    trained = load.load(tmp_path / "run")
    assert trained.sample(jax.random.key(0), 2)["image"].shape == (2, 8, 12, 3)
    assert (trained.config.height, trained.config.width) == (8, 12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"height": 8}, "--height=8 and --width=0 are one shape; give both, or --image_size"),
        ({"height": 8, "width": 4}, "--height=8 and --width=4 beside --image_size=8; give one"),
        ({"groups": "3,2"}, "groups 3 do not divide 16 channels"),
        ({"widths": "8,8,8,8,8"}, "an image of 8 x 8 cannot be made by 5 stages"),
        ({"widths": "8,x"}, "--widths=8,x is not a list of positive numbers"),
        ({"path_weight": 1.0}, "--path_weight=1.0 is of --net=stylegan2, not --net=r3gan"),
        ({"condition": "cbn"}, "--condition=cbn needs norms in G, which --net=r3gan lacks"),
        ({"attention": 4}, "--attention=4 is of --net=resnet, not --net=r3gan"),
        ({"gamma": -0.5}, "--gamma=-0.5 is below 0; use -1 for one that suits the data"),
        ({"disc_widths": "8"}, r"groups \(2, 2\) are not as many as widths \(8,\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_work_are_one_line(tmp_path, settings, words):
    with pytest.raises(UserError, match=words) as caught:
        images.run(_config(tmp_path / "run", "r3gan", **settings))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_condition_without_labels_is_one_line(tmp_path):
    np.savez(tmp_path / "plain.npz", image=runs.images()["image"])
    with pytest.raises(UserError, match="--condition=ac needs labels, which --dataset=arrays"):
        data_dir = str(tmp_path / "plain.npz")
        images.run(_config(tmp_path / "run", "r3gan", data_dir=data_dir, condition="ac"))


FREE = {"gamma": -1.0, "augment": "auto", "condition": "auto", "num_steps": 0}


@pytest.mark.parametrize(
    ("shape", "num", "counts", "expected"),
    [
        ((32, 32, 3), 1500, (), (1.0, "diffaug", "none", 4500)),
        ((64, 64, 1), 60_000, (30_000, 30_000), (4.0, "none", "projection", 2250)),
        ((24, 40, 3), 300, (290, 10), (0.938, "diffaug", "none", 4500)),
        ((48, 48, 3), 300, (), (2.25, "diffaug", "none", 3000)),
        ((256, 256, 3), 300, (), (64.0, "diffaug", "none", 2250)),
    ],
    ids=["icons", "two classes", "a rare class, not square", "between", "large"],
)
def test_what_is_left_to_the_data_follows_from_their_size_and_number(shape, num, counts, expected):
    spec = specs.Spec("", num, {"image": shape}, len(counts), label_counts=counts)
    config = images.Config(**FREE).resolved(spec)
    names = ("gamma", "augment", "condition", "num_steps")
    assert tuple(getattr(config, name) for name in names) == expected
    assert config.channels == shape[2]
    assert config.resolved(spec) == config
    asked = images.Config(**{**FREE, "gamma": 0.0, "num_steps": 5}).resolved(spec)
    assert (asked.gamma, asked.num_steps) == (0.0, 5)


def test_a_run_tells_and_keeps_what_it_took_from_the_data(tmp_path, capsys):
    config = _config(tmp_path / "run", "dcgan", gamma=-1.0, augment="auto")
    images.run(config)
    said = "taken from the data: --gamma=0.0625 --augment=diffaug"
    assert said in capsys.readouterr().out
    assert load.load(tmp_path / "run").config.gamma == 0.0625
    images.run(config)  # the same command
    assert "finished: " in capsys.readouterr().out


# Of each flagfile with a paper's settings: pixels, labels, and where the published code is counted.
PUBLISHED = {
    "cifar10_r3gan_full": (32, 10, "r3gan", "cifar10"),
    "ffhq256_r3gan": (256, 0, "r3gan", "ffhq256"),
    "ffhq256_stylegan2": (256, 0, "stylegan2", "ffhq256"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_flagfiles_of_papers_have_as_many_parameters_as_the_published_code(name):
    side, classes, net, settings = PUBLISHED[name]
    config = flagfile.config(images.Config, flagfile.FOLDER / f"{name}.flags")
    shapes = {"image": (side, side, 3)}
    spec = specs.Spec(fingerprint="", shapes=shapes, num_classes=classes)
    state = jax.eval_shape(images.build(config, spec).init, jax.random.key(0))
    found = [launch.count(player.params) for player in (state.gen, state.disc)]
    assert found == published.expected(net, "parameters")[settings]


def test_given_widths_make_sizes_that_the_published_ones_cannot(tmp_path):
    spec = specs.Spec(fingerprint="", shapes={"image": (18, 18, 1)})
    for net in ("r3gan", "stylegan2"):
        config = _config(tmp_path / "run", net)
        assert jax.eval_shape(images.build(config, spec).init, jax.random.key(0))
        with pytest.raises(UserError, match="18 x 18 cannot be made by doubling 2 times; .* 16"):
            images.build(_config(tmp_path / "run", net, widths="", groups=""), spec)
