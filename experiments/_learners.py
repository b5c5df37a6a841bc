"""Classifiers of `experiments.downstream`: several seeds at once, one program for all sets."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _classifiers
from jaxgan import images
from jaxgan.augment import classical
from jaxgan.data import pipeline
from jaxgan.data.arrays import ArraySource
from jaxgan.types import Array, Key, PyTree

CHUNK = 500  # images classified at a time
NEIGHBOURS = 5
COPIES = 4  # that the nearest neighbours see of each augmented image
SEEDS = 1000  # apart are the seeds of a set's parts


class Part(NamedTuple):
    """Some examples of the pool, and their share of every batch."""

    index: np.ndarray
    share: float = 1.0


class Arm(NamedTuple):
    """What a classifier is trained on.

    Attributes:
      parts: examples of the pool; one may be in a part several times.
      augment: whether images are moved and mirrored.
      weights: [K] of the loss of each class; None for 1.
    """

    parts: Sequence[Part]
    augment: bool = False
    weights: np.ndarray | None = None


Classify = Callable[[np.ndarray], np.ndarray]  # [N, H, W, C] uint8 -> probabilities [S, N, K]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How classifiers are trained; the fields after `kind` as in `experiments.classifier`."""

    kind: str
    num_steps: int
    batch_size: int
    seeds: int
    learning_rate: float
    weight_decay: float
    smoothing: float
    max_shift: int
    flip: int
    decay: float
    width: int = 0
    seed: int = 0


class Classifiers:
    """Trains classifiers of one labelled set, and of what is added to it.

    All of them start alike, seed by seed, and see batches in an order that depends on the seed:
    they differ in nothing but their examples. Whatever the set, the compiled program is the same.
    """

    def __init__(self, recipe: Recipe):
        """Compiles nothing yet; `tick` may be set to what is called after each step.

        Args:
          recipe: of the training.
        """
        self.recipe = recipe
        self.tick: Callable[[], Any] = lambda: None
        self._kind = _classifiers.NETS[recipe.kind] if recipe.kind != "knn" else None
        self._update: Any = None
        self._state: Any = None

    def begin(self, labelled: ArraySource) -> None:
        """Makes the first variables of every seed.

        Args:
          labelled: the examples that the first layer may be made of, and their classes.
        """
        if self._kind is None:
            return
        made = []
        for seed in range(self.recipe.seed, self.recipe.seed + self.recipe.seeds):
            net, variables = self._kind.make(dataclasses.replace(self.recipe, seed=seed), labelled)
            tx = self._kind.optimizer(self.recipe, self.recipe.num_steps)
            made.append(_classifiers.init_state(variables, tx))
            if self._update is None:
                self._update = jax.jit(self._step(net, tx), donate_argnums=0)
                self._probs = jax.jit(self._probabilities(net))
        self._state = jax.tree.map(lambda *each: jnp.stack(each), *made)

    def fit(self, arm: Arm, pool: np.ndarray, label: np.ndarray, num_classes: int) -> Classify:
        """Trains a classifier for each seed.

        Args:
          arm: the examples.
          pool: images that the arm's numbers are about, [P, H, W, C] uint8; on the device for
            networks.
          label: [P] their labels.
          num_classes: number of classes K.

        Returns:
          What classifies images.
        """
        if self._kind is None:
            return self._neighbours(arm, np.asarray(pool), np.asarray(label), num_classes)
        state = jax.tree.map(jnp.copy, self._state)
        orders = np.stack([self._order(arm, seed) for seed in range(self.recipe.seeds)], 1)
        weights = np.ones(num_classes) if arm.weights is None else arm.weights
        weights, augment = jnp.asarray(weights, jnp.float32), jnp.asarray(arm.augment)
        key = jax.random.key(self.recipe.seed)
        for step, index in enumerate(orders):
            keys = jax.random.split(jax.random.fold_in(key, step), self.recipe.seeds)
            state, loss = self._update(state, keys, index, pool, label, augment, weights)
            jax.block_until_ready(loss)
            self.tick()
        params = state[2]

        def classify(images: np.ndarray) -> np.ndarray:
            parts = [self._probs(params, part) for part in _chunks(images)]
            return np.concatenate([np.asarray(part) for part in parts], 1)[:, : len(images)]

        return classify

    def _order(self, arm: Arm, seed: int) -> np.ndarray:
        """Which example of the pool stands where in each batch of a seed, [T, B] int32."""
        steps, free, columns = self.recipe.num_steps, self.recipe.batch_size, []
        for number, part in enumerate(arm.parts):
            last = number == len(arm.parts) - 1
            count = free if last else min(free, round(self.recipe.batch_size * part.share))
            free -= count
            if not count:
                continue
            own_seed = (self.recipe.seed + seed) * SEEDS + number
            place = pipeline.batch_indices(
                own_seed, 0, num_examples=len(part.index), batch_size=steps * count
            )
            columns.append(part.index[place].reshape(steps, count))
        return np.concatenate(columns, 1).astype(np.int32)

    def _step(self, net: Any, tx: Any) -> Callable[..., tuple[PyTree, Array]]:
        """One step of all seeds."""
        assert self._kind is not None
        recipe = self.recipe
        update = _classifiers.train_step(net, self._kind, tx, recipe)

        def one(
            state: PyTree,
            key: Key,
            index: Array,
            pool: Array,
            label: Array,
            augment: Array,
            w: Array,
        ) -> tuple[PyTree, Array]:
            seen = images.from_uint8(pool[index])
            seen = jnp.where(augment, _augmented(recipe, key, seen), seen)
            return update(state, seen, label[index], w[label[index]])

        return _each(one, recipe.seeds, own=3)

    def _probabilities(self, net: Any) -> Callable[[PyTree, Array], Array]:
        """[S, n, K] of every seed's moving average."""

        def one(variables: PyTree, image: Array) -> Array:
            return jax.nn.softmax(net.apply(variables, images.from_uint8(image))["logits"])

        return _each(one, self.recipe.seeds, own=1)

    def _neighbours(self, arm: Arm, pool: np.ndarray, label: np.ndarray, classes: int) -> Classify:
        """The nearest neighbours in pixels vote, those of each seed."""
        from sklearn import neighbors

        fitted = []
        for seed in range(self.recipe.seed, self.recipe.seed + self.recipe.seeds):
            index = _drawn(arm, seed)
            seen, own = pool[index], label[index]
            if arm.augment:
                keys = jax.random.split(jax.random.key(seed), COPIES)
                copies = [_augmented(self.recipe, key, jnp.asarray(seen)) for key in keys]
                seen, own = np.concatenate([seen, *copies]), np.tile(own, COPIES + 1)
            net = neighbors.KNeighborsClassifier(min(NEIGHBOURS, len(own)), algorithm="brute")
            fitted.append(net.fit(seen.reshape(len(seen), -1).astype(np.float32), own))
            self.tick()

        def classify(images: np.ndarray) -> np.ndarray:
            flat, votes = images.reshape(len(images), -1).astype(np.float32), []
            for net in fitted:
                probs = np.zeros((len(flat), classes))
                probs[:, net.classes_] = net.predict_proba(flat)
                probs = probs if arm.weights is None else probs * arm.weights
                votes.append(probs / probs.sum(1, keepdims=True))
            return np.stack(votes)

        return classify


