"""How well `experiments.translate` translates: to the look asked for, and keeping the content."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from scipy import ndimage

from experiments import _looks
from jaxgan import images, parallel
from jaxgan.metrics import features, frechet, restoration, retrieval, unlabelled, weights
from jaxgan.metrics import reference as references
from jaxgan.run.experiment import Score
from jaxgan.translate import Translator
from jaxgan.types import Key, PyTree

Entries = dict[str, np.ndarray]
BATCH = 16
AUTOENCODER_STEPS = 400


@dataclasses.dataclass(frozen=True)
class Translated:
    """What generators make of held-out images: "a", "b", and by direction "ab", "ba"; and back.

    Attributes:
      translators: by direction.
      looks: opens the images.
    """

    translators: Mapping[str, Translator]
    looks: Callable[[], _looks.Looks]

    def __call__(self, variables: PyTree, key: Key, num: int) -> Entries:
        """Translates images.

        Args:
          variables: of the generators.
          key: unused: the same images are taken each time.
          num: images of each look at most.

        Returns:
          uint8 [N, H, W, 3] each: "a" and "b", by direction what is made of them ("ab"), and where
          both directions are there what is made of that ("aba"). Of parts of a single picture also
          that picture and what is made of it, "whole_a", "whole_ab", ..., [1, H, W, 3].
        """
        del key
        looks = self.looks()
        found = {
            "a": _looks.some(looks.test_a, num),
            "b": _looks.some(looks.test_b, num),
        }
        if looks.whole:
            pairs = zip("ab", looks.whole, strict=True)
            found |= {f"whole_{name}": picture[None] for name, picture in pairs}
        for direction in self.translators:
            for prefix in _prefixes(looks):
                image = found[prefix + direction[0]]
                found[prefix + direction] = self._applied(variables, direction, image)
        for direction in self.translators:
            back = direction[::-1]
            if back in self.translators:
                found[direction + back[-1]] = self._applied(variables, back, found[direction])
        return found

    def _applied(self, variables: PyTree, direction: str, image: np.ndarray) -> np.ndarray:
        made = functools.partial(_made, self.translators[direction].gen)
        size, parts = min(BATCH, len(image)), []
        for start in range(0, len(image), size):
            first = min(start, len(image) - size)  # the last batch reaches back: one shape
            batch = images.from_uint8(image[first : first + size])
            parts.append(images.to_uint8(made(variables, batch))[start - first :])
        return np.concatenate(parts)


def _prefixes(looks: _looks.Looks) -> tuple[str, ...]:
    """Of the entries that are translated: images, and the picture they are parts of."""
    return ("", "whole_") if looks.whole else ("",)


@functools.partial(jax.jit, static_argnums=0)
def _made(gen: Any, variables: PyTree, image: jax.Array) -> jax.Array:
    return gen.apply(variables, image, train=False)


def show(entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lays out an image, its translation, and what is made of that, row by row.

    Args:
      entries: of `Translated`, or of training examples "a" and "b".

    Returns:
      [h, w, 3] uint8.
    """
    chains = [names for names in (("a", "ab", "aba"), ("b", "ba", "bab")) if names[1] in entries]
    each = np.concatenate(
        [
            np.stack([entries[name] for name in names if name in entries], axis=1)
            for names in chains or [("a", "b")]
        ]
    )  # [N, columns, H, W, 3]
    across = max(1, round((len(each) / each.shape[1]) ** 0.5))
    return images.grid(each.reshape(-1, *each.shape[2:]), columns=each.shape[1] * across)


def score(
    config: Any, translators: Mapping[str, Translator], looks: Callable[[], _looks.Looks]
) -> Score:
    """Makes the measure of a run; see `measure`.

    Args:
      config: the flags of the run.
      translators: by direction.
      looks: opens the images.

    Returns:
      The measure; the best has the smallest Frechet distance, the mean of the directions.
    """
    draw = Translated(translators, looks)
    return Score(
        protocol=f"{config.method} on held-out images",
        num=config.eval_images,
        measure=lambda entries: measure(entries, looks(), config.classifier_weights),
        floor={},
        best="frechet",
        draw=draw,
    )


@functools.lru_cache(maxsize=2)
def _codes(source: Any) -> tuple[Any, np.ndarray]:
    """The autoencoder of a look's training images: its feature function, and their features."""
    train = _looks.some(source, 2000)
    options = {"cache": references.CACHE, "num_steps": AUTOENCODER_STEPS}
    params = references.open_autoencoder(train, dataset=source.name, **options)
    feature_fn = unlabelled.encoder_features(params, image_shape=train.shape[1:])
    return feature_fn, _features(feature_fn, train)


