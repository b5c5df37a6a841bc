"""Adversarial training from flags: update rules, penalties that fade, augmentations, labels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.augment import ada
from jaxgan.run import adversarial, driver, rundir
from jaxgan.types import UserError
from tests.helpers import runs, tiny, toy


@pytest.mark.parametrize("update", ["simultaneous", "alternating", "fresh"])
def test_every_way_of_updating_trains(tmp_path, update):
    settings = {"penalty": "none", "loss": "hinge", "decay_steps": 4}
    state = toy.run(runs.config(tmp_path / "run", update=update, num_steps=2, **settings))
    assert int(state.step) == 2
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


@pytest.mark.slow  # compiles two programs
def test_a_run_goes_on_as_it_began_in_another_number_of_micro_batches(tmp_path):
    settings = {"penalty": "none", "loss": "hinge", "update": "alternating"}

    def build(config, spec):
        return toy.build(config, spec, batch_norm=False)

    def train(name, num_steps, accumulate):
        options = {"num_steps": num_steps, "accumulate": accumulate, **settings}
        return driver.train(runs.config(tmp_path / name, **options), build=build)

    first, whole = train("whole", 1, 1), train("whole", 3, 1)
    train("parts", 1, 1)
    parts = train("parts", 3, 2)
    assert int(whole.step) == int(parts.step) == 3
    assert tiny.largest_difference(whole, parts) < 1e-4
    assert tiny.largest_difference(whole.gen.params, first.gen.params) > 1e-4


def test_micro_batches_that_cannot_be_are_one_line(tmp_path):
    with pytest.raises(UserError, match="batch_size 16 .* into 3 micro-batches; try 15 or 18$"):
        runs.config(tmp_path / "run", accumulate=3)
    with pytest.raises(UserError, match="batch_size 16 .* over 8 devices, .* try 32$"):
        toy.run(runs.config(tmp_path / "run", accumulate=4))
    with pytest.raises(UserError, match="relativistic_average .*use --loss=relativistic or"):
        runs.config(tmp_path / "run", accumulate=2, loss="relativistic_average")


def test_several_updates_of_d_to_one_of_g_are_trained_and_their_rates_end_together(tmp_path):
    settings = {"penalty": "none", "loss": "hinge", "update": "fresh", "disc_steps": 2}
    decay = {"decay_steps": 2, "lr_final": 0.0, "beta1": 0.0}
    state = toy.run(runs.config(tmp_path / "run", num_steps=2, **settings, **decay))
    updates = {
        player: {int(x) for x in jax.tree.leaves(of.opt_state) if x.ndim == 0}
        for player, of in (("gen", state.gen), ("disc", state.disc))
    }
    assert updates == {"gen": {2}, "disc": {4}}
    later = toy.run(runs.config(tmp_path / "run", num_steps=3, **settings, **decay))
    assert tiny.largest_difference(state.gen.params, later.gen.params) == 0
    assert tiny.largest_difference(state.disc.params, later.disc.params) == 0


def test_rates_decay_as_asked_for(tmp_path):
    config = runs.config(tmp_path, lr_decay="linear", lr_final=0.5, num_steps=4, gen_lr=0.1)
    tx, _ = adversarial.optimizers(config)
    params, grads = {"x": jnp.zeros(())}, {"x": jnp.ones(())}
    state, moved = tx.init(params), []
    for _ in range(5):
        updates, state = tx.update(grads, state, params)
        moved.append(-float(updates["x"]))  # Adam's step of a constant gradient is its rate
    np.testing.assert_allclose(moved, [0.1, 0.1, 0.1, 0.075, 0.05], rtol=1e-4)


def test_several_updates_of_d_need_fresh_fakes_and_a_batch_that_divides(tmp_path):
    with pytest.raises(UserError, match="--disc_steps=2 needs .* give --update=fresh, not simult"):
        runs.config(tmp_path / "run", disc_steps=2, update="simultaneous")
    with pytest.raises(UserError, match="batch_size 16 .* into 6 micro-batches; try 12 or 18$"):
        runs.config(tmp_path / "run", disc_steps=3, accumulate=2, update="fresh")


@pytest.mark.slow  # compiles two programs
def test_a_dry_run_tells_the_memory_of_micro_batches(tmp_path, capsys):
    sizes = []
    for n in (1, 8):
        toy.run(
            runs.config("", width=1024, batch_size=8192, accumulate=n, penalty="none", dry_run=True)
        )
        told = capsys.readouterr().out
        assert ("1024 examples on each in 8 micro-batches" in told) == (n == 8)
        sizes.append(int(re.search(r"memory: about (\d+) MiB", told).group(1)))
    assert sizes[1] < 0.5 * sizes[0]


def test_gamma_fades_over_the_decay(tmp_path):
    # The penalty of each step is that of the same parameters under the constant gamma, times what
    # the cosine has left: all of it, then three quarters; rates near 0 keep the parameters.
    rates = {"gen_lr": 1e-12, "disc_lr": 1e-12, "penalty": "r1", "num_steps": 5, "log_every": 1}
    for name, share in (("constant", 1.0), ("fading", 0.0)):
        fade = {"gamma_final": share, "decay_steps": 3}
        toy.run(runs.config(tmp_path / name, **rates, **fade))
    constant, fading = (
        np.array([x["disc/penalty"] for x in rundir.read_metrics(tmp_path / name)])
        for name in ("constant", "fading")
    )
    np.testing.assert_allclose(fading / constant, [1, 0.75, 0.25, 0, 0], rtol=1e-5, atol=1e-7)


def test_rates_and_gamma_decay_over_the_whole_run_unless_told_otherwise(tmp_path):
    settings = {"lr_final": 0.0, "gamma_final": 0.0, "gamma_decay": "cosine", "log_every": 1}
    state = toy.run(runs.config(tmp_path / "run", num_steps=2, **settings))
    first, last = (x["disc/penalty"] for x in rundir.read_metrics(tmp_path / "run"))
    assert 0 < last < first and int(state.gen.opt_state[1].count) == 2
    with pytest.raises(UserError, match="--gamma_decay=geometric never reaches --gamma_final=0"):
        runs.config(tmp_path / "run", gamma_final=0.0, gamma_decay="geometric")


@pytest.mark.slow  # compiles three programs
def test_a_run_with_ada_that_is_stopped_ends_as_one_that_is_not(tmp_path):
    settings = {"augment": "ada", "loss": "hinge", "penalty": "none", "ada_ramp": 640}
    ours, theirs = (
        [toy.run(runs.config(tmp_path / name, num_steps=num, **settings)) for num in stops][-1]
        for name, stops in (("straight", [6]), ("stopped", [3, 6]))
    )
    assert tiny.equal(ours, theirs)


def test_adas_controller_trains(tmp_path, monkeypatch):
    # One of its transforms: all of them compile for long, as they do in the test before.
    made = ada.pipeline
    monkeypatch.setattr(ada, "pipeline", lambda names, *, p: made("noise", p=p))
    settings = {"augment": "ada", "loss": "hinge", "penalty": "none", "ada_ramp": 640}
    state = toy.run(runs.config(tmp_path / "run", num_steps=6, **settings))
    assert int(state.extra["ada"]["count"]) == 2  # since p moved after the fourth step
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


def test_diffaugment_trains(tmp_path):
    settings = {"augment": "diffaug", "loss": "hinge", "penalty": "none"}
    state = toy.run(runs.config(tmp_path / "run", num_steps=1, **settings))
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("loss", ["relativistic", "relativistic_average", "wasserstein"])
def test_ada_needs_logits_whose_sign_means_something(tmp_path, loss):
    with pytest.raises(UserError, match="--augment=ada reads the sign of D's logits, which --loss"):
        runs.config(tmp_path / "run", augment="ada", loss=loss)


def test_conditions_need_labels(tmp_path):
    np.savez(tmp_path / "plain.npz", image=runs.images()["image"])
    with pytest.raises(UserError, match="--conditional needs labels"):
        toy.run(
            runs.config(tmp_path / "run", data_dir=str(tmp_path / "plain.npz"), conditional=True)
        )


def test_changed_data_stop_a_resume(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, **runs.images())
    toy.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=1))
    np.savez(path, image=runs.images()["image"][::-1], label=runs.images()["label"])
    with pytest.raises(UserError, match="training data have changed"):
        toy.run(runs.config(tmp_path / "run", data_dir=str(path), num_steps=2))


def test_a_burn_in_moves_beta2_and_half_life(tmp_path):
    settings = {"beta2": 0.9, "beta2_final": 0.99, "ema_ramp": True, "decay_steps": 2}
    first, later = (
        toy.run(runs.config(tmp_path / "run", num_steps=num, **settings)) for num in (1, 3)
    )
    assert tiny.equal(first.gen_ema, first.gen.variables)  # a half-life of 0 has no memory
    assert not tiny.equal(later.gen_ema, later.gen.variables)
    for state, beta2 in ((first, 0.9), (later, 0.99)):
        np.testing.assert_allclose(state.disc.opt_state.hyperparams["b2"], beta2, rtol=1e-6)


@pytest.mark.slow  # compiles ADA's transforms
def test_an_augmentation_that_grows_is_none_at_first(tmp_path):
    settings = {"loss": "relativistic", "num_steps": 3, "decay_steps": 2, "log_every": 1}
    for name, augment in (("none", {}), ("ramp", {"augment": "ramp", "augment_p": 0.9})):
        toy.run(runs.config(tmp_path / name, gen_lr=1e-12, disc_lr=1e-12, **settings, **augment))
    plain, grown = (
        np.array([line["disc/real"] for line in rundir.read_metrics(tmp_path / name)])
        for name in ("none", "ramp")
    )
    np.testing.assert_allclose(grown[0], plain[0], rtol=1e-4)
    assert abs(grown[2] - plain[2]) > 1e-3  # half of all images are moved or recoloured
