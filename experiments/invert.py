"""Finds the latents of given images, and moves them: what a trained generator makes of a photo.

    python -m experiments.invert --workdir=runs/quickstart --images=digits --out=inverted
    python -m experiments.invert --workdir=runs/faces --images=a.png,b.png --out=inverted --edit=5

Each image's search starts from the --restarts most similar of 2,048 samples, side by side, and
keeps the best after --steps of Adam; two thirds of them are taken by the best quarter alone. It
goes on in z, of StyleGAN2 in w, or with --space=w+ in a w for each layer, which comes nearer but
may leave the latents that G was trained on. Of a conditional run the starts have --label, or
without it each class at least once.

The distance is the root mean square over pixels, in levels of 255. The mean is printed beside that
of as many of the generator's own samples, which it can make for certain: what is beyond is not the
search, but what the generator cannot make. --tune=350 then teaches it these images: it is trained
for so many steps a batch to make them of the latents found, and to leave its other samples as they
were (pivotal tuning, https://arxiv.org/abs/2106.05744); edits are made by what it is then. Into a
new folder --out are written

    inversion.png          a row of images above a row of what was made of them
    reconstructions/       these, by the names of the images
    latents.npz            z or w [N, dim], w+ [N, layers, dim]; label where conditional, distance,
                           name
    inversion.json         the numbers
    parameters.npz         with --tune=N, those of the generator after it, by their names
    edits/                 with --edit=N, for each of the first eight images a row a direction

Directions of w are its principal components over samples (GANSpace), each step a standard deviation
of theirs. In z, where all directions are alike, they are those of the images made: principal
components of the samples, averaged to 16 pixels, and the latents that change with them by least
squares, in steps of length 1. --along=classes has a row a class instead: in w on the way to the
centroid of the class, in z with another label.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tqdm

from experiments import _folders, _forms, _latents, _trained
from experiments import sample as sampling
from jaxgan import images, invert, sample
from jaxgan.run import cli, load
from jaxgan.types import PyTree, UserError

EDITED = 8  # images at most
MOVED = 256  # samples by which it is told how far tuning moved others


@dataclasses.dataclass(frozen=True)
class Config(_trained.GeneratorFlags):
    """The flags of an inversion."""

    images: str = cli.field("", "Image files with commas between them, or a folder of them.")
    out: str = cli.field("", "Folder to write; a new one, or an empty one.")
    label: str = cli.field(
        "", "Label or class name of the images, of conditional runs; empty to try all."
    )
    restarts: int = cli.field(8, "Starts of each image's search.", minimum=1)
    space: str = cli.field(
        "",
        "Of StyleGAN2, what is searched: w, or w+, a w for each layer. Empty for w.",
        choices=("", "w", "w+"),
    )
    steps: int = cli.field(300, "Steps of each search.", minimum=1)
    rate: float = cli.field(
        0.1, "Size of the first steps, in standard deviations of latents.", above=0
    )
    tune: int = cli.field(
        0,
        "Steps that the generator is trained for to make these very images, for each batch of a "
        "quarter of --batch_size; 0 for none.",
        minimum=0,
    )
    tune_rate: float = cli.field(1e-3, "Its first learning rate.", above=0)
    edit: int = cli.field(0, "Directions to move latents along; 0 for none.", minimum=0)
    along: str = cli.field("pca", "What directions lead along.", choices=("pca", "classes"))
    seed: int = cli.field(0, "Seed of the samples.", minimum=0)
    batch_size: int = cli.field(256, "Latents at a time; fewer need less memory.", minimum=1)


def run(config: Config) -> dict[str, float]:
    """Inverts; returns the mean distances and their ratio, as inversion.json holds them."""
    out = _folders.new(config.out)
    trained = config.opened()
    variables, sampler = config.variables(trained), trained.experiment.sample
    if not isinstance(sampler, sample.Sampler) or len(trained.spec.shapes.get("image", ())) != 3:
        raise UserError(f"--workdir={config.workdir}: not a generator of images from latents")
    space = _latents.Space(sampler, layered=config.space == "w+")
    if config.space and not space.styled:
        raise UserError(f"--space={config.space} is of StyleGAN2; this generator has z alone")
    real = _latents.read(config.images, trained.spec.shapes["image"])
    search = _Search(config, space, variables, _label(config, trained))
    edit = _editor(config, search)
    stacked = np.stack(list(real.values()))
    found = search(stacked, "images")
    floor = search(search.own(len(real)), "floor")
    record = {
        "mean_distance": 127.5 * float(found.distance.mean()),
        "floor": 127.5 * float(floor.distance.mean()),
        "start": 127.5 * float(search.start(stacked).mean()),
        "images": len(real),
        "step": trained.step,
        "space": space.name,
    }
    if config.tune:
        record["before_tuning"] = record["mean_distance"]
        found, record["moved"] = search.tune(stacked, found)
        record["mean_distance"] = 127.5 * float(found.distance.mean())
    record["ratio"] = record["mean_distance"] / max(record["floor"], 1e-9)
    with _folders.whole(out) as folder:
        _write(folder, real, found, space)
        _forms.to_json(folder / "inversion.json", record)
        if config.tune:
            np.savez(folder / "parameters.npz", **_forms.flattened(search.variables))
        if config.edit:
            (folder / "edits").mkdir()
            for name, picture in edit(found, list(real)).items():
                images.save_png(folder / "edits" / f"{name}.png", picture)
    print(
        f"mean distance {record['mean_distance']:.2f} of {len(real)} images, "
        f"{record['floor']:.2f} of as many samples of the generator: {record['ratio']:.2f} times "
        "(root mean square over pixels, in levels of 255); before the search, of the most similar "
        f"sample, {record['start']:.2f}"
    )
    if config.tune:
        print(
            f"before tuning {record['before_tuning']:.2f}; by tuning, other samples of the "
            f"generator moved by {record['moved']:.2f}"
        )
    print(f"wrote latents {space.name} of step {trained.step} to {out}")
    return record


def _label(config: Config, trained: load.Trained) -> int | None:
    """The label asked for."""
    if not config.label:
        return None
    conditional = bool(trained.experiment.sample.label_counts)  # pyright: ignore
    return sampling.label_number(config.label, trained.spec, conditional=conditional)


def _distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The root mean square over pixels of each pair of images, [N]."""
    return np.sqrt(np.square(x - y).mean((1, 2, 3)))


