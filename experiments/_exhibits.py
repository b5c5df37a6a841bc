"""What `experiments.report` shows of a run's checkpoint: made by its generator, when asked."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import evaluate
from experiments import sample as sampling
from jaxgan import images, sample, types
from jaxgan.data import subsets
from jaxgan.metrics import neighbours
from jaxgan.run import checkpoint, driver, launch, load
from jaxgan.types import UserError

SAMPLES, NEAREST, ROWS = 10, 3, 8  # samples with neighbours, of each; rows of translations
MOST_TRAINING = 20_000  # examples that neighbours are looked for among
WRITTEN = 200  # sentences of which copies are counted


class Neighbours(NamedTuple):
    """Samples beside the training examples nearest to them.

    Attributes:
      samples: [N, H, W, C] uint8, or N lines.
      nearest: [N, K, H, W, C] uint8, or K lines each.
      distance: [N, K]: root mean square difference of pixels in [0, 255], or words that differ.
      text: what was compared, and what was found, in a sentence.
    """

    samples: Any
    nearest: Any
    distance: np.ndarray
    text: str


@dataclasses.dataclass(frozen=True)
class Exhibits:
    """What was made of a checkpoint.

    Attributes:
      step: of the checkpoint; -1 without one.
      parameters: of the generator.
      interpolations: a picture [h, w, C] uint8 whose rows lead from one sample to another.
      pairs: rows of images [H, W, C] uint8 by name; the first is before, the second after.
      near: of generators of latents and of text.
      notes: what is missing, and why.
    """

    step: int = -1
    parameters: int = 0
    interpolations: np.ndarray | None = None
    pairs: tuple[Mapping[str, np.ndarray], ...] = ()
    near: Neighbours | None = None
    notes: tuple[str, ...] = ()


def newest(path: pathlib.Path) -> int:
    """Names the newest checkpoint of a run.

    Args:
      path: the run directory.

    Returns:
      Its step; -1 where there is none.
    """
    return max(checkpoint.sampled_steps(path / "checkpoints"), default=-1)


def gather(path: pathlib.Path, *, module: str, data_dir: str, which: str) -> Exhibits:
    """Makes what there is to show of a run's checkpoint.

    Args:
      path: the run directory.
      module: of its experiment, where that is not a bundled one.
      data_dir: where its data lie; empty for where the run had them.
      which: "newest", "best", or a step.

    Returns:
      The exhibits; what cannot be made is a note.

    Raises:
      UserError: a checkpoint was asked for that is not there.
    """
    if newest(path) < 0:
        return Exhibits(notes=("There is no checkpoint yet: nothing more is made of this run.",))
    try:
        trained = load.load(path, which=which, module=module)
    except UserError as error:
        if which != "newest":
            raise
        return Exhibits(notes=(f"The checkpoint is not loaded: {error}.",))
    notes: list[str] = []
    made: dict[str, Any] = {}
    parts: dict[str, tuple[str, Callable[[], Any]]] = {
        "interpolations": ("interpolations", lambda: _interpolations(trained)),
        "pairs": ("pictures before and after", lambda: _pairs(trained)),
        "near": ("nearest training examples", lambda: _near(trained, data_dir)),
    }
    for name, (what, make) in parts.items():
        made[name] = _or_note(notes, what, make)
    return Exhibits(
        step=trained.step,
        parameters=launch.count(trained.members()[0].get("params", trained.members()[0])),
        notes=tuple(notes),
        **{name: value for name, value in made.items() if value is not None},
    )


def _or_note(notes: list[str], name: str, make: Callable[[], Any]) -> Any:
    """What a function makes; None and a note where the data or the generator do not let it."""
    try:
        return make()
    except (UserError, OSError) as error:
        notes.append(f"No {name}: {types.one_line(error)}.")
        return None


def _interpolations(trained: load.Trained) -> np.ndarray | None:
    """Rows that lead from one sample to another, of generators of images from latents."""
    sampler = trained.experiment.sample
    shape = trained.spec.shapes.get(getattr(sampler, "entry", ""), ())
    if not isinstance(sampler, sample.Sampler) or len(shape) != 3:
        return None
    num = 64 if max(shape[:2]) <= 64 else 25
    config = sampling.Config(num=num, interpolate=True)
    variables, key = trained.members()[0], jax.random.key(0)
    made = sampling.chosen(config, trained.spec, sampler, variables, key)[sampler.entry]
    return images.grid(images.to_uint8(made))


def _pairs(trained: load.Trained) -> tuple[Mapping[str, np.ndarray], ...] | None:
    """What a generator of images from images makes of some, beside them."""
    if trained.experiment.translator is None:
        return None
    entries = trained.sample(jax.random.key(0), ROWS)
    chains = [("source", "image", "truth"), ("a", "ab", "aba"), ("b", "ba", "bab")]
    found = []
    for chain in chains:
        names = [name for name in chain if name in entries]
        if len(names) < 2:
            continue
        for row in range(len(entries[names[1]])):
            size = max((np.shape(entries[name][row]) for name in names), key=lambda s: s[:2])
            size = (*size[:2], np.shape(entries[names[1]][row])[-1])
            found.append({NAMES[name]: images.alike(entries[name][row], size) for name in names})
    return tuple(found)


NAMES = {
    "source": "input",
    "image": "output",
    "truth": "truth",
    "a": "A",
    "ab": "A to B",
    "aba": "and back to A",
    "b": "B",
    "ba": "B to A",
    "bab": "and back to B",
}


def _near(trained: load.Trained, data_dir: str) -> Neighbours | None:
    """Samples beside the training examples nearest to them; None where that says nothing."""
    sampler, shapes = trained.experiment.sample, trained.spec.shapes
    written = "text" in shapes and "source" not in shapes
    drawn = isinstance(sampler, sample.Sampler) and len(shapes.get(sampler.entry, ())) == 3
    if not written and not drawn:
        return None
    source = _training(trained, data_dir)
    if source is None:
        return None
    chosen = subsets.choose(source, MOST_TRAINING)
    train = source[chosen]
    among = f"{len(chosen):,} of the {len(source):,} training examples"
    if len(chosen) == len(source):
        among = f"all {len(source):,} training examples"
    if written:
        return _near_sentences(trained, train, among)
    entry = sampler.entry  # pyright: ignore[reportAttributeAccessIssue]
    fake = images.to_uint8(trained.sample(jax.random.key(1), SAMPLES)[entry])
    real = np.asarray(train[entry])
    real = real if real.dtype == np.uint8 else images.to_uint8(real)
    index, distance = neighbours.closest(_flat(fake), _flat(real), k=NEAREST)
    distance = 255 * distance / np.sqrt(fake[0].size)
    text = f"By the root mean square difference of pixels (0 to 255), among {among}."
    return Neighbours(fake, real[index], distance, text)


def _flat(image: np.ndarray) -> np.ndarray:
    return image.reshape(len(image), -1).astype(np.float32) / 255


def _near_sentences(
    trained: load.Trained, train: Mapping[str, np.ndarray], among: str
) -> Neighbours:
    """The same of sentences, by the words that differ at their places."""
    made = trained.sample(jax.random.key(1), WRITTEN)
    fake, real = (np.asarray(each["text"]) for each in (made, train))
    known = {row.tobytes() for row in real.astype(np.int32)}
    copied = np.mean([row.tobytes() in known for row in fake.astype(np.int32)])
    differ = np.stack([(real != row).sum(1) for row in fake[:SAMPLES]])
    index = np.argsort(differ, axis=1, kind="stable")[:, :NEAREST]

    def lines(entries: Mapping[str, np.ndarray]) -> Any:
        return trained.experiment.show(entries)

    rows = [lines({name: np.asarray(x)[each] for name, x in train.items()}) for each in index]
    first = lines({name: x[:SAMPLES] for name, x in made.items()})
    unit = trained.spec.unit or "words"
    text = (
        f"By the {unit} that differ at their places, among {among}. Of {len(fake)} samples "
        f"{copied:.0%} are among these word for word."
    )
    return Neighbours(first, rows, np.take_along_axis(differ, index, 1), text)


def _training(trained: load.Trained, data_dir: str) -> Any:
    """The training data of a run; None where its step makes its own."""
    config: Any = trained.config
    if not hasattr(config, "dataset"):
        return None
    if data_dir:
        config = dataclasses.replace(config, data_dir=data_dir)
    elif "text" not in trained.spec.shapes:
        evaluate.recorded_place(config)  # a record is data: nothing is prepared where it says
    owner = sys.modules[type(config).__module__]
    source = getattr(owner, "source", driver.load_source)(config)
    if source.fingerprint != trained.spec.fingerprint:
        raise UserError(
            f"the data are not those of the run (fingerprint {source.fingerprint}, then "
            f"{trained.spec.fingerprint}); name their place: --data_dir=DIR"
        )
    return source
