"""Whether generated examples help: what is trained on what, what is chosen where, what is told."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import _generators, _labelled, _learners, _summary, downstream, mnist
from jaxgan.data import arrays, digests, partly, subsets
from jaxgan.data import spec as specs
from jaxgan.types import UserError
from tests.helpers import command, runs, toy

OLD = command.ROOT / "tests" / "fixtures" / "run_0_1_mixture"
CLASSES = 3
TINY = {
    "dataset": "arrays",
    "classifier": "linear",
    "seeds": 2,
    "steps": 6,
    "batch_size": 12,
    "num_generated": 12,
    "share": "0.25,0.75",
    "validation": 0.25,
}
RECIPE = """--gen_features=4
--disc_features=4
--latent_dim=2
--batch_size=8
--lr_final=0.1
"""


def _images(num, seed):
    """Images with a bright band where their class says, and noise that makes each another."""
    random = np.random.default_rng(seed)
    label = np.arange(num) % CLASSES
    image = random.integers(0, 100, (num, 8, 8, 1))
    image[np.arange(num), 2 * label + 1] += 150
    return {"image": image.astype(np.uint8), "label": label}


@pytest.fixture(scope="module")
def place():
    folder = runs.folder()
    test = {f"test_{name}": value for name, value in _images(30, 1).items()}
    names = np.array(["dark", "grey", "light"])
    np.savez(folder / "set.npz", **_images(60, 0), **test, class_names=names)
    (folder / "tiny.flags").write_text(RECIPE)
    return folder


def _config(place, workdir, **settings):
    given = {**TINY, "data_dir": str(place / "set.npz"), "workdir": str(workdir)}
    return downstream.Config(**{**given, **settings})


@pytest.fixture
def quick(monkeypatch):
    """Generators that need no training, and what each was given."""
    given = []

    def train(settings, source, place, seed):
        given.append((settings, source, place, seed))

        def draw(num, even):
            made = _images(num, 100 + seed)
            return _generators.Made(made["image"], made["label"].astype(np.int32))

        return draw

    monkeypatch.setattr(_generators, "train", train)
    return given


@pytest.fixture(scope="module")
def trained(place):
    """A whole command, generator included, and its record."""
    workdir = place / "whole"
    settings = {"recipe": str(place / "tiny.flags"), "gen_steps": 2, "plot": True}
    config = _config(place, workdir, **settings)
    return config, downstream.run(config)


def test_a_command_trains_generators_and_classifiers_and_leaves_table_and_picture(trained):
    config, record = trained
    workdir = command.pathlib.Path(config.workdir)
    assert {"generator-0", "downstream.json", "downstream.png"} <= {
        path.name for path in workdir.iterdir()
    }
    written = json.loads((workdir / "downstream.json").read_text())
    assert written["rows"]["all"]["arms"].keys() == record["rows"]["all"]["arms"].keys()
    assert list(written["rows"]["all"]["arms"]) == list("abcdef")
    assert written["rows"]["all"]["examples"] == 60
    (unit,) = written["units"].values()
    assert set(unit["generators"][0]["tried"]["c"]) == {"0.25", "0.75"}
    assert unit["generators"][0]["memorisation"]["copies"] >= 0


def test_the_same_command_goes_on_where_it_ended(trained, capsys):
    config, record = trained
    again = downstream.run(config)
    assert "set 1 of 1" not in capsys.readouterr().out  # nothing is trained
    assert again["rows"]["all"]["arms"]["c"] == record["rows"]["all"]["arms"]["c"]


def test_its_generator_is_a_run_that_can_be_taken_but_not_with_other_data(trained, place):
    config, _ = trained
    with pytest.raises(UserError, match="not the images that the run was trained on"):
        downstream.run(_config(place, f"{config.workdir}/generator-0"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"labelled": "4,8", "subsets": 2},
        {"labelled": "4", "subsets": 1, "generator_sees": "all"},
        {"keep": "grey:3", "subsets": 2, "baselines": "oversampled,weighted"},
        {"min_confidence": 0.01},
        {"classifier": "knn"},
    ],
    ids=["all", "few", "unlabelled", "thinned", "filtered", "neighbours"],
)
def test_no_test_image_reaches_a_generator_a_classifier_or_a_choice(
    place, tmp_path, quick, monkeypatch, settings
):
    """Watches what is handed over, beside the ledger."""
    test = set(digests.of_images(_images(30, 1)["image"]).tolist())
    seen = {"fit": set(), "tested": [], "chosen": set()}
    fit = _learners.Classifiers.fit

    def watched(self, arm, pool, label, classes):
        used = np.concatenate([part.index for part in arm.parts])
        seen["fit"] |= set(digests.of_images(np.asarray(pool)[used]).tolist())
        classify = fit(self, arm, pool, label, classes)

        def classified(images):
            numbers = set(digests.of_images(images).tolist())
            seen["tested" if numbers == test else "chosen"] = (
                [*seen["tested"], len(numbers)] if numbers == test else seen["chosen"] | numbers
            )
            return classify(images)

        return classified

    monkeypatch.setattr(_learners.Classifiers, "fit", watched)
    record = downstream.run(_config(place, tmp_path, **settings))
    assert seen["fit"] and not seen["fit"] & test and not seen["chosen"] & test
    fits = len(record["units"]) * (6 + len(settings.get("baselines", "").split(",")[:2]))
    assert len(seen["tested"]) == (fits if settings.get("keep") else 6 * len(record["units"]))
    for _, source, _, _ in quick:
        assert not set(digests.of_images(source.arrays["image"]).tolist()) & test
    for unit in record["units"].values():
        used = unit["images_used"]
        assert used["test"] == {
            "images": 30,
            "sha256": digests.of_set(np.array([*test], np.uint64)),
        }
        assert {"generator", "classifiers"} <= set(used)
        assert ("choice" in used) != bool(settings.get("keep"))


def test_a_test_image_that_slips_in_ends_the_command(place, tmp_path, quick, monkeypatch):
    checked = _labelled.checked

    def careless(train, test):
        data = checked(train, test)
        number = data.test_numbers[:1]
        return data._replace(train_numbers=np.concatenate([number, data.train_numbers[1:]]))

    monkeypatch.setattr(_labelled, "checked", careless)
    with pytest.raises(UserError, match="of the phase classifiers are test images"):
        downstream.run(_config(place, tmp_path))


def test_training_images_that_are_test_images_are_left_out(capsys):
    train, test = _images(12, 0), _images(6, 1)
    image = np.concatenate([train["image"], test["image"][:2]])
    label = np.concatenate([train["label"], test["label"][:2]])
    sources = [
        arrays.ArraySource({"image": x, "label": y}, name="set", num_classes=CLASSES)
        for x, y in ((image, label), (test["image"], test["label"]))
    ]
    data = _labelled.checked(*sources)
    assert len(data.train) == 12
    assert "2 images are in both splits; they are left out of the training images" in (
        capsys.readouterr().out
    )
    data = _labelled.checked(*sources, seen=True)  # by a generator: it cannot forget them
    assert (len(data.train), len(data.test)) == (14, 4)
    assert not np.isin(data.train_numbers, data.test_numbers).any()


def test_a_streamed_set_is_read_whole():
    whole = arrays.ArraySource(_images(12, 0), name="set", num_classes=CLASSES)
    streamed = subsets.Subset(whole, np.array([3, 1, 7]), "streamed")
    found = _labelled.in_memory(streamed)
    np.testing.assert_array_equal(found.arrays["image"], whole.arrays["image"][[3, 1, 7]])
    np.testing.assert_array_equal(found.labels, [0, 1, 1])


def test_labelled_subsets_are_those_of_the_protocol(place, tmp_path, quick):
    downstream.run(_config(place, tmp_path, labelled="8", subsets=2))
    every, label = _images(60, 0)["image"], _images(60, 0)["label"]
    order = np.random.default_rng(1).permutation(60)
    first = np.concatenate([order[label[order] == k][:6] for k in range(CLASSES)])  # 2 are held out
    seen = digests.of_set(digests.of_images(quick[1][1].arrays["image"]))
    assert seen == digests.of_set(digests.of_images(every[first]))
    assert [str(path).endswith(f"labelled-8/subset-{n}/generator-0") for n, path in
            enumerate(one[2] for one in quick)] == [True, True]  # fmt: skip


def test_unlabelled_images_are_seen_without_their_labels(place, tmp_path, quick):
    downstream.run(_config(place, tmp_path, labelled="4", subsets=1, generator_sees="all"))
    (settings, source, _, _), *_ = quick
    told = source.arrays[partly.DISC_LABEL]
    assert (told == CLASSES).sum() == 60 - 12 and settings.conditional


def test_a_generator_of_few_labels_has_one_more_in_its_discriminator():
    shapes = {"image": (8, 8, 1), "label": (), partly.DISC_LABEL: ()}
    config = mnist.Config(
        image_size=8, channels=1, gen_features="4", disc_features="4", latent_dim=2,
        conditional=True, workdir="x",
    )  # fmt: skip
    spec = specs.Spec("x", 8, shapes, CLASSES)
    experiment = mnist.build(config, spec)
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    sizes = {
        player: [leaf.shape[0] for path, leaf in jax.tree_util.tree_leaves_with_path(tree.params)
                 if "mbed" in jax.tree_util.keystr(path)]
        for player, tree in (("gen", state.gen), ("disc", state.disc))
    }  # fmt: skip
    assert sizes == {"gen": [CLASSES], "disc": [CLASSES + 1]}
    number = jax.ShapeDtypeStruct((4,), np.int32)
    batch = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32), "label": number}
    batch = {**batch, partly.DISC_LABEL: number}
    jax.eval_shape(experiment.step, jax.random.key(0), state, batch)
    del batch[partly.DISC_LABEL]
    with pytest.raises(KeyError):  # it is what D is told
        jax.eval_shape(experiment.step, jax.random.key(0), state, batch)


def test_thinned_classes_are_filled_up_by_each_method(place, tmp_path, quick, monkeypatch):
    arms = []
    fit = _learners.Classifiers.fit

    def watched(self, arm, pool, label, classes):
        index = np.concatenate([part.index for part in arm.parts])
        arms.append((np.bincount(np.asarray(label)[index], minlength=3).tolist(), arm))
        return fit(self, arm, pool, label, classes)

    monkeypatch.setattr(_learners.Classifiers, "fit", watched)
    baselines = ["oversampled", "oversampled_augmented", "weighted", "smote"]
    settings = {"keep": "grey:4,2:10", "subsets": 1, "baselines": ",".join(baselines)}
    record = downstream.run(_config(place, tmp_path, **settings))
    counts = [count for count, _ in arms]
    plain, filled = [20, 4, 10], [20, 20, 20]
    #         a      b      oversampled twice, weighted, smote, c, d, e, f
    assert counts == [plain] * 2 + [filled] * 2 + [plain] + [filled] * 3 + [[4, 4, 4]] * 2
    assert [arm.augment for _, arm in arms] == [False, True] * 2 + [False] * 3 + [True, False, True]
    np.testing.assert_allclose(arms[4][1].weights, 34 / (3 * np.array(plain)))
    assert set(record["rows"]["all"]["arms"]) == {*"abcdef", *baselines}
    assert {"c-smote", "d-oversampled_augmented"} <= set(record["rows"]["all"]["differences"])
    source = quick[0][1]  # the generator sees every class as often, of the rare one the same four
    assert np.bincount(source.arrays["label"]).tolist() == [20, 20, 20]
    grey = source.arrays["image"][source.arrays["label"] == 1]
    assert len(np.unique(digests.of_images(grey))) == 4


def test_classifiers_of_bands_learn_them_from_real_and_from_generated(place, tmp_path, quick):
    settings = {"steps": 150, "share": "0.5", "num_generated": 60}
    record = downstream.run(_config(place, tmp_path, **settings))
    arms = record["rows"]["all"]["arms"]
    assert all(arms[name]["accuracy"][0] > 0.9 for name in "abcdef")


def test_a_generator_has_a_recipe_that_suits_its_images():
    config = downstream.Config(dataset="digits")
    found = {num: _generators.recipe(config, (28, 28, 1), num) for num in (50, 1500, 60_000)}
    assert [one.num_steps for one in found.values()] == [2000, 2000, 7000]
    assert {one.augment for one in found.values()} == {"none"}
    assert all(one.conditional for one in found.values())
    colour = _generators.recipe(config, (32, 48, 3), 500)
    assert (colour.height, colour.width, colour.condition) == (32, 48, "projection")
    assert colour.augment == "diffaug"
    given = dataclasses.replace(config, recipe="mnist_best", gen_steps=8, gen_augment="ada")
    asked = _generators.recipe(given, (28, 28, 1), 50)
    assert (asked.num_steps, asked.decay_steps, asked.augment) == (8, 0, "ada")


def test_the_cas_alone_needs_no_other_classifier(place, tmp_path, quick):
    out = tmp_path / "cas.json"
    record = downstream.run(_config(place, tmp_path, arms="e", generators=2, out=str(out)))
    assert json.loads(out.read_text())["rows"].keys() == {"all"}
    assert not (tmp_path / "downstream.json").exists()
    row = record["rows"]["all"]
    assert list(row["arms"]) == ["e"] and not row["differences"]
    assert len(quick) == 2 and row["interval_over"] == "generators"


def test_real_examples_alone_need_no_generator(place, tmp_path, quick):
    record = downstream.run(_config(place, tmp_path, arms="a,b", labelled="4", subsets=2))
    row = record["rows"]["labelled-4"]
    assert list(row["arms"]) == ["a", "b"] and not quick
    assert all("generator" not in unit["images_used"] for unit in record["units"].values())


def test_classifiers_of_few_labels_are_small_and_of_many_as_the_projects():
    few, many = (downstream.recipe(downstream.Config(), num, (28, 28, 1)) for num in (500, 60_000))
    assert (few.num_steps, few.batch_size, few.width) == (300, 64, 16)
    assert (many.num_steps, many.batch_size, many.width) == (1875, 256, 32)
    assert downstream.recipe(downstream.Config(), 500, (32, 32, 3)).kind == "colour"


def test_shares_of_a_batch_are_those_asked_for_and_seeds_see_other_orders():
    recipe = _learners.Recipe("linear", 5, 8, 2, 1e-3, 0.0, 0.0, 0, 0, 0.9)
    trainer = _learners.Classifiers(recipe)
    arm = _learners.Arm(
        [_learners.Part(np.arange(4), 0.75), _learners.Part(np.arange(4, 10), 0.25)]
    )
    orders = [trainer._order(arm, seed) for seed in (0, 1)]
    assert orders[0].shape == (5, 8)
    assert ((orders[0] < 4).sum(1) == 6).all() and (orders[0] != orders[1]).any()
    seen = np.bincount(orders[0][orders[0] >= 4] - 4)
    assert seen.max() - seen.min() <= 1  # epochs


def test_all_seeds_at_once_are_each_as_alone():
    recipe = _learners.Recipe("linear", 8, 6, 2, 1e-2, 0.0, 0.0, 0, 0, 0.5)
    found = _images(30, 0)
    source = arrays.ArraySource(found, name="set", num_classes=CLASSES)
    arm = _learners.Arm([_learners.Part(np.arange(30))])

    def probabilities(recipe):
        trainer = _learners.Classifiers(recipe)
        trainer.begin(source)
        label = found["label"].astype(np.int32)
        return trainer.fit(arm, found["image"], label, CLASSES)(found["image"])

    both = probabilities(recipe)
    alone = probabilities(dataclasses.replace(recipe, seeds=1, seed=1))
    np.testing.assert_allclose(both[1], alone[0], atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 1e-4


def test_seeds_side_by_side_are_as_in_turn(monkeypatch):
    def one(tree, key, image):
        return {"sum": tree["w"] * image.sum()}, jax.random.normal(key)

    tree, keys = {"w": np.arange(3.0)}, jax.random.split(jax.random.key(0), 3)
    found = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        found.append(_learners._each(one, 3, own=2)(tree, keys, np.ones((2, 2))))
    (sums, draws), (others, again) = found
    np.testing.assert_allclose(sums["sum"], others["sum"])
    np.testing.assert_allclose(draws, again)


def test_intervals_are_over_what_is_independent():
    def unit(row, scores):
        report = {"balanced_accuracy": 0.0, "calibration_error": 0.0, "recall": [0.0]}
        each = {arm: [[{**report, "accuracy": x} for x in seeds] for seeds in groups]
                for arm, groups in scores.items()}  # fmt: skip
        generators = [{}] * len(scores["c"])
        return {"row": row, "labelled": 5, "examples": 5, "scores": each, "generators": generators}

    def scores(a, c):
        return {"a": a, "b": a, "c": c, "d": c, "e": c}

    one = unit("x", scores([[0.1, 0.3]], [[0.2, 0.4], [0.4, 0.6]]))
    found = _summary.rows({"u": one})["x"]
    assert found["interval_over"] == "generators"
    mean, half = found["differences"]["c-a"]["accuracy"]
    assert mean == pytest.approx(0.2) and half == pytest.approx(12.706 * 0.1, rel=1e-3)
    two = unit("x", scores([[0.5, 0.5]], [[0.6, 0.6], [0.6, 0.6]]))
    found = _summary.rows({"u": one, "v": two})["x"]
    assert found["interval_over"] == "subsets"
    assert found["arms"]["a"]["accuracy"][0] == pytest.approx(0.35)
    seeds = _summary.rows({"u": unit("x", scores([[0.1, 0.3]], [[0.2, 0.6]]))})["x"]
    assert seeds["interval_over"] == "seeds"
    assert seeds["differences"]["c-a"]["accuracy"][0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labelled": "21"}, "class dark has 20 images, fewer than the 21 asked for"),
        ({"labelled": "1"}, "leaves none to choose among --share=0.25,0.75; give one"),
        ({"keep": "blue:5"}, "no class is called blue; there are dark, grey, light"),
        ({"keep": "grey:1"}, "smote needs two images of every class"),
        ({"keep": "grey:0"}, "write CLASS:N with N of 1 or more"),
        ({"recipe": "nonsense"}, "cannot read flagfile nonsense"),
        ({"recipe": "quickstart", "gen_augment": "ada"}, "--augment=ada reads the sign"),
        ({"dataset": "stacked_mnist", "data_dir": "/no/such"}, "/no/such"),
    ],
)
def test_mistakes_are_one_line_before_any_training(place, tmp_path, quick, settings, message):
    with pytest.raises(UserError, match=message):
        downstream.run(_config(place, tmp_path / "new", **settings))
    assert not quick and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": "1"}, "shares lie between 0 and 1"),
        ({"share": "0.2,0.4", "validation": 0.0}, "leaves none to choose a share with"),
        ({"arms": "a,g"}, "g is not one of a, b, c, d, e, f"),
        ({"baselines": "undersampled"}, "undersampled is not one of oversampled, oversampled_aug"),
        ({"labelled": "5,ten"}, "is not a list of numbers above 0 such as 5,10,all"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        downstream.Config(**settings)


def test_a_run_without_labels_is_refused(place):
    with pytest.raises(UserError, match="the run has no labels, and its examples no classes"):
        downstream.run(_config(place, OLD))


def test_the_generators_of_a_finished_run_are_taken_and_its_data_are_found(tmp_path):
    given = {"data_dir": str(runs.split_file()), "conditional": True}
    workdir = tmp_path / "run"
    toy.run(runs.config(workdir, num_steps=2, log_every=1, **given))
    settings = {**TINY, "dataset": "", "workdir": str(workdir), "module": runs.MODULE}
    record = downstream.run(downstream.Config(**settings))
    (unit,) = record["units"].values()
    assert record["settings"]["dataset"] == "arrays" and len(unit["generators"]) == 1
    train = digests.of_images(runs.images(70)["image"][:40])
    assert unit["images_used"]["generator"]["sha256"] == digests.of_set(train)
    other = downstream.Config(**{**settings, "data_dir": str(runs.data_file())})
    with pytest.raises(UserError):  # has no test split
        downstream.run(other)
    path = workdir / "config.json"
    stored = json.loads(path.read_text())
    stored["data"]["class_names"] = ["x", "y", "z"]
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="the run's classes are x, y, z; those of .* are 3 without"):
        downstream.run(downstream.Config(**settings))


def test_a_set_without_labels_or_without_a_class_is_refused(tmp_path):
    found = {**_images(12, 0), "test_image": _images(6, 1)["image"]}
    np.savez(tmp_path / "no.npz", image=found["image"], test_image=found["test_image"])
    with pytest.raises(UserError, match="has no labels"):
        downstream.run(downstream.Config(dataset="arrays", data_dir=str(tmp_path / "no.npz"),
                                         workdir=str(tmp_path / "x")))  # fmt: skip
    test = {"test_label": _images(6, 1)["label"], "num_classes": 4}
    np.savez(tmp_path / "four.npz", **found, **test)
    with pytest.raises(UserError):
        downstream.run(downstream.Config(dataset="arrays", data_dir=str(tmp_path / "four.npz"),
                                         workdir=str(tmp_path / "x")))  # fmt: skip


def test_without_its_library_smote_is_one_line(place, tmp_path, quick, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imblearn", None)
    with pytest.raises(UserError, match=r"pip install jaxgan\[downstream\]"):
        downstream.run(_config(place, tmp_path, keep="grey:4"))


@pytest.mark.slow  # compiles a generator, and for colours a residual network
@pytest.mark.parametrize("settings", [{"generator_sees": "all", "labelled": "4", "subsets": 1},
                                      {"channels": 3, "recipe": "own", "classifier": "cnn"}],
                         ids=["unlabelled", "colours"])  # fmt: skip
def test_generators_of_every_kind_are_trained_and_taken_up_again(place, tmp_path, settings):
    recipe = str(place / "tiny.flags")
    given = {"recipe": recipe, "gen_steps": 2, "steps": 2, "image_size": 8, **settings}
    config = _config(place, tmp_path, **given)
    record = downstream.run(config)
    (generator,) = tmp_path.rglob("generator-0")
    (tmp_path / "downstream.json").unlink()
    again = downstream.run(config)
    assert runs.steps_saved(generator)[-1] == 2
    for row, values in record["rows"].items():
        assert again["rows"][row]["arms"]["e"] == values["arms"]["e"]