def _features(feature_fn: Any, image: np.ndarray) -> np.ndarray:
    return features.extract(feature_fn, image, place=parallel.spread())["features"]


def measure(
    entries: Mapping[str, np.ndarray], looks: _looks.Looks, classifier_weights: str = ""
) -> dict[str, float]:
    """Measures translations of held-out images.

    Args:
      entries: of `Translated`.
      looks: the images of both looks.
      classifier_weights: of digits, file of the classifier that tells what is kept; or "".

    Returns:
      Of each direction, "ab" and "ba": "frechet", of autoencoder features to the training images of
      the look asked for, beside that of the inputs themselves ("input_frechet") and of held-out
      images of that look ("floor_frechet"). Without pairs "texture", the texture distance to
      held-out images of the look asked for, beside that of the inputs ("input_texture"), and
      "edges", the correlation of their steepness with the inputs'; of parts of a single picture
      all three of that too ("whole_texture"). With hidden pairs "top1" and "top5", the share of
      translations whose own target is among the nearest, by features and on "small" pixels, beside
      those of the inputs; "ssim" to the target and "difference", the mean over pixels of 0..255,
      beside those of the inputs, and of inputs blurred by a pixel ("blurred_ssim"): both reward it.
      "cycle" is the mean difference there and back. "frechet" alone is the mean over directions.
      Of digits and a classifier "kept", the share that it knows as the digit they were, and
      "floor_kept", of held-out digits of the look asked for.
    """
    found: dict[str, float] = {}
    for direction in ("ab", "ba"):
        if direction not in entries:
            continue
        start, end = direction
        feature_fn, train = _codes(getattr(looks, end))
        codes = {n: _features(feature_fn, entries[n]) for n in (direction, start, end)}
        for prefix, name in (("", direction), ("input_", start), ("floor_", end)):
            distance = frechet.frechet_distance(train, codes[name])
            found[f"{direction}_{prefix}frechet"] = float(distance)
        if looks.paired:
            target = entries[end]
            for prefix, name in (("", direction), ("input_", start)):
                near = retrieval.accuracy(codes[name], codes[end])
                small = retrieval.accuracy(*map(retrieval.thumbnails, (entries[name], target)))
                found |= {f"{direction}_{prefix}{k}": v for k, v in near.items()}
                found |= {f"{direction}_{prefix}small_{k}": v for k, v in small.items()}
                found |= _alike(f"{direction}_{prefix}", entries[name], target)
            blurred = ndimage.gaussian_filter(entries[start], (0, 1, 1, 0))
            found |= _alike(f"{direction}_blurred_", blurred, target)
        else:
            for prefix in _prefixes(looks):
                asked, given, made = (entries[prefix + n] for n in (end, start, direction))
                name = f"{direction}_{prefix}"
                found[f"{name}texture"] = _texture(asked, made)
                found[f"{name}input_texture"] = _texture(asked, given)
                pairs = list(zip(made, given, strict=True))
                found[f"{name}edges"] = _mean(restoration.edge_correlation, pairs)
        if looks.digits and classifier_weights:
            for prefix, name in (("", direction), ("floor_", end)):
                shown = _looks.as_digits(entries[name], end)
                found[f"{direction}_{prefix}kept"] = _kept(shown, looks, classifier_weights)
        if direction + start in entries:
            pairs = list(zip(entries[direction + start], entries[start], strict=True))
            found[f"{direction}_cycle"] = _mean(_difference, pairs)
    own = [value for name, value in found.items() if name in ("ab_frechet", "ba_frechet")]
    return {"frechet": float(np.mean(own)), **found}


def _alike(prefix: str, made: np.ndarray, target: np.ndarray) -> dict[str, float]:
    pairs = list(zip(made, target, strict=True))
    return {
        f"{prefix}ssim": _mean(restoration.ssim, pairs),
        f"{prefix}difference": _mean(_difference, pairs),
    }


def _kept(digits: np.ndarray, looks: _looks.Looks, classifier_weights: str) -> float:
    """The share of digits [N, H, W, 1] that a classifier knows as what they are."""
    params, _ = weights.load(classifier_weights)
    found = features.extract(features.classifier_features(params), digits, place=parallel.spread())
    return float(np.mean(found["probs"].argmax(-1) == _looks.labels(looks.test_a, len(digits))))


def _mean(metric: Callable[[np.ndarray, np.ndarray], float], pairs: list) -> float:
    return float(np.mean([metric(x, y) for x, y in pairs]))


def _texture(asked: np.ndarray, made: np.ndarray) -> float:
    return restoration.texture_distance(jax.random.key(0), list(asked), list(made))["mean"]


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(x.astype(np.float64) - y.astype(np.float64)).mean())