def _each(one: Callable[..., Any], seeds: int, *, own: int) -> Callable[..., Any]:
    """A function of all seeds at once, of whose arguments the first `own` are each seed's own.

    Under vmap convolutions of several networks take more than twice the time on a CPU: there the
    seeds take turns within the program.
    """
    if jax.default_backend() != "cpu":
        return lambda *given: jax.vmap(
            one, in_axes=tuple(0 if n < own else None for n in range(len(given)))
        )(*given)

    def in_turn(*given: Any) -> Any:
        shared = given[own:]
        out = [one(*jax.tree.map(lambda x, n=n: x[n], given[:own]), *shared) for n in range(seeds)]
        return jax.tree.map(lambda *each: jnp.stack(each), *out)

    return in_turn


def _augmented(recipe: Recipe, key: Key, seen: Array) -> Array:
    """Images [B, H, W, C] moved and, where asked for, mirrored."""
    shift_key, flip_key = jax.random.split(key)
    seen = classical.shift(shift_key, seen, most=recipe.max_shift)
    return classical.mirror(flip_key, seen) if recipe.flip else seen


def _drawn(arm: Arm, seed: int) -> np.ndarray:
    """The examples of an arm for a method without batches: parts in proportion to their shares."""
    first, *others = arm.parts
    index, whole = [first.index], len(first.index) / first.share
    for number, part in enumerate(others):
        order = np.random.default_rng((seed, number)).permutation(len(part.index))
        index.append(part.index[order[: round(whole * part.share)]])
    return np.concatenate(index)


def _chunks(images: np.ndarray) -> list[np.ndarray]:
    """Images in parts of one size, the last filled up, so that there is one compilation."""
    size = CHUNK
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    missing = size - len(parts[-1])
    parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, 0)])
    return parts
