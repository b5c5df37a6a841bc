"""Inversion: the latents of given images, and directions in which latents change what is made.

See "Generative Visual Manipulation on the Natural Image Manifold" by Zhu et al.
(https://arxiv.org/abs/1609.03552), section 4.1, for inversion by optimisation, "Pivotal Tuning for
Latent-based Editing of Real Images" by Roich et al. (https://arxiv.org/abs/2106.05744) for what the
generator itself learns of images that it cannot make, and "GANSpace: Discovering Interpretable GAN
Controls" by Harkonen et al. (https://arxiv.org/abs/2004.02546).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.types import Array, PyTree

# variables, latents [B, D], labels [B] or None -> images [B, H, W, C] in [-1, 1]
Make = Callable[[PyTree, Array, Array | None], Array]
FINAL = 0.05  # of the rate, which falls as a cosine
ADAM = optax.adam(1.0, b1=0.9, b2=0.99)
FIRST, KEPT = 3, 4  # a third of the steps is taken by all starts, the rest by a quarter of them


class Inverted(NamedTuple):
    """Latents that make images.

    Attributes:
      latent: [N, D], of each image's best start.
      label: [N] int32 that go with them, or None.
      image: [N, H, W, C] what they make.
      distance: [N] root mean square over pixels, of images in [-1, 1].
    """

    latent: np.ndarray
    label: np.ndarray | None
    image: np.ndarray
    distance: np.ndarray


def nearest(
    images: np.ndarray, pool: np.ndarray, num: int, *, label: np.ndarray | None = None
) -> np.ndarray:
    """Finds the most similar of many samples, of each class as many: where to start from.

    Args:
      images: [N, H, W, C].
      pool: [M, H, W, C].
      num: how many of them, at most M; with labels at least one a class.
      label: [M], classes of the pool.

    Returns:
      [N, R] numbers of samples, R the multiple of the number of classes from `num` on.
    """
    x, y = (each.reshape(len(each), -1).astype(np.float32) for each in (images, pool))
    squares = np.square(y).sum(1)[None] - 2 * x @ y.T  # [N, M], but for what x alone decides
    if label is None:
        return np.argsort(squares, axis=1)[:, :num]
    classes = np.unique(label)
    each = math.ceil(num / len(classes))
    of_class = [np.flatnonzero(label == k) for k in classes]
    parts = [rows[np.argsort(squares[:, rows], axis=1)[:, :each]] for rows in of_class]
    return np.concatenate(parts, axis=1)


def invert(
    make: Make,
    variables: PyTree,
    images: np.ndarray,
    start: np.ndarray,
    *,
    label: np.ndarray | None = None,
    steps: int = 300,
    rate: float = 0.1,
    bound: float = math.inf,
    batch_size: int = 256,
    done: Callable[[int], object] = lambda steps: None,
) -> Inverted:
    """Searches latents that make given images, from several starts each, and keeps the best.

    After a third of the steps a quarter of the starts goes on, those that have come nearest.

    All starts descend side by side, as rows of one batch: an example's image depends on its own
    latent alone, so that the gradient of the sum of distances is that of each.

    Args:
      make: makes images of latents.
      variables: of the generator.
      images: [N, H, W, C] in [-1, 1].
      start: [N, R, D] latents.
      label: [N, R] int32 that go with them, or None.
      steps: of Adam.
      rate: its step size.
      bound: components of latents stay within it.
      batch_size: latents at a time; fewer need less memory.
      done: told of the steps that a batch has taken, after each.

    Returns:
      The best of each image's starts.
    """
    num, restarts = start.shape[:2]
    at_once = max(1, min(num, batch_size // restarts))
    parts, labels = [], []
    for begin in range(0, num, at_once):
        first = min(begin, num - at_once)  # the last ones reach back: one shape
        rows = slice(first, first + at_once)
        search = _begun(images[rows], start[rows], None if label is None else label[rows])
        for step in range(steps):
            if step == steps // FIRST:
                search = _narrowed(search, at_once, -(-restarts // KEPT))
            share = (1 + math.cos(math.pi * step / steps)) / 2
            now = rate * (FINAL + (1 - FINAL) * share)
            search = _step(make, variables, search, now, bound)
            done(1)
        search = _narrowed(search, at_once, 1)
        new = slice(begin - first, None)
        parts.append([np.asarray(search[name])[new] for name in ("best", "least")])
        if label is not None:
            labels.append(np.asarray(search["label"])[new])
    latent, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    chosen = None if label is None else np.concatenate(labels)
    image = made(make, variables, latent, chosen, batch_size=batch_size)
    return Inverted(latent, chosen, image, distance)


def made(
    make: Make,
    variables: PyTree,
    latent: np.ndarray,
    label: np.ndarray | None,
    *,
    batch_size: int = 256,
) -> np.ndarray:
    """Makes images, some at a time.

    Args:
      make: makes images of latents.
      variables: of the generator.
      latent: [N, D].
      label: [N] int32, or None.
      batch_size: latents at a time.

    Returns:
      [N, H, W, C] float32.
    """
    num, parts = len(latent), []
    size = min(num, batch_size)
    for begin in range(0, num, size):
        first = min(begin, num - size)
        labels = None if label is None else label[first : first + size]
        images = _make(make, variables, latent[first : first + size], labels)
        parts.append(np.asarray(images, np.float32)[begin - first :])
    return np.concatenate(parts)


def tuned(
    make: Make,
    variables: PyTree,
    images: np.ndarray,
    found: Inverted,
    drawn: np.ndarray,
    label: np.ndarray | None = None,
    *,
    steps: int = 350,
    rate: float = 1e-3,
    weight: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    done: Callable[[int], object] = lambda steps: None,
) -> PyTree:
    """Trains the generator to make given images of the latents found for them: pivotal tuning.

    At each step it also keeps what it made before of some drawn latents (equation 4 of the paper,
    by pixels alone, and at the drawn latents instead of at a fixed length towards them), so that
    its other samples stay what they were.

    Args:
      make: makes images of latents.
      variables: of the generator; "params" of them are trained.
      images: [N, H, W, C] in [-1, 1].
      found: what `invert` found for them.
      drawn: [M, D] latents of samples.
      label: [M] int32 that go with these, or None.
      steps: of Adam.
      rate: its first step size, which falls to a twentieth.
      weight: of keeping what was made.
      batch_size: images at a time, and as many drawn latents.
      seed: of what is drawn.
      done: told of the steps taken, after each.

    Returns:
      The variables after training.
    """
    random, size = np.random.default_rng(seed), min(len(images), batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps, FINAL))
    params = variables["params"]
    memory = tx.init(params)
    for step in range(steps):
        rows = np.arange(step * size, (step + 1) * size) % len(images)
        others = random.integers(len(drawn), size=size)
        latent = np.concatenate([found.latent[rows], drawn[others]])
        both = None
        if found.label is not None and label is not None:
            both = np.concatenate([found.label[rows], label[others]])
        params, memory = _tune(
            make, tx, variables, params, memory, images[rows], latent, both, weight
        )
        done(1)
    return {**variables, "params": params}


def components(
    latent: np.ndarray, features: np.ndarray | None, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds directions in which samples differ most, by principal components.

    Where latents are themselves what differs, as w does, these are their components, each as long
    as one standard deviation. Elsewhere the components are those of features, and a direction the
    one in which, by least squares, latents change with a component (GANSpace, equation 3), of
    length 1.

    Args:
      latent: [M, D].
      features: [M, F] of what they make; None for the latents' own components.
      num: directions, at most D and F.

    Returns:
      [num, D] directions, the one of most variance first, and [num] shares of the variance.
    """
    x = latent if features is None else features
    centred = (x - x.mean(0)).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    order = np.argsort(values)[::-1][:num]
    shares = values[order] / values.sum()
    if features is None:
        return (vectors[:, order] * np.sqrt(np.maximum(values[order], 0))).T, shares
    # Components are uncorrelated: least squares is one product.
    slopes = (centred @ vectors[:, order]).T @ (latent - latent.mean(0))
    return slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-12), shares


