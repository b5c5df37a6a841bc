"""The spec of a dataset: what it says of a source, and that it survives JSON but not damage."""

import dataclasses
import json

import numpy as np
import pytest

from jaxgan.data import arrays, spec, synthetic, text, vocabulary
from jaxgan.types import UserError


def test_a_source_is_described_by_shapes_names_and_counts():
    squares = synthetic.squares(num_examples=5, image_shape=(8, 6, 1))
    named = arrays.ArraySource(
        squares.arrays, name="two", num_classes=2, class_names=("bright", "dim")
    )
    assert spec.describe(named) == spec.Spec(
        fingerprint=squares.fingerprint,
        num_examples=5,
        shapes={"image": (8, 6, 1), "label": ()},
        num_classes=2,
        class_names=("bright", "dim"),
        label_counts=(3, 2),
    )


def test_a_class_without_examples_counts_zero():
    squares = synthetic.squares(num_examples=3)
    more = arrays.ArraySource(squares.arrays, name="more", num_classes=4)
    assert spec.describe(more).label_counts == (2, 1, 0, 0)


def test_a_source_of_ones_own_needs_no_names_nor_labels():
    class Own:
        name, fingerprint = "own", "x"

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"text": np.zeros((*np.shape(index), 7), np.int32)}

    assert spec.describe(Own()) == spec.Spec("x", num_examples=3, shapes={"text": (7,)})


@pytest.mark.parametrize(
    "labels", [np.zeros((64, 2), np.int32), np.full(64, -1), np.zeros(3, int), ["a"], None]
)
def test_labels_and_names_that_do_not_fit_are_left_out(labels):
    class Own(arrays.ArraySource):
        pass

    Own.labels = labels
    own = Own(synthetic.squares().arrays, name="own", num_classes=2)
    own.class_names = ["only one"]
    found = spec.describe(own)
    assert found.label_counts == () and found.class_names == () and found.num_classes == 2


def test_a_spec_survives_json_and_can_be_hashed():
    before = spec.describe(synthetic.squares())
    after = spec.from_record(json.loads(json.dumps(spec.to_record(before))))
    assert after == before and hash(after) == hash(before)


def test_records_of_older_runs_are_read_and_unknown_entries_ignored():
    old = {"fingerprint": "ab12", "num_classes": 10}
    assert spec.from_record(old) == spec.Spec("ab12", num_classes=10)
    assert spec.from_record({**old, "later": [1]}) == spec.Spec("ab12", num_classes=10)
    assert old.items() <= spec.to_record(spec.from_record(old)).items()


def test_the_vocabulary_of_a_text_is_kept_and_read_again():
    found = spec.describe(text.load("grammar"))
    assert found.unit == "characters" and set("0123456789+-*=()") < set(found.vocabulary)
    again = spec.from_record(json.loads(json.dumps(spec.to_record(found))))
    assert again == found and hash(again) == hash(found)
    table = vocabulary.Vocabulary(again.vocabulary, again.unit)
    assert table.decode(table.encode(["1+1=2"], max_length=8)[0]) == ["1+1=2"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fingerprint": 3}, '"fingerprint" is 3'),
        ({"fingerprint": None}, '"fingerprint" is None'),
        ({"num_classes": "10"}, '"num_classes" is 10'),
        ({"num_classes": True}, '"num_classes" is True'),
        ({"num_examples": -1}, '"num_examples" is -1'),
        ({"num_examples": 1.5}, '"num_examples" is 1.5'),
        ({"shapes": [1]}, '"shapes"'),
        ({"shapes": {"image": 28}}, '"shapes"'),
        ({"shapes": {"image": [28, -1]}}, '"shapes"'),
        ({"class_names": "ab"}, '"class_names"'),
        ({"class_names": [1, 2]}, '"class_names"'),
        ({"class_names": ["a"]}, '"class_names" is a list of 1'),
        ({"label_counts": [1.0, 2.0]}, '"label_counts"'),
        ({"vocabulary": "ab"}, '"vocabulary" is ab where it must be a list of texts'),
        ({"vocabulary": ["a", 3]}, '"vocabulary"'),
        ({"vocabulary": ["a", "a"]}, "a list of different texts"),
        ({"unit": "letters"}, '"unit" is letters'),
        ({"unit": 3}, '"unit" is 3'),
        ({"label_counts": [1, 2, 3]}, '"label_counts" is a list of 3'),
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_entry(change, named):
    record = spec.to_record(spec.describe(synthetic.squares())) | change
    with pytest.raises(UserError, match="damaged") as error:
        spec.from_record(record)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_record_is_refused():
    with pytest.raises(UserError, match="damaged"):
        spec.from_record("ab12")  # type: ignore[arg-type]


def test_every_field_is_in_the_record():
    fields = {field.name for field in dataclasses.fields(spec.Spec)}
    assert set(spec.to_record(spec.Spec("x"))) == fields
