"""What a run remembers of its training data, so that it can be sampled and scored without them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgan import types
from jaxgan.data import arrays, partly, vocabulary
from jaxgan.types import UserError


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a dataset; kept in a run's `config.json` under "data".

    Attributes:
      fingerprint: digest of its content.
      num_examples: how many different examples, pictures rather than parts of them; 0 where unknown
        (older runs) or endless.
      shapes: of one example, by entry: `{"image": (28, 28, 1), "label": ()}`.
      num_classes: number of classes, 0 without labels.
      class_names: one name a class, by label; empty where there are none.
      label_counts: examples of each class; empty where unknown.
      vocabulary: what the tokens of texts stand for, by number; empty without texts, or where they
        are numbers and nothing else.
      unit: what the vocabulary holds, "words" or "characters"; empty without one.
    """

    fingerprint: str
    num_examples: int = 0
    # Left out of the hash, which a dict has none of.
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict, hash=False)
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    label_counts: tuple[int, ...] = ()
    vocabulary: tuple[str, ...] = ()
    unit: str = ""

    @property
    def disc_label(self) -> tuple[str, int]:
        """The entry of the labels that D is told, and how many: one more where some have none."""
        if partly.DISC_LABEL in self.shapes:
            return partly.DISC_LABEL, self.num_classes + 1
        return "label", self.num_classes


def describe(source: Any) -> Spec:
    """Describes a source.

    Args:
      source: any source (see `jaxgan.data`). One example is read. Its `class_names` and `labels`
        (int [N], readable without decoding the examples) are optional, and ignored where they do
        not fit its number of classes or examples; so is a `vocabulary.Vocabulary` of texts.

    Returns:
      Its spec.
    """
    example = source[np.zeros(1, np.int64)]
    shapes = {key: tuple(int(n) for n in np.shape(x)[1:]) for key, x in example.items()}
    num_classes = int(getattr(source, "num_classes", 0))
    class_names = tuple(getattr(source, "class_names", ()))
    table = getattr(source, "vocabulary", None)
    return Spec(
        fingerprint=source.fingerprint,
        num_examples=getattr(source, "distinct", len(source)),
        shapes=shapes,
        num_classes=num_classes,
        class_names=tuple(map(str, class_names)) if len(class_names) == num_classes else (),
        label_counts=_counts(getattr(source, "labels", None), len(source), num_classes),
        vocabulary=table.words if table else (),
        unit=table.unit if table else "",
    )


def _counts(labels: Any, num_examples: int, num_classes: int) -> tuple[int, ...]:
    """Examples of each class; empty where labels are something else than one class an example."""
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or not num_classes:
        return ()
    if labels.shape != (num_examples,) or labels.min() < 0 or labels.max() >= num_classes:
        return ()
    return tuple(np.bincount(labels, minlength=num_classes).tolist())


def to_record(spec: Spec) -> dict[str, Any]:
    """Makes what is written into `config.json`.

    Args:
      spec: the spec.

    Returns:
      A dict that JSON can hold.
    """
    return {
        "fingerprint": spec.fingerprint,
        "num_classes": spec.num_classes,
        "num_examples": spec.num_examples,
        "shapes": {key: list(shape) for key, shape in spec.shapes.items()},
        "class_names": list(spec.class_names),
        "label_counts": list(spec.label_counts),
        "vocabulary": list(spec.vocabulary),
        "unit": spec.unit,
    }


def from_record(record: Mapping[str, Any]) -> Spec:
    """Reads what `to_record` made, or an older run wrote, checking every entry.

    Args:
      record: at least {"fingerprint"}; what is missing is unknown, what is not known is ignored.

    Returns:
      The spec.

    Raises:
      UserError: an entry of another kind than it must be; the message names it.
    """
    if not isinstance(record, Mapping):
        raise _malformed("it", record, "a dict")
    fingerprint = record.get("fingerprint")
    if not isinstance(fingerprint, str):
        raise _malformed('"fingerprint"', fingerprint, "text")
    num_classes = _number(record, "num_classes")
    if num_classes > arrays.MAX_CLASSES:
        raise _malformed('"num_classes"', num_classes, f"at most {arrays.MAX_CLASSES}")
    return Spec(
        fingerprint=fingerprint,
        num_examples=_number(record, "num_examples"),
        shapes=_shapes(record.get("shapes", {})),
        num_classes=num_classes,
        class_names=_one_a_class(record, "class_names", num_classes, str),
        label_counts=_one_a_class(record, "label_counts", num_classes, int),
        vocabulary=_vocabulary(record.get("vocabulary", ())),
        unit=_unit(record.get("unit", "")),
    )


def _number(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name, 0)
    if not _is_count(value):
        raise _malformed(f'"{name}"', value, "an integer, 0 or more")
    return value


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    fine = isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(shape, list | tuple) and all(map(_is_count, shape))
        for key, shape in value.items()
    )
    if not fine:
        raise _malformed('"shapes"', value, "a list of integers for each entry")
    return {key: tuple(shape) for key, shape in value.items()}


def _one_a_class(record: Mapping[str, Any], name: str, num_classes: int, kind: type) -> tuple:
    value = record.get(name, ())
    check = _is_count if kind is int else lambda x: isinstance(x, str)
    if not isinstance(value, list | tuple) or not all(map(check, value)):
        what = "integers, 0 or more" if kind is int else "texts"
        raise _malformed(f'"{name}"', value, f"a list of {what}")
    if len(value) not in (0, num_classes):
        raise _malformed(f'"{name}"', f"a list of {len(value)}", f"empty or of {num_classes}")
    return tuple(value)


def _vocabulary(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
        raise _malformed('"vocabulary"', value, "a list of texts")
    if len(set(value)) != len(value):
        raise _malformed('"vocabulary"', value, "a list of different texts")
    return tuple(value)


def _unit(value: Any) -> str:
    if not isinstance(value, str) or value not in ("", *vocabulary.UNITS):
        raise _malformed('"unit"', value, f"empty or one of {', '.join(vocabulary.UNITS)}")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _malformed(what: str, value: Any, need: str) -> UserError:
    received = types.one_line(value, limit=80)
    return UserError(
        f"config.json: the record of the training data is damaged: {what} is {received} where it"
        f" must be {need}; restore the file from a copy"
    )
