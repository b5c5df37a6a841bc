import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.data import arrays, folder, pipeline, synthetic
from jaxgan.types import UserError

SOURCE = synthetic.squares(num_examples=10)


def stream(num_steps, *, num_examples=10, batch_size=4, seed=0):
    steps = [
        pipeline.batch_indices(seed, step, num_examples=num_examples, batch_size=batch_size)
        for step in range(num_steps)
    ]
    return np.concatenate(steps)


def take(num, source=SOURCE, **options):
    iterator = pipeline.batches(source, **{"batch_size": 4, "seed": 0, **options})
    found = [next(iterator) for _ in range(num)]
    iterator.close()
    return found


def same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


# --- the order ---


@settings(max_examples=60, deadline=None)
@given(
    num_examples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    num_epochs=st.integers(1, 3),
)
def test_every_epoch_visits_every_example_once(num_examples, batch_size, seed, num_epochs):
    num_steps = -(-num_examples * num_epochs // batch_size)
    order = stream(num_steps, num_examples=num_examples, batch_size=batch_size, seed=seed)
    epochs = order[: num_examples * num_epochs].reshape(num_epochs, num_examples)
    np.testing.assert_array_equal(
        np.sort(epochs), np.tile(np.arange(num_examples), (num_epochs, 1))
    )


def test_every_epoch_has_an_order_of_its_own():
    epochs = stream(250, num_examples=100, batch_size=4).reshape(10, 100)
    assert len(np.unique(epochs, axis=0)) == 10
    assert not (epochs == np.arange(100)).all(axis=1).any()


def test_seeds_give_different_orders():
    assert (stream(25, num_examples=100) != stream(25, num_examples=100, seed=1)).any()


def test_order_is_the_one_that_runs_were_started_with():
    # If this fails, runs begun before the change cannot be resumed: do not change the order.
    expected = [4, 6, 2, 7, 3, 5, 9, 0, 8, 1, 9, 1]
    np.testing.assert_array_equal(stream(3), expected)


def test_batch_that_straddles_epochs_has_the_rest_of_one_and_the_start_of_the_next():
    order = stream(5)  # two epochs of 10
    np.testing.assert_array_equal(order[8:12][:2], pipeline.epoch_order(0, 0, 10)[8:])
    np.testing.assert_array_equal(order[8:12][2:], pipeline.epoch_order(0, 1, 10)[:2])


def test_batch_larger_than_the_data_holds_several_epochs():
    indices = pipeline.batch_indices(0, 0, num_examples=3, batch_size=8)
    np.testing.assert_array_equal(np.bincount(indices[:6]), [2, 2, 2])


# --- the modes ---


@pytest.mark.parametrize("mode", ["host", "stream"])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 10**12])
def test_resumed_batches_equal_the_straight_run(mode, start):
    # 10 examples in batches of 4: step 2 straddles an epoch, step 5 begins one.
    first = max(0, start - 3)
    same(take(6, start=first, mode=mode)[start - first :], take(6 - start + first, start=start))


def test_all_modes_give_the_same_batches():
    host = take(6, mode="host")
    same(host, take(6, mode="stream"))
    for a, b in zip(host, take(6, mode="resident"), strict=True):
        assert b["index"].dtype == np.int32 and b["data"] is SOURCE.arrays
        same([a], [pipeline.gather(b)])


@pytest.mark.parametrize("mode", ["host", "resident", "stream"])
def test_position_is_the_step_of_the_next_batch(mode):
    iterator = pipeline.batches(SOURCE, batch_size=4, seed=0, start=3, mode=mode)
    positions = [iterator.step]
    for _ in range(2):
        next(iterator)
        positions.append(iterator.step)
    iterator.close()
    assert positions == [3, 4, 5]


def test_batches_are_what_their_indices_say():
    for step, batch in enumerate(take(5)):
        indices = pipeline.batch_indices(0, step, num_examples=10, batch_size=4)
        same([batch], [SOURCE[indices]])


class Counting(arrays.ArraySource):
    """A source that writes down what is read from it."""

    def __getitem__(self, index):
        self.read = [*getattr(self, "read", []), *np.atleast_1d(index)]
        return super().__getitem__(index)


