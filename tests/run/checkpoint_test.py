"""Checkpoints: exact round trips, other device counts, strangers in the folder, other models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel
from jaxgan.run import checkpoint
from jaxgan.types import UserError
from tests.helpers import tiny

GEN, DISC = tiny.DenseGen(), tiny.DenseDisc()
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 9)))


def _state(seed=0, step=0, *, tx=TX, disc=DISC, **extra):
    """A state in which every number is random: a leaf left at its start would be seen."""
    state = tiny.dense_state(GEN, disc, tx, tx, **extra)

    def scramble(path, leaf):
        random = np.random.default_rng((seed, hash(jax.tree_util.keystr(path)) % 2**32))
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(random.normal(size=leaf.shape), leaf.dtype)
        return jnp.asarray(random.integers(0, 99, leaf.shape), leaf.dtype)

    state = jax.tree_util.tree_map_with_path(scramble, state)
    return state.replace(step=jnp.int32(step))


def _saved(folder, *states, **options):
    with checkpoint.manager(folder, **options) as manager:
        for state in states:
            checkpoint.save(manager, state)


def _restored(folder, fresh):
    with checkpoint.manager(folder) as manager:
        return checkpoint.restore(manager, fresh)


EXTRA = {
    "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
    "slots": {"count": jnp.int32(7), "seen": jnp.array([True, False])},
    "tiny": jnp.float32(1e-42),  # a denormal: flushed to 0 by anything that computes with it
}


def test_every_bit_and_every_class_comes_back(tmp_path):
    state = _state(1, step=30).replace(extra=EXTRA)
    _saved(tmp_path, state)
    restored = _restored(tmp_path, _state(2).replace(extra=EXTRA))
    assert tiny.equal(restored, state)
    assert type(restored.gen.opt_state[1]) is type(state.gen.opt_state[1])
    assert restored.extra["half"].dtype == jnp.bfloat16


def test_a_player_without_statistics_comes_back(tmp_path):
    disc = tiny.DenseDisc(batch_norm=False)
    state = _state(1, step=1, disc=disc, tx=optax.sgd(0.1))
    _saved(tmp_path, state)
    assert tiny.equal(_restored(tmp_path, _state(2, disc=disc, tx=optax.sgd(0.1))), state)


@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8), (8, 2)])
def test_a_state_moves_to_another_number_of_devices(tmp_path, before, after):
    meshes = {n: parallel.make_mesh(jax.devices()[:n]) for n in (before, after)}
    state = parallel.replicate(_state(1, step=4), meshes[before])
    _saved(tmp_path, state)
    restored = _restored(tmp_path, parallel.replicate(_state(2), meshes[after]))
    assert tiny.equal(restored, state)
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding.device_set == set(meshes[after].devices.flat)


def test_the_newest_step_is_restored_and_old_ones_go(tmp_path):
    states = [_state(n, step=n) for n in (1, 2, 3, 10)]
    _saved(tmp_path, *states, max_to_keep=2)
    with checkpoint.manager(tmp_path) as manager:
        assert checkpoint.finished_steps(manager) == [3, 10]
    assert tiny.equal(_restored(tmp_path, _state()), states[-1])


def test_a_step_that_is_saved_already_is_left_alone(tmp_path):
    first, second = _state(1, step=5), _state(2, step=5)
    _saved(tmp_path, first)
    _saved(tmp_path, second)
    assert tiny.equal(_restored(tmp_path, _state()), first)


def test_a_step_that_is_being_saved_is_left_alone(tmp_path):
    # As a signal does that comes right after the step was saved.
    state = _state(1, step=5)
    with checkpoint.manager(tmp_path) as manager:
        checkpoint.save(manager, state)
        checkpoint.save(manager, state)
    assert tiny.equal(_restored(tmp_path, _state()), state)


def test_the_state_may_be_donated_once_saving_has_begun(tmp_path):
    state = _state(1, step=6)
    expected = tiny.host(state)
    forget = jax.jit(functools.partial(jax.tree.map, jnp.zeros_like), donate_argnums=0)
    with checkpoint.manager(tmp_path) as manager:
        checkpoint.save(manager, state)
        jax.block_until_ready(forget(state))
    assert tiny.equal(_restored(tmp_path, _state()), expected)


def test_a_folder_that_only_looks_like_a_step_is_ignored(tmp_path):
    state = _state(1, step=3)
    _saved(tmp_path, state)
    (tmp_path / "9").mkdir()
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "state").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert tiny.equal(_restored(tmp_path, _state()), state)
    assert checkpoint.restore_generator(tmp_path)[0] == 3


def test_training_saves_over_a_folder_that_only_looks_like_its_step(tmp_path):
    _saved(tmp_path, _state(1, step=3))
    (tmp_path / "6").mkdir()
    state = _state(2, step=6)
    _saved(tmp_path, state)
    assert tiny.equal(_restored(tmp_path, _state()), state)


def test_strangers_do_not_push_good_steps_out(tmp_path):
    for name in ("90", "91", "92"):
        (tmp_path / name).mkdir()
    _saved(tmp_path, _state(1, step=1), _state(2, step=2), max_to_keep=2)
    with checkpoint.manager(tmp_path) as manager:
        assert checkpoint.finished_steps(manager) == [1, 2]


@pytest.mark.parametrize("lost", ["_CHECKPOINT_METADATA", "state/_METADATA", "gen_ema/_METADATA"])
def test_an_unfinished_step_is_ignored(tmp_path, lost):
    states = [_state(n, step=n) for n in (1, 2)]
    _saved(tmp_path, *states)
    (tmp_path / "2" / lost).unlink()
    assert tiny.equal(_restored(tmp_path, _state()), states[0])


def test_what_a_killed_save_left_is_removed(tmp_path):
    _saved(tmp_path, _state(1, step=1))
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "half").write_text("")
    assert tiny.equal(_restored(tmp_path, _state()), _state(1, step=1))
    assert not unfinished.exists()


def test_nothing_to_restore_is_said(tmp_path):
    with checkpoint.manager(tmp_path / "new") as manager:
        assert checkpoint.finished_steps(manager) == []
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            checkpoint.restore(manager, _state())
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoint.restore_generator(tmp_path / "nowhere")


def _changed(**leaves):
    state = _state()
    params = {**state.disc.params["Dense_0"], **leaves}
    params = {name: value for name, value in params.items() if value is not None}
    return state.replace(disc=state.disc.replace(params={**state.disc.params, "Dense_0": params}))


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        (
            lambda: _changed(kernel=jnp.zeros((16, 9))),
            r"disc.params.Dense_0.kernel is float32\[16, 8\] there, float32\[16, 9\] here",
        ),
        (
            lambda: _changed(kernel=jnp.zeros((16, 8), jnp.bfloat16)),
            r"disc.params.Dense_0.kernel is float32\[16, 8\] there, bfloat16\[16, 8\] here",
        ),
        (
            lambda: _changed(new=jnp.zeros(2)),
            r"disc.params.Dense_0.new is nothing there, float32\[2\] here",
        ),
        (
            lambda: _changed(bias=None),
            r"disc.params.Dense_0.bias is float32\[8\] there, nothing here",
        ),
        (lambda: _state(tx=optax.sgd(0.1)), r"opt_state.* there, nothing here.* and \d+ more"),
        (lambda: _state(slot=jnp.zeros(3)), r"extra.slot is nothing there, float32\[3\] here"),
    ],
)
def test_another_model_is_refused_and_its_leaves_named(tmp_path, fresh, message):
    _saved(tmp_path, _state(1, step=2))
    with pytest.raises(UserError, match=message) as caught:
        _restored(tmp_path, fresh())
    assert "\n" not in str(caught.value)


def test_sampling_reads_the_average_only(tmp_path):
    state = _state(1, step=12)
    _saved(tmp_path, state)
    for path in (tmp_path / "12" / "state").rglob("*"):
        if path.is_file() and path.name != "_METADATA":
            path.unlink()
    step, variables = checkpoint.restore_generator(tmp_path)
    assert step == 12
    assert tiny.equal(variables, state.gen_ema)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))


def test_sampling_works_where_only_the_average_was_kept(tmp_path):
    import shutil

    state = _state(1, step=12)
    _saved(tmp_path, state)
    shutil.rmtree(tmp_path / "12" / "state")
    assert tiny.equal(checkpoint.restore_generator(tmp_path)[1], state.gen_ema)
