"""Steps that are timed."""

import jax
import pytest

from experiments import bench


@pytest.mark.parametrize("model", ["dcgan28", "r3gan32", "stylegan2_32"])
def test_the_step_of_a_model_updates_both_players(model):
    config = bench.Config(model=model, batch_size=4, width=8, update="alternating")
    step, init, batch = bench.build(config)
    key = jax.random.key(0)
    state = jax.eval_shape(init, key)
    after, metrics = jax.eval_shape(step, key, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"disc/loss", "gen/loss"} <= set(metrics)


@pytest.mark.parametrize("model", ["r3gan64", "stylegan2_64"])
def test_64_pixels_have_one_stage_more(model):
    def kernels(model):
        _, init, batch = bench.build(bench.Config(model=model, batch_size=4, width=8))
        assert batch["image"].shape == (4, int(model[-2:]), int(model[-2:]), 3)
        return len(jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)).gen.params))

    assert kernels(model) > kernels(model.replace("64", "32"))


def test_a_table_has_every_model_with_its_penalties_in_both_number_formats():
    rows = bench._rows(bench.Config())
    assert {row.model for row in rows} == set(bench.MODELS)
    for model, told in bench.MODELS.items():
        own = [row for row in rows if row.model == model]
        assert {(row.update, row.r1) for row in own} == set(told.steps)
        assert {row.compute_dtype for row in own} == {"float32", "bfloat16"}
        assert {(row.batch_size, row.width) for row in own} == {(told.batch_size, told.width)}
