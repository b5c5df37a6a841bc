"""One device equals eight, under jit and under pmap; resident data; batches that do not divide.

Everything is compared under SGD: Adam turns rounding noise into full-size steps, and hides
gradients that are wrong by a factor.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import parallel, steps
from jaxgan.data import pipeline
from jaxgan.parallel import devices
from jaxgan.types import UserError
from tests.helpers import tiny

KEY = jax.random.key(5)
RATE = 0.2
GAMES = {
    "nonsaturating": {"loss": "nonsaturating"},
    "relativistic average, alternating": {"loss": "relativistic_average", "update": "alternating"},
    "relativistic, r1_r2": {"loss": "relativistic", "penalty": "r1_r2"},
    "batch norm in both, labels": {
        "loss": "hinge",
        "disc_norm": "batch",
        "num_classes": 3,
        "update": "fresh",
    },
}


def _driver(kind, num, step):
    mesh = parallel.make_mesh(jax.devices()[:num])
    if kind == "pmap":
        return parallel.pmap_step(step, mesh=mesh)
    return parallel.jit_step(step, mesh)


def _train(kind, num, num_steps, **game):
    """Trains; returns host copies of (states after each step, metrics of each step)."""
    axis_name = parallel.AXIS if kind == "pmap" else None
    step, init = tiny.dcgan_game(axis_name, tx=optax.sgd(RATE), **game)
    driver, state = _driver(kind, num, step), init()
    states, metrics = [tiny.host(state)], []
    for number in range(num_steps):
        state, now = driver(KEY, state, tiny.batch(number))
        states.append(tiny.host(state))
        metrics.append(tiny.host(now))
    return states, metrics


@functools.cache
def _one_device(name, num_steps):
    return _train("jit", 1, num_steps, **GAMES[name])


def _gradient_norms(states):
    """Norms of the first gradient of each player: under SGD, its step over its rate."""
    return {
        player: tiny.norm(
            jax.tree.map(
                lambda old, new: (np.float64(old) - new) / RATE,
                getattr(states[0], player).params,
                getattr(states[1], player).params,
            )
        )
        for player in ("gen", "disc")
    }


# Under pmap the collectives are ours, so that every game is tried; under jit they are XLA's.
SHARED_OUT = [(name, "pmap") for name in GAMES] + [("batch norm in both, labels", "jit")]
SLOW = [(name, "jit") for name in GAMES if (name, "jit") not in SHARED_OUT]


@pytest.mark.parametrize(
    ("name", "kind"), [*SHARED_OUT, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_eight_devices_train_as_one_does(name, kind):
    one, eight = _one_device(name, 4), _train(kind, 8, 4, **GAMES[name])
    assert tiny.largest_difference(one[0], eight[0]) < 5e-6
    assert tiny.largest_difference(one[1], eight[1]) < 5e-5
    norms, other = _gradient_norms(one[0]), _gradient_norms(eight[0])
    for player in ("gen", "disc"):
        assert norms[player] > 0.1
        np.testing.assert_allclose(other[player], norms[player], rtol=1e-4)
        before, after = (getattr(one[0][n], player).params for n in (0, -1))
        assert tiny.largest_difference(before, after) > 5e-2  # it did train


@pytest.mark.slow  # a hundred steps on eight fake devices, three times
@pytest.mark.parametrize("kind", ["jit", "pmap"])
@pytest.mark.parametrize(
    # As long as no unit is carried across the kink of its ReLU by rounding: then two right runs
    # part, sooner where a penalty differentiates twice.
    ("name", "num_steps"),
    [("relativistic average, alternating", 100), ("relativistic, r1_r2", 50)],
)
def test_many_steps_on_eight_devices_equal_one(name, num_steps, kind):
    one, eight = _one_device(name, num_steps), _train(kind, 8, num_steps, **GAMES[name])
    difference = tiny.largest_difference(one[0][-1], eight[0][-1])
    print(f"{name}, {kind}: parameters within {difference:.1e} after {num_steps} steps")
    assert difference < 1e-4


def _spread(state):
    """The largest difference between devices of any leaf."""
    spreads = [
        float(
            np.ptp(
                np.stack([np.asarray(s.data, np.float64) for s in leaf.addressable_shards]), 0
            ).max()
        )
        for leaf in jax.tree.leaves(state)
    ]
    return max(spreads)


def test_devices_stay_bit_equal_under_pmap():
    game = GAMES["batch norm in both, labels"]
    step, state = _train_on_devices(parallel.AXIS, game)
    assert len(state.step.addressable_shards) == 8
    assert _spread(state) == 0.0


def test_devices_that_do_not_average_drift_apart_and_this_is_seen():
    # The check of the test before finds what it is there to find.
    _, state = _train_on_devices(None, GAMES["nonsaturating"])
    assert _spread(state) > 1e-6


def _train_on_devices(axis_name, game):
    step, init = tiny.dcgan_game(axis_name, **game)
    driver, state = parallel.pmap_step(step), init()
    for number in range(3):
        state, _ = driver(KEY, state, tiny.batch(number))
    return driver, state


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_a_resident_dataset_gives_the_same_training(kind):
    axis_name = parallel.AXIS if kind == "pmap" else None
    step, init = tiny.dcgan_game(axis_name)
    driver = _driver(kind, 8, steps.map_batch(pipeline.prepare, step))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    label = np.arange(40, dtype=np.int32) % 3
    resident = parallel.replicate({"image": pixels, "label": label}, parallel.make_mesh())
    states = {}
    for mode in ("host", "resident"):
        state = init()
        for number in range(2):
            index = np.random.default_rng(number).permutation(40)[:16].astype(np.int32)
            batch = {"image": pixels[index], "label": label[index]}
            if mode == "resident":
                batch = {"index": index, parallel.RESIDENT: resident}
            state, _ = driver(KEY, state, batch)
        states[mode] = tiny.host(state)
    assert tiny.largest_difference(states["host"], states["resident"]) < 1e-6


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_the_state_is_donated(kind):
    driver = _driver(kind, 8, lambda key, state, batch: (state.replace(step=state.step + 1), {}))
    _, init = tiny.dcgan_game()
    first, _ = driver(KEY, init(), tiny.batch())
    second, _ = driver(KEY, first, tiny.batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert int(second.step) == 2


@pytest.mark.parametrize("kind", ["jit", "pmap"])
@pytest.mark.parametrize("size", [4, 12, 17])
def test_a_batch_that_does_not_divide_is_refused_before_it_is_compiled(kind, size):
    driver = _driver(kind, 8, lambda *args: pytest.fail("traced"))
    _, init = tiny.dcgan_game()
    with pytest.raises(UserError, match=f"batch_size {size} does not divide over 8 devices"):
        driver(KEY, init(), tiny.batch(size=size))


@pytest.mark.parametrize(
    ("size", "devices", "remedy"),
    [(100, 8, "try 96 or 104"), (5, 8, "try 8"), (9, 4, "try 8 or 12")],
)
def test_the_message_names_the_nearest_sizes_that_work(size, devices, remedy):
    with pytest.raises(UserError, match=f"batch_size {size} .* {devices} devices; {remedy}$"):
        parallel.check_batch_size(size, devices)


def test_the_message_names_sizes_that_work_in_micro_batches_too():
    with pytest.raises(UserError, match=r"100 .* into 3 micro-batches; try 99 or 102"):
        parallel.check_batch_size(100, 1, accumulate=3)
    over = "over 8 devices, each share into 3 micro-batches; try 96 or 120"
    with pytest.raises(UserError, match=f"batch_size 104 does not divide {over}$"):
        parallel.check_batch_size(104, 8, accumulate=3)
    parallel.check_batch_size(96, 8, accumulate=3)


def test_sizes_that_divide_are_accepted():
    for size, num in ((8, 8), (128, 8), (7, 1)):
        parallel.check_batch_size(size, num)


def test_a_mesh_has_one_axis_over_the_devices_given():
    assert parallel.make_mesh().shape == {"data": 8}
    assert parallel.make_mesh(jax.devices()[2:5]).shape == {"data": 3}


def test_batches_are_split_and_what_is_resident_is_whole():
    mesh = parallel.make_mesh()
    data = {"image": np.zeros((3, 2))}
    placed = parallel.shard_batch({"x": np.arange(16), parallel.RESIDENT: data}, mesh)
    shards = {s.device: np.asarray(s.data) for s in placed["x"].addressable_shards}
    for number, device in enumerate(jax.devices()):
        np.testing.assert_array_equal(shards[device], [2 * number, 2 * number + 1])
    assert placed[parallel.RESIDENT]["image"].sharding.is_fully_replicated
    again = parallel.shard_batch(placed, mesh)
    assert again["x"] is placed["x"]  # a batch that is in place stays there


def test_replicated_leaves_are_on_every_device():
    tree = parallel.replicate({"a": jnp.arange(3)}, parallel.make_mesh())
    assert tree["a"].sharding.is_fully_replicated and len(tree["a"].addressable_shards) == 8


def test_leaves_are_split_along_their_longest_axis_that_divides():
    mesh = parallel.make_mesh()
    shapes = {"a": (3, 16, 24), "b": (8, 2), "c": (7, 9), "d": (64,), "e": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    found = parallel.state_sharding(tree, mesh, shard_params=True, min_size=16)
    specs = {name: tuple(sharding.spec) for name, sharding in found.items()}
    assert specs == {"a": (None, None, "data"), "b": ("data",), "c": (), "d": ("data",), "e": ()}
    whole = parallel.state_sharding(tree, mesh)
    assert all(sharding.is_fully_replicated for sharding in whole.values())
    large = parallel.state_sharding(tree, mesh, shard_params=True)
    assert all(sharding.is_fully_replicated for sharding in large.values())


def test_a_split_state_trains_as_a_whole_one_and_stays_split():
    step, init = tiny.dcgan_game(None, tx=optax.sgd(RATE), **GAMES["nonsaturating"])
    mesh = parallel.make_mesh()
    shardings = parallel.state_sharding(init(), mesh, shard_params=True, min_size=32)
    driver, state = parallel.jit_step(step, mesh, shardings=shardings), init()
    for number in range(3):
        state, metrics = driver(KEY, state, tiny.batch(number))
    states, whole = _one_device("nonsaturating", 4)
    assert tiny.largest_difference(tiny.host(state), states[3]) < 5e-6
    assert tiny.largest_difference(tiny.host(metrics), whole[2]) < 5e-5
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == shardings
    shares = [leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(state)]
    assert min(shares) == 1 / 8


def test_what_is_on_the_devices_of_one_process_is_its_own_already():
    tree = {"a": parallel.replicate(jnp.arange(3), parallel.make_mesh()), "b": np.arange(2)}
    own = parallel.local_copy(tree)
    assert own["a"] is tree["a"] and own["b"] is tree["b"]


def test_fake_devices_must_be_asked_for_before_the_first_array():
    parallel.initialize()  # 0: whatever there is
    parallel.initialize(cpu_devices=8)  # these are there
    with pytest.raises(UserError, match="cpu_devices 3 asked for after JAX started 8"):
        parallel.initialize(cpu_devices=3)


def test_onednn_is_asked_for_in_bfloat16_where_xla_knows_it(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    parallel.compiler_options.cache_clear()
    assert parallel.compiler_options("float32") == {}
    options = parallel.compiler_options("bfloat16")
    assert options in ({}, {devices.ONEDNN: True})
    mesh = parallel.make_mesh(jax.devices()[:1])
    step, init = tiny.dcgan_game(None, tx=optax.sgd(RATE))
    state, _ = parallel.jit_step(step, mesh, compiler_options=options)(KEY, init(), tiny.batch(0))
    assert int(state.step) == 1


def test_what_xla_does_not_know_or_the_user_has_set_is_not_asked_for(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(devices, "ONEDNN", "xla_cpu_no_such_option")
    parallel.compiler_options.cache_clear()
    assert parallel.compiler_options("bfloat16") == {}
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", f"--{devices.ONEDNN}=false")
    parallel.compiler_options.cache_clear()
    assert parallel.compiler_options("bfloat16") == {}
    parallel.compiler_options.cache_clear()
