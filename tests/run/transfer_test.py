"""Runs that begin with the players of another run, and discriminators that are partly frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import frozen
from jaxgan.data.spec import Spec
from jaxgan.nets import conditions, dcgan, r3gan, stylegan2
from jaxgan.run import launch, rundir, transfer
from jaxgan.types import UserError
from tests.helpers import command, runs, tiny, toy


def _run(workdir, **settings):
    return toy.run(runs.config(workdir, **{"log_every": 1, "save_every": 2, **settings}))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of 3 steps; (its directory, its final state)."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    return workdir, _run(workdir, num_steps=3, save_every=3)


def _init(config):
    """How the run of a config begins without another."""
    return toy.build(config, Spec(fingerprint="f", shapes={"image": (8, 8, 1)})).init


def _fresh(config):
    return jax.jit(_init(config))(config.keys(config.seed).init)


def _found(config):
    """Where the players for a config are."""
    keys = jax.eval_shape(lambda: launch.keys(config).init)
    shapes = jax.eval_shape(launch.init(config, _init(config)), keys)
    return transfer.find(config, shapes, module=runs.MODULE, metric="frechet_distance")


def test_a_run_begins_with_the_players_of_another_and_all_else_fresh(source, tmp_path):
    workdir, trained = source
    config = runs.config(tmp_path / "run", init_from=str(workdir), seed=5, beta1=0.1)
    fresh = _fresh(config)
    found = _found(config)
    state = transfer.start(found, fresh)
    assert found.step == 3 and int(state.step) == 0
    for ours, theirs in ((state.gen, trained.gen), (state.disc, trained.disc)):
        assert tiny.equal(ours.variables, theirs.variables)
    assert tiny.equal(state.gen_ema, trained.gen_ema)
    assert not tiny.equal(state.gen_ema, state.gen.variables)
    assert tiny.equal(state.gen.opt_state, fresh.gen.opt_state)
    assert tiny.equal(state.disc.opt_state, fresh.disc.opt_state)


def test_the_generator_alone_meets_a_fresh_discriminator_of_another_shape(source):
    workdir, trained = source
    narrow, wide = (_fresh(runs.config("", width=width)) for width in (8, 24))
    fresh = narrow.replace(disc=wide.disc)

    def found(**settings):
        config = runs.config("", init_from=str(workdir), **settings)
        return transfer.find(config, fresh, module=runs.MODULE, metric="frechet_distance")

    with pytest.raises(UserError, match="--init_players=gen for a fresh discriminator"):
        found()
    state = transfer.start(found(init_players="gen"), fresh)
    assert tiny.equal(state.gen.variables, trained.gen.variables)
    assert tiny.equal(state.gen_ema, trained.gen_ema)
    assert tiny.equal(state.disc, fresh.disc)


def test_killed_and_resumed_it_is_the_same_run(source, tmp_path, capsys):
    workdir, _ = source
    before = command.tree(workdir)
    settings = {"init_from": str(workdir), "freeze_disc": 1, "loss": "hinge"}
    straight = _run(tmp_path / "straight", num_steps=4, **settings)
    said = capsys.readouterr().out
    assert f"players of {workdir}, step 3\n" in said
    assert "frozen in the discriminator: Dense_0\n" in said
    for num_steps in (2, 4):
        _run(tmp_path / "stopped", num_steps=num_steps, **settings)
    assert runs.different(tmp_path / "stopped", tmp_path / "straight", 4) == []
    assert runs.steps_logged(tmp_path / "stopped") == [1, 2, 3, 4]
    assert rundir.read_config(tmp_path / "straight")["config"]["init_from"] == str(workdir)
    assert command.tree(workdir) == before
    _check_frozen(source, straight, tmp_path)


def _check_frozen(source, state, tmp_path):
    old, new = source[1].disc.params, state.disc.params
    assert tiny.equal(new["Dense_0"], old["Dense_0"])
    assert not tiny.equal(new["Dense_1"], old["Dense_1"])
    names = [name for name in runs.arrays(tmp_path / "straight", 4) if "opt_state" in name]
    assert not [x for x in names if "disc" in x and "Dense_0" in x]  # no moments are held of it
    assert [x for x in names if "disc" in x and "Dense_1" in x]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_from": "no/run"}, "no/run holds no run"),
        ({"init_checkpoint": "5"}, "--init_checkpoint=5 is not one of newest, best, 3"),
        ({"init_checkpoint": "best"}, "--init_checkpoint=best: no saved step has a score"),
        (
            {"latent_dim": 5},
            r"is a run of tests.helpers.toy with latent_dim=4 \(here 5\), whose players do not "
            r"fit: gen.params.Dense_0.kernel is float32\[4, 8\] there, float32\[5, 8\] here; use",
        ),
        (
            {"conditional": True},
            r"conditional=False \(here True\).*disc.params.Dense_0.kernel is float32\[64, 8\] "
            r"there, float32\[67, 8\] here",
        ),
        ({"freeze_disc": 2}, r"--freeze_disc=2 leaves nothing .* 2 layers \(Dense_0, Dense_1\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_and_leaves_no_directory(
    source, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr(jax, "jit", None)  # nothing is compiled
    for dry_run in (False, True):
        with pytest.raises(UserError, match=message) as caught:
            _run(tmp_path / "run", dry_run=dry_run, **{"init_from": str(source[0]), **settings})
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_contradictions_are_refused(tmp_path):
    with pytest.raises(UserError, match="--init_from=a and --fork_from=b both say where"):
        runs.config(tmp_path, init_from="a", fork_from="b")
    with pytest.raises(UserError, match="--freeze_disc=1 would freeze random weights; say with"):
        runs.config(tmp_path, freeze_disc=1)
    with pytest.raises(UserError, match="--freeze_disc=1 would freeze random weights"):
        runs.config(tmp_path, freeze_disc=1, init_from="a", init_players="gen")


def test_players_of_no_run_are_refused_before_a_directory_is_made(tmp_path):
    with pytest.raises(UserError, match="--init_players=gen needs --init_from=RUN"):
        _run(tmp_path / "run", init_players="gen")
    assert not (tmp_path / "run").exists()


def test_all_seeds_begin_with_one_run_or_each_with_its_own(source, tmp_path):
    workdir, trained = source
    _run(tmp_path / "both", num_steps=2, seeds=2, init_from=str(workdir), freeze_disc=1)
    kernel = runs.arrays(tmp_path / "both", 2)["state['disc']['params']['Dense_0']['kernel']"]
    for one in kernel:
        np.testing.assert_array_equal(one, trained.disc.params["Dense_0"]["kernel"])
    both = {"init_from": str(tmp_path / "both")}
    assert not _found(runs.config("", seeds=2, **both)).shared
    for seeds in (1, 3):
        said = f"both has 2 seeds, not {seeds}; use --seeds=2, or begin with a run of one seed"
        with pytest.raises(UserError, match=said):
            _found(runs.config("", seeds=seeds, **both))


def test_the_best_checkpoint_is_that_of_the_log(source, monkeypatch):
    lines = [{"step": 3, "eval/frechet_distance": 1.0}]
    monkeypatch.setattr(rundir, "read_metrics", lambda path: lines)
    assert _found(runs.config("", init_from=str(source[0]), init_checkpoint="best")).step == 3


DISCS = {
    "dcgan": (
        dcgan.Discriminator(features=(4, 4, 4), num_classes=3),
        ["Conv_0", "Conv_1 Norm_0", "Conv_2 Norm_1", "Dense_0", "Embed_0"],
    ),
    "r3gan": (
        r3gan.Discriminator(widths=(8, 16), groups=(1, 1), blocks=1),
        ["from_image", "Block_0", "Dense_0", "Block_1", "basis", "judge"],
    ),
    "stylegan2": (
        stylegan2.Discriminator(widths=(4, 4)),
        ["from_image", "Conv_0", "Conv_1", "Conv_2", "last", "dense", "judge"],
    ),
    "planes": (
        conditions.LabelPlanes(dcgan.Discriminator(features=(4, 4), norm="none"), 3),
        ["disc/Conv_0", "disc/Conv_1", "disc/Dense_0"],
    ),
}


@pytest.mark.parametrize("name", DISCS)
def test_layers_are_counted_from_the_image(name):
    disc, expected = DISCS[name]
    label = jnp.zeros((1,), jnp.int32)
    x = jnp.zeros((1, 8, 8, 1))
    found = frozen.layers(lambda key: disc.init(key, x, label, train=False))
    assert [" ".join(names) for names in found] == expected


def test_a_wrapper_is_looked_into_and_its_layers_are_frozen():
    params = {"net": {"Conv_0": {"kernel": jnp.ones((2, 2))}, "last": {"kernel": jnp.ones((2, 2))}}}
    layers = frozen.layers(lambda key: {"params": params})
    assert layers == [("net/Conv_0",), ("net/last",)]
    tx = frozen.freeze(optax.sgd(1.0), frozen.first(layers, 1, flag="--n"))
    updates, _ = tx.update(params, tx.init(params), params)
    assert float(updates["net"]["Conv_0"]["kernel"].sum()) == 0
    assert float(updates["net"]["last"]["kernel"].sum()) == -4