class _Search:
    """What all searches of a run share: samples to start from."""

    def __init__(self, config: Config, space: _latents.Space, variables: PyTree, label: int | None):
        self.config, self.space = config, space
        self.variables = variables = jax.device_put(variables)
        sampler = space.sampler
        shape = jax.eval_shape(space.make, variables, *self._one()).shape[1:]
        classes = len(sampler.label_counts) if label is None else 0
        num = _latents.pool_size(shape, max(config.restarts, classes))
        self.label = sampler.labels(num, even=True)
        if label is not None:
            self.label = np.full(num, label, np.int32)
        self.pool_key, self.own_key = jax.random.split(jax.random.key(config.seed))
        self.pool = space.draw(variables, self.pool_key, self.label, num)
        self.made = invert.made(
            space.make, variables, self.pool, self.label, batch_size=config.batch_size
        )

    def _one(self) -> tuple[Any, Any]:
        """The shape of one latent and its label."""
        sampler = self.space.sampler
        dim = sampler.gen.features if self.space.styled else sampler.dim  # pyright: ignore
        label = jax.ShapeDtypeStruct((1,), np.int32) if sampler.label_counts else None
        return jax.ShapeDtypeStruct((1, dim), np.float32), label

    def own(self, num: int) -> np.ndarray:
        """Other samples of the generator, as a file would have them."""
        label = None if self.label is None else np.resize(self.label, num)
        latent = self.space.draw(self.variables, self.own_key, label, num)
        made = invert.made(self.space.make, self.variables, latent, label)
        return np.asarray(images.from_uint8(images.to_uint8(made)))

    def start(self, real: np.ndarray) -> np.ndarray:
        """How far images are from the most similar sample, [N]."""
        rows = invert.nearest(real, self.made, 1)[:, 0]
        return _distance(real, self.made[rows])

    def __call__(self, real: np.ndarray, name: str) -> invert.Inverted:
        """Inverts images."""
        config = self.config
        rows = invert.nearest(real, self.made, config.restarts, label=self.label)
        at_once = max(1, min(len(real), config.batch_size // rows.shape[1]))
        total = config.steps * math.ceil(len(real) / at_once)
        with tqdm.tqdm(total=total, desc=name, unit="step", leave=False, disable=None) as bar:
            return invert.invert(
                self.space.make,
                self.variables,
                real,
                self.space.spread(self.pool[rows]),
                label=None if self.label is None else self.label[rows],
                steps=config.steps,
                rate=config.rate * float(self.pool.std(0).mean()),
                bound=self.space.bound,
                batch_size=config.batch_size,
                done=bar.update,
            )

    def tune(self, real: np.ndarray, found: invert.Inverted) -> tuple[invert.Inverted, float]:
        """Tunes the generator to images; what it makes of them then, and how far samples moved."""
        config, space, untuned = self.config, self.space, self.variables
        size = max(1, config.batch_size // 4)
        steps = config.tune * math.ceil(len(real) / size)
        with tqdm.tqdm(total=steps, desc="tuning", unit="step", leave=False, disable=None) as bar:
            self.variables = invert.tuned(
                space.make,
                untuned,
                real,
                found,
                space.spread(self.pool),
                self.label,
                steps=steps,
                rate=config.tune_rate,
                batch_size=size,
                seed=config.seed,
                done=bar.update,
            )
        make = functools.partial(invert.made, space.make, batch_size=config.batch_size)
        made = make(self.variables, found.latent, found.label)
        label = None if self.label is None else self.label[:MOVED]
        others = space.draw(untuned, self.own_key, label, min(MOVED, len(self.pool)))
        before, after = (make(each, others, label) for each in (untuned, self.variables))
        moved = 127.5 * float(_distance(before, after).mean())
        return found._replace(image=made, distance=_distance(made, real)), moved


def _write(
    folder: pathlib.Path, real: dict[str, np.ndarray], found: invert.Inverted, space: _latents.Space
) -> None:
    """Writes pictures and latents."""
    images.save_png(
        folder / "inversion.png", _latents.pairs(np.stack(list(real.values())), found.image)
    )
    (folder / "reconstructions").mkdir()
    for name, image in zip(real, images.to_uint8(found.image), strict=True):
        images.save_png(folder / "reconstructions" / f"{name}.png", image)
    latent = found.latent
    if space.layered:
        latent = latent.reshape(len(latent), space.sampler.gen.num_layers, -1)  # pyright: ignore
    arrays: dict[str, Any] = {space.name: latent, "name": np.array(list(real))}
    if found.label is not None:
        arrays["label"] = found.label
    np.savez_compressed(folder / "latents.npz", distance=127.5 * found.distance, **arrays)


def _editor(
    config: Config, search: _Search
) -> Callable[[invert.Inverted, list[str]], dict[str, np.ndarray]]:
    """What makes pictures of edits, by their names; directions are found before the search."""
    if config.along == "classes":
        if search.label is None:
            raise UserError("--along=classes: the run has no labels; use --along=pca")
        return lambda found, names: {"classes": _as_classes(search, found, config.edit)}
    features = None if search.space.styled else _latents.features(search.made)
    limit = (
        search.pool.shape[1] if features is None else min(features.shape[1], search.pool.shape[1])
    )
    if config.edit > limit:
        raise UserError(f"--edit={config.edit}: there are {limit} directions")
    directions, shares = invert.components(search.pool, features, config.edit)
    if config.edit:
        print("shares of the variance: " + ", ".join(f"{share:.1%}" for share in shares))
    return lambda found, names: {
        name: _latents.edited(search.space, search.variables, found, number, directions)
        for number, name in enumerate(names[:EDITED])
    }


def _as_classes(search: _Search, found: invert.Inverted, num: int) -> np.ndarray:
    """A row a class: the first images as each would be."""
    assert found.label is not None
    space, latent, label = search.space, found.latent[:EDITED], found.label[:EDITED]
    every = space.sampler.labels(len(search.pool), even=True)
    pool = space.draw(search.variables, search.pool_key, every, len(search.pool))
    centroids = {k: pool[every == k].mean(0) for k in np.unique(every)}
    rows = []
    for k in list(centroids)[:num]:
        moved = latent
        if space.styled:
            way = np.stack([centroids[k] - centroids[own] for own in label])
            moved = latent + space.spread(way)
        labels = np.full(len(latent), k, np.int32)
        rows.append(invert.made(space.make, search.variables, moved, labels))
    return images.grid(images.to_uint8(np.concatenate(rows)), columns=len(latent))


if __name__ == "__main__":
    cli.main(Config, run)