def _begun(images: np.ndarray, start: np.ndarray, label: np.ndarray | None) -> dict[str, Any]:
    """A search before its first step; every entry has a row for each start of each image."""
    latent = jnp.asarray(start.reshape(-1, start.shape[-1]))
    return {
        "target": jnp.repeat(jnp.asarray(images), start.shape[1], axis=0),
        "label": None if label is None else jnp.asarray(label.reshape(-1)),
        "latent": latent,
        "memory": ADAM.init(latent),
        "best": latent,
        "least": jnp.full(len(latent), jnp.inf),
    }


def _narrowed(search: dict[str, Any], num: int, kept: int) -> dict[str, Any]:
    """Leaves so many starts of each image, the best so far."""
    least = np.asarray(search["least"]).reshape(num, -1)
    rows = np.argsort(least, axis=1)[:, :kept] + np.arange(num)[:, None] * least.shape[1]
    # Adam's count of steps has no rows.
    return jax.tree.map(lambda x: x[rows.reshape(-1)] if x.ndim else x, search)


@functools.partial(jax.jit, static_argnums=0)
def _step(
    make: Make, variables: PyTree, search: dict[str, Any], rate: Array, bound: Array
) -> dict[str, Any]:
    """One step of Adam in each row."""

    def distances(latent: Array) -> tuple[Array, Array]:
        error = jnp.square(make(variables, latent, search["label"]) - search["target"])
        squares = error.mean(tuple(range(1, error.ndim)))
        return squares.sum(), jnp.sqrt(squares)

    latent = search["latent"]
    gradient, distance = jax.grad(distances, has_aux=True)(latent)
    found: Any = ADAM.update(gradient, search["memory"])
    update, memory = found
    nearer = distance < search["least"]
    return {
        **search,
        "latent": jnp.clip(latent + rate * update, -bound, bound),
        "memory": memory,
        "best": jnp.where(nearer[:, None], latent, search["best"]),
        "least": jnp.where(nearer, distance, search["least"]),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tune(
    make: Make,
    tx: optax.GradientTransformation,
    variables: PyTree,
    params: PyTree,
    memory: PyTree,
    images: Array,
    latent: Array,
    label: Array | None,
    weight: Array,
) -> tuple[PyTree, PyTree]:
    """One step of tuning; the first latents are those of the images, the others drawn."""
    kept = make(variables, latent, label)[len(images) :]

    def loss(params: PyTree) -> Array:
        new = make({**variables, "params": params}, latent, label)
        near = jnp.square(new[: len(images)] - images).mean()
        return near + weight * jnp.square(new[len(images) :] - kept).mean()

    update, memory = tx.update(jax.grad(loss)(params), memory, params)
    return optax.apply_updates(params, update), memory


@functools.partial(jax.jit, static_argnums=0)
def _make(make: Make, variables: PyTree, latent: Array, label: Array | None) -> Array:
    return make(variables, latent, label)