@pytest.mark.parametrize("mode", ["host", "resident"])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_every_batch_without_overlap(mode, count):
    whole = take(7, batch_size=8, mode=mode)
    parts = [
        take(7, batch_size=8, mode=mode, process_index=i, process_count=count) for i in range(count)
    ]
    key = "image" if mode == "host" else "index"
    for step, batch in enumerate(whole):
        joined = np.concatenate([part[step][key] for part in parts])
        np.testing.assert_array_equal(joined, batch[key])


def test_process_reads_only_its_share():
    source = Counting(SOURCE.arrays, name="counting", num_classes=2)
    take(5, source, batch_size=4, process_index=1, process_count=2)
    whole = stream(5).reshape(5, 4)
    np.testing.assert_array_equal(source.read, whole[:, 2:].ravel())


def test_source_without_labels_has_none():
    assert set(take(1, synthetic.squares(num_classes=0))[0]) == {"image"}


def test_mode_is_chosen_by_platform_and_size(monkeypatch, tmp_path):
    files = folder.FolderSource(tmp_path, ["a.png"], image_shape=(4, 4, 3))
    assert pipeline.choose_mode(files) == "stream"
    assert pipeline.choose_mode(SOURCE) == "host"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert pipeline.choose_mode(SOURCE) == "resident"
    monkeypatch.setattr(pipeline, "RESIDENT_BYTES", 10)
    assert pipeline.choose_mode(SOURCE) == "stream"


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch_size": 0}, "batch_size 0 must be 1 or more"),
        ({"batch_size": -4}, "batch_size -4"),
        ({"seed": -1}, "seed -1"),
        ({"start": -1}, "start -1"),
        (
            {"batch_size": 10, "process_count": 4},
            "10 does not divide over 4 processes; try 8 or 12",
        ),
        ({"batch_size": 3, "process_count": 4}, "try 4"),
        ({"process_index": 2, "process_count": 2}, "process 2 is not one of 2"),
        ({"mode": "strem"}, 'did you mean "stream"'),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(options, words):
    with pytest.raises(UserError, match=words):
        pipeline.batches(SOURCE, **{"batch_size": 4, "seed": 0, **options})


def test_mode_through_memory_needs_data_in_memory(tmp_path):
    files = folder.FolderSource(tmp_path, ["a.png"], image_shape=(4, 4, 3))
    with pytest.raises(UserError, match="needs data in memory"):
        pipeline.batches(files, batch_size=1, seed=0, mode="host")


# --- into the compiled step ---


def test_prepared_images_span_minus_one_to_one_and_labels_are_int32():
    batch = {"image": np.array([[[[0], [255]]]], np.uint8), "label": np.array([3], np.int64)}
    found = jax.jit(pipeline.prepare)(batch)
    np.testing.assert_allclose(found["image"].ravel(), [-1.0, 1.0], atol=2e-7)
    assert found["image"].dtype == jnp.float32 and found["label"].dtype == jnp.int32


def test_prepare_is_the_same_on_all_modes_and_under_jit():
    host, resident = take(3, mode="host"), take(3, mode="resident")
    for a, b in zip(host, resident, strict=True):
        expected = {"image": a["image"] / np.float32(127.5) - 1, "label": a["label"]}
        for found in (
            pipeline.prepare(a),
            jax.jit(pipeline.prepare)(a),
            jax.jit(pipeline.prepare)(b),
        ):
            assert set(found) == set(expected)
            np.testing.assert_allclose(found["image"], expected["image"], atol=1e-6)
            np.testing.assert_array_equal(found["label"], expected["label"])


def test_gather_works_on_indices_split_over_devices():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spec = jax.sharding.PartitionSpec
    batch = next(pipeline.batches(SOURCE, batch_size=8, seed=0, mode="resident"))
    split = jax.device_put(batch["index"], jax.sharding.NamedSharding(mesh, spec("data")))
    whole = jax.device_put(dict(batch["data"]), jax.sharding.NamedSharding(mesh, spec()))
    found = jax.jit(pipeline.gather)({"index": split, "data": whole})
    same([found], [SOURCE[batch["index"]]])


def test_importing_the_package_imports_none_of_the_slow_packages():
    code = (
        "import sys, jaxgan.data, jaxgan.data.pipeline, jaxgan.data.tfds, jaxgan.data.folder;"
        "print([m for m in ('grain', 'PIL', 'sklearn', 'tensorflow_datasets', 'tensorflow')"
        " if m in sys.modules])"
    )
    root = str(pathlib.Path(pipeline.__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr
