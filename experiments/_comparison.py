"""What `experiments.downstream` compares on one labelled subset, and how it scores it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import tqdm

from experiments import _generators, _labelled, _summary
from experiments._labelled import Data, Unit
from experiments._learners import Arm, Classifiers, Classify, Part
from jaxgan.data import arrays, digests, subsets
from jaxgan.metrics import classification, neighbours
from jaxgan.types import UserError

ARMS = {
    "a": "real",
    "b": "real, classical augmentation",
    "c": "real and generated",
    "d": "all three",
    "e": "generated alone",
    "f": "the same, augmented (CAS)",
    "oversampled": "real, oversampled",
    "oversampled_augmented": "the same, augmented",
    "weighted": "real, classes weighted",
    "smote": "real and SMOTE",
}
GENERATED = "cdef"  # the arms with generated examples
MEASURED = 2000  # generated examples whose distances are measured


def measure(
    config: Any,
    found: Data,
    unit: Unit,
    classifiers: Classifiers,
    trained: Any,
) -> dict[str, Any]:
    """Trains generators and classifiers of one labelled subset.

    Args:
      config: the flags.
      found: both splits.
      unit: the labelled subset.
      classifiers: what trains them.
      trained: a finished run whose generators are taken, or None.

    Returns:
      All scores, and which images were used: a unit of the record.
    """
    ledger, draws = digests.Ledger(found.test_numbers), []
    source = found.train if trained else _labelled.generator_source(config, found, unit)
    if set(GENERATED) & set(config.arms):  # else generators would be trained for nothing
        ledger.use("generator", digests.of_images(source.arrays["image"]))
        draws = list(_draws(config, found, unit, trained, source))
    num = config.num_generated
    ticks = num_fits(config) * (
        config.seeds if config.classifier == "knn" else classifiers.recipe.num_steps
    )
    with tqdm.tqdm(
        total=ticks, desc="classifiers", unit="step", disable=None, dynamic_ncols=True
    ) as bar:
        classifiers.tick = bar.update
        trial = Trial(config, found, unit, classifiers, ledger, num)
        scores: dict[str, Any] = {name: [one] for name, one in trial.real().items()}
        each: list[Mapping[str, Any]] = []
        for draw in draws:
            made = draw(num, bool(config.keep))
            out = trial.generated(made)
            for name, one in out.pop("scores").items():
                scores.setdefault(name, []).append(one)
            each.append({**out, "memorisation": trial.memorisation(made, source)})
    for one in each:
        tqdm.tqdm.write(_summary.memorised(one["memorisation"]))
    return {
        "row": unit.row.name,
        "labelled": unit.row.labelled,
        "examples": len(unit.labelled),
        "subset": unit.subset,
        "generators": each,
        "scores": scores,
        "images_used": ledger.record(),
    }


def _draws(
    config: Any, found: Data, unit: Unit, trained: Any, source: Any
) -> Iterator[_generators.Draw]:
    """What draws the examples of each generator of a unit."""
    if trained:
        yield from _generators.of_run(trained)
        return
    settings = generator_settings(config, found, unit)
    for number, place in enumerate(_labelled.places(unit, config)):
        seed = config.seed + 1000 * unit.subset + number
        yield _generators.train(settings, source, place, seed)


def generator_settings(config: Any, found: Data, unit: Unit) -> Any:
    """How a unit's generators are trained.

    Args:
      config: the flags.
      found: both splits.
      unit: the labelled subset.

    Returns:
      See `_generators.recipe`.
    """
    different = len(unit.fit) + (len(unit.rest) if config.generator_sees == "all" else 0)
    return _generators.recipe(config, found.train.image_shape, different)


class Trial:
    """The classifiers of one unit, and their scores."""

    def __init__(
        self,
        config: Any,
        data: Data,
        unit: Unit,
        classifiers: Classifiers,
        ledger: digests.Ledger,
        num_generated: int,
    ):
        """Begins with real examples alone.

        Args:
          config: the flags.
          data: both splits.
          unit: the labelled subset.
          classifiers: what trains them.
          ledger: where the images they see are noted.
          num_generated: places of the pool for generated examples.
        """
        self._config, self._data, self._unit, self._ledger = config, data, unit, ledger
        self._classifiers, self._classes = classifiers, data.train.num_classes
        self._extra = self._smote() if "smote" in config.rivals else (np.zeros(0, np.int32), None)
        self._num = num_generated
        shape = (num_generated, *data.train.image_shape)
        blank = _generators.Made(np.zeros(shape, np.uint8), np.zeros(num_generated, np.int32))
        self._fill(blank)
        begin = subsets.subset(data.train, unit.fit, "labelled")
        classifiers.begin(begin)

    def _fill(self, made: _generators.Made) -> None:
        """Puts generated examples into the pool: real ones, generated ones, those of SMOTE."""
        real = self._data.train.arrays
        extra_label, extra = self._extra
        image = [real["image"], made.image, *([] if extra is None else [extra])]
        self._label = np.concatenate([real["label"], made.label, extra_label])
        self._made_at = len(real["label"])
        self._pool = jnp.asarray(np.concatenate(image))
        self._labels = jnp.asarray(self._label)

    def real(self) -> dict[str, list[dict[str, Any]]]:
        """Scores what needs no generator, one report a seed."""
        whole = Part(self._unit.labelled)
        arms = {"a": Arm([whole]), "b": Arm([whole], augment=True)}
        arms = {name: arm for name, arm in arms.items() if name in self._config.arms}
        label, extra = self._label[self._unit.labelled], self._label[self._made_at + self._num :]
        at = self._made_at + self._num + np.arange(len(extra))
        for name in self._config.rivals:
            if name.startswith("oversampled"):
                part = Part(self._unit.labelled[subsets.evened(label)])
                arms[name] = Arm([part], augment=name.endswith("augmented"))
            elif name == "weighted":
                count = np.bincount(label, minlength=self._classes)
                arms[name] = Arm([whole], weights=len(label) / (self._classes * count))
            else:
                arms[name] = Arm([Part(np.concatenate([self._unit.labelled, at]))])
        return {name: self._score(arm) for name, arm in arms.items()}

    def generated(self, made: _generators.Made) -> dict[str, Any]:
        """Scores what one generator's examples do.

        Args:
          made: its examples, as many as there are places.

        Returns:
          {"scores": of c to f, "share": the share chosen for c and d, "kept": examples that
          passed the filter, "tried": accuracy of each candidate on the images of choices}.
        """
        self._fill(made)
        kept = self._confident(made)
        alone = self._made_at + kept
        found: dict[str, Any] = {"kept": len(kept), "share": {}, "tried": {}, "scores": {}}
        for name in (name for name in "cd" if name in self._config.arms):
            augment = name == "d"
            if self._config.keep:
                parts = [Part(np.concatenate([self._unit.labelled, self._fills(made, kept)]))]
                found["scores"][name] = self._score(Arm(parts, augment))
                continue
            found["share"][name], found["tried"][name] = self._chosen(alone, augment)
            parts = self._mixed(self._unit.labelled, alone, found["share"][name])
            found["scores"][name] = self._score(Arm(parts, augment))
        for name in (name for name in "ef" if name in self._config.arms):
            found["scores"][name] = self._score(Arm([Part(alone)], augment=name == "f"))
        return found

    def memorisation(self, made: _generators.Made, source: arrays.ArraySource) -> dict[str, float]:
        """Distances of generated examples to those the generator saw, and to test images."""
        _, different = np.unique(digests.of_images(source.arrays["image"]), return_index=True)
        train = _flat(source.arrays["image"][different])
        fake = _flat(made.image[:MEASURED])
        distance = neighbours.own_distance(train)
        return {
            **neighbours.memorisation(fake, train, _flat(self._data.test.arrays["image"])),
            "copies": float(neighbours.copies(fake, train, distance=distance).mean()),
        }

    def _fit(self, arm: Arm) -> Classify:
        real = np.concatenate([part.index[part.index < self._made_at] for part in arm.parts])
        self._ledger.use("classifiers", self._data.train_numbers[np.unique(real)])
        return self._classifiers.fit(arm, self._pool, self._labels, self._classes)

    def _score(self, arm: Arm) -> list[dict[str, Any]]:
        test = self._data.test.arrays
        probs = self._fit(arm)(test["image"])
        return [classification.report(one, test["label"]) for one in probs]

    def _chosen(self, alone: np.ndarray, augment: bool) -> tuple[float, dict[str, float]]:
        """The share that does best on the images of choices, and what each one does there."""
        shares = self._config.shares
        if len(shares) == 1:
            return shares[0], {}
        images = self._data.train.arrays["image"][self._unit.choice]
        label = self._data.train.arrays["label"][self._unit.choice]
        self._ledger.use("choice", self._data.train_numbers[self._unit.choice])
        scores = {}
        for share in shares:
            parts = self._mixed(self._unit.fit, alone, share)
            probs = self._fit(Arm(parts, augment))(images)
            right = np.mean(probs.argmax(2) == label)
            likely = np.log(np.maximum(probs[:, np.arange(len(label)), label], 1e-6)).mean()
            scores[share] = (float(right), float(likely))
        best = max(shares, key=lambda share: (*scores[share], -share))
        return best, {str(share): right for share, (right, _) in scores.items()}

    def _mixed(self, real: np.ndarray, alone: np.ndarray, share: float) -> Sequence[Part]:
        return [Part(real, 1 - share), Part(alone, share)]

    def _confident(self, made: _generators.Made) -> np.ndarray:
        """Generated examples whose label a classifier of real examples agrees with."""
        least = self._config.min_confidence
        if not least:
            return np.arange(self._num)
        probs = self._fit(Arm([Part(self._unit.fit)], augment=True))(made.image).mean(0)
        kept = np.flatnonzero(probs[np.arange(self._num), made.label] >= least)
        lacking = set(range(self._classes)) - set(made.label[kept].tolist())
        if lacking:
            raise UserError(
                f"--min_confidence={least} leaves no generated example of class {min(lacking)};"
                " lower it, or train the generator longer (--gen_steps)"
            )
        return kept

    def _fills(self, made: _generators.Made, kept: np.ndarray) -> np.ndarray:
        """Generated examples that make all classes as large as the largest."""
        count = np.bincount(self._label[self._unit.labelled], minlength=self._classes)
        groups = [self._made_at + kept[made.label[kept] == k] for k in range(self._classes)]
        lacking = count.max() - count
        return np.concatenate([np.resize(g, n) for g, n in zip(groups, lacking, strict=True)])

    def _smote(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and images that SMOTE makes of the labelled ones."""
        from imblearn.over_sampling import SMOTE  # pyright: ignore[reportMissingImports]

        some = self._data.train[self._unit.labelled]
        least = np.bincount(some["label"]).min()
        method: Any = SMOTE(k_neighbors=min(5, least - 1), random_state=self._unit.subset)
        flat, label = method.fit_resample(_flat(some["image"]), some["label"])
        new = flat[len(some["label"]) :].reshape(-1, *self._data.train.image_shape)
        return label[len(some["label"]) :].astype(np.int32), np.rint(new).astype(np.uint8)


def _flat(image: np.ndarray) -> np.ndarray:
    """Pixels [N, D] as float32."""
    return image.reshape(len(image), -1).astype(np.float32)


def num_fits(config: Any) -> int:
    """How many times classifiers are trained for a unit."""
    made = len(set("cd") & set(config.arms))
    chosen = 0 if config.keep or len(config.shares) == 1 else made * len(config.shares)
    filtered = 1 if config.min_confidence else 0
    each = len(set(GENERATED) & set(config.arms))
    each += chosen + filtered if each else 0
    return len(set("ab") & set(config.arms)) + len(config.rivals) + config.generators * each
