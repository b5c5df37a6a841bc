"""Random choices of examples and held-out shares, of sets in memory and of streamed ones."""

import pickle

import numpy as np
import pytest

from jaxgan.data import arrays, pipeline, spec, subsets
from jaxgan.types import UserError


class Streamed:
    """A source that is not in memory, sorted by class; example i is filled with i."""

    name, num_classes, fingerprint, image_shape = "streamed", 3, "abc", (2, 2, 1)
    class_names = ("a", "b", "c")

    def __init__(self, num):
        self.labels = np.sort(np.arange(num) % 3).astype(np.int32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        shade = np.asarray(index, np.uint8)[..., None, None, None]
        image = np.broadcast_to(shade, (*np.shape(index), 2, 2, 1))
        return {"image": image, "label": self.labels[index]}


def in_memory(num):
    found = Streamed(num)
    return arrays.ArraySource(
        found[np.arange(num)], name="kept", num_classes=3, class_names=found.class_names
    )


def content(source):
    return source[np.arange(len(source))]["image"][:, 0, 0, 0]


def test_a_choice_is_random_distinct_ascending_and_fixed_by_its_seed():
    source = Streamed(200)
    chosen = subsets.choose(source, 50)
    assert len(chosen) == 50 and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subsets.choose(source, 50))
    assert set(subsets.choose(source, 10)) < set(chosen)
    assert set(subsets.choose(source, 50, seed=1)) != set(chosen)


def test_a_choice_of_sorted_data_has_every_class():
    source = Streamed(240)
    assert (np.bincount(source[subsets.choose(source, 60)]["label"]) >= 10).all()


def test_a_choice_of_more_than_there_are_is_all_of_them():
    np.testing.assert_array_equal(subsets.choose(Streamed(5), 9), np.arange(5))
    assert len(subsets.choose(Streamed(5), 0)) == 0
    with pytest.raises(UserError, match="num -1 must be 0 or more"):
        subsets.choose(Streamed(5), -1)


@pytest.mark.parametrize("make", [Streamed, in_memory])
def test_the_held_out_share_and_the_rest_are_disjoint_and_all(make):
    source = make(250)
    rest, held_out = subsets.hold_out(source, share=0.5)
    assert (len(rest), len(held_out)) == (125, 125)
    np.testing.assert_array_equal(np.sort([*content(rest), *content(held_out)]), np.arange(250))
    again = subsets.hold_out(make(250), share=0.5)
    assert [part.fingerprint for part in again] == [rest.fingerprint, held_out.fingerprint]
    other = subsets.hold_out(source, share=0.5, seed=1)[1]
    assert len({rest.fingerprint, held_out.fingerprint, other.fingerprint, source.fingerprint}) == 4
    assert held_out.name == f"{source.name} (held-out)"


@pytest.mark.parametrize("make", [Streamed, in_memory])
def test_a_part_has_the_names_shapes_and_labels_of_the_whole(make):
    rest, _ = subsets.hold_out(make(250))
    described = spec.describe(rest)
    assert described.num_examples == 150 and described.class_names == ("a", "b", "c")
    assert described.shapes == {"image": (2, 2, 1), "label": ()}
    labels = rest[np.arange(len(rest))]["label"]
    assert described.label_counts == tuple(np.bincount(labels))
    assert rest.image_shape == (2, 2, 1) and rest[3]["label"].shape == ()


@pytest.mark.parametrize(("num", "held_out"), [(2, 1), (60, 30), (250, 100), (2000, 200)])
def test_a_small_set_gives_enough_to_measure_with_but_never_more_than_half(num, held_out):
    parts = subsets.hold_out(Streamed(num))
    assert [len(part) for part in parts] == [num - held_out, held_out]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(UserError, match="between 0 and 1"):
        subsets.hold_out(Streamed(10), share=share)


def test_one_example_cannot_be_split():
    with pytest.raises(UserError, match="streamed: 1 example is too few"):
        subsets.hold_out(Streamed(1))


def test_a_streamed_part_is_read_ahead_and_pickled_as_any_source():
    rest, _ = subsets.hold_out(Streamed(220), share=0.5)
    copy = pickle.loads(pickle.dumps(rest))  # as a worker process gets it
    assert copy.fingerprint == rest.fingerprint
    batches = pipeline.batches(rest, batch_size=4, seed=0, workers=0)
    indices = pipeline.batch_indices(0, 0, num_examples=len(rest), batch_size=4)
    np.testing.assert_array_equal(next(batches)["image"], rest[indices]["image"])
    batches.close()


def test_of_each_class_the_first_of_the_permutation_are_chosen():
    source = in_memory(30)
    chosen = subsets.of_each_class(source, 4, seed=3)
    order = np.random.default_rng(3).permutation(30)
    for label, part in enumerate(chosen):
        np.testing.assert_array_equal(part, order[source.labels[order] == label][:4])
    fewer = subsets.of_each_class(source, [2, -1, 4], seed=3)
    assert [len(part) for part in fewer] == [2, 10, 4]
    np.testing.assert_array_equal(fewer[0], chosen[0][:2])


def test_small_classes_are_repeated_until_all_are_alike():
    labels = np.array([2, 0, 0, 2, 0, 1, 0, 0])
    index = subsets.evened(labels)
    assert np.bincount(labels[index]).tolist() == [5, 5, 5]
    times = np.bincount(index, minlength=8)
    assert times.tolist() == [3, 1, 1, 2, 1, 5, 1, 1]  # every example, none much more than others


def test_classes_that_have_not_enough_are_named():
    source = in_memory(9)
    with pytest.raises(UserError, match="class a has 3 images, fewer than the 4"):
        subsets.of_each_class(source, 4, seed=0)
    image = source.arrays["image"]
    lacking = arrays.ArraySource(
        {"image": image, "label": np.zeros(9, int)}, name="set", num_classes=2
    )
    with pytest.raises(UserError, match="class 1 has no images"):
        subsets.of_each_class(lacking, -1, seed=0)
    with pytest.raises(UserError, match="has no labels"):
        subsets.of_each_class(arrays.ArraySource({"image": image}, name="set"), 1, seed=0)
