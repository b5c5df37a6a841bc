"""The state of training and one Optax update of a player."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import state
from tests.helpers import tiny

TX = optax.sgd(0.1, momentum=0.9)


def _player():
    params = {"w": jnp.array([1.0, 2.0])}
    return state.init_player({"params": params, "batch_stats": {"mean": jnp.zeros(2)}}, TX)


def _state():
    gen, disc = tiny.DenseGen(), tiny.DenseDisc()
    return tiny.dense_state(gen, disc, TX, TX)


def test_player_keeps_every_collection_but_params_as_statistics():
    player = _player()
    assert set(player.stats) == {"batch_stats"}
    assert set(player.variables) == {"params", "batch_stats"}
    assert jax.tree.structure(player.opt_state) == jax.tree.structure(TX.init(player.params))


def test_a_network_without_statistics_has_none():
    assert state.init_player({"params": {"w": jnp.ones(1)}}, TX).stats == {}


def test_state_starts_at_step_0_with_the_average_equal_to_the_generator():
    start = _state()
    assert int(start.step) == 0 and start.step.dtype == jnp.int32
    assert tiny.equal(start.gen_ema, start.gen.variables)
    assert "batch_stats" in start.gen_ema


def test_the_average_starts_as_a_copy_so_that_the_state_can_be_donated():
    gen = _player()
    start = state.init_state(gen, _player())
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(start)]
    assert len(set(pointers)) == len(pointers)
    moved = jax.jit(functools.partial(jax.tree.map, lambda x: x + 1), donate_argnums=0)(start)
    assert int(moved.step) == 1
    assert start.gen.params["w"].is_deleted()


def test_extra_slots_are_found_by_name():
    start = state.init_state(_player(), _player(), path_length=jnp.zeros(()), queue=jnp.ones(3))
    assert set(start.extra) == {"path_length", "queue"}
    np.testing.assert_array_equal(start.extra["queue"], np.ones(3))


def test_state_holds_arrays_only():
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(_state()))


def _squares(player):
    """Loss sum(w^2), whose gradient is 2 w; statistics and metrics go along."""
    new = {"batch_stats": {"mean": player.stats["batch_stats"]["mean"] + 1.0}}
    return lambda params: (jnp.square(params["w"]).sum(), (new, {"loss": params["w"].sum()}))


def test_update_takes_optax_steps_by_hand():
    player = _player()
    player, metrics = state.update(player, TX, _squares(player))
    np.testing.assert_allclose(player.params["w"], [0.8, 1.6])  # w - 0.1 * 2 w
    np.testing.assert_allclose(metrics["loss"], 3.0)
    np.testing.assert_allclose(player.stats["batch_stats"]["mean"], 1.0)
    player, _ = state.update(player, TX, _squares(player))
    # momentum: 2 * .8 + .9 * 2 * 1 = 3.4; .8 - .34
    np.testing.assert_allclose(player.params["w"], [0.46, 0.92], rtol=1e-6)


def test_update_sees_the_parameters_in_the_optimiser():
    tx = optax.adamw(1e-3, weight_decay=10.0)  # needs params: decay alone moves them
    player = state.init_player({"params": {"w": jnp.array([1.0])}}, tx)
    player, _ = state.update(player, tx, lambda params: (0.0 * params["w"].sum(), ({}, {})))
    np.testing.assert_allclose(player.params["w"], [0.99], rtol=1e-6)


def test_apply_gradients_uses_the_gradients_and_statistics_given():
    player = state.apply_gradients(_player(), TX, {"w": jnp.array([5.0, -5.0])}, {"s": jnp.ones(1)})
    np.testing.assert_allclose(player.params["w"], [0.5, 2.5])
    assert set(player.stats) == {"s"}


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_update_averages_gradients_and_metrics_over_a_mapped_axis(how):
    xs = jnp.arange(8.0).reshape(8, 1)  # gradients 0..7: their mean is 3.5

    def step(x):
        player = state.init_player({"params": jnp.ones(1)}, optax.sgd(1.0))
        loss_fn = lambda w: ((w * x).sum(), ({}, {"loss": x.sum()}))  # noqa: E731
        player, metrics = state.update(player, optax.sgd(1.0), loss_fn, axis_name="data")
        return player.params, metrics["loss"][None]

    if how == "pmap":
        params, loss = jax.pmap(step, axis_name="data")(xs)
    else:
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
        spec = jax.sharding.PartitionSpec("data")
        params, loss = jax.jit(
            jax.shard_map(
                lambda x: step(x[0]), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
            )
        )(xs)
    np.testing.assert_allclose(np.asarray(params).reshape(-1), np.full(8, 1 - 3.5))
    np.testing.assert_allclose(np.asarray(loss).reshape(-1), np.full(8, 3.5))
