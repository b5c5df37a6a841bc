"""Gives a network the weights that a published one had, and compares what both made of them."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nets import references

RTOL = 1e-4


def expected(name, case):
    """What the published network made."""
    return json.loads((references.FOLDER / f"{name}.json").read_text())[case]


def weights(player, tree, published, make):
    """A tree of parameters with the weights that the published network had.

    Args:
      player: "gen" or "disc".
      tree: shapes of the parameters.
      published: path of a parameter -> (its published name, how its axes are turned there).
      make: published name and shape -> array.
    """

    def of(path, leaf):
        name, turn = published(player, _name(path))
        places = turned(np.arange(leaf.size).reshape(leaf.shape), turn)
        value = make(f"{player}.{name}", places.shape)
        ours = np.empty(leaf.size, np.float32)
        ours[places.ravel()] = value.ravel()
        return jnp.asarray(ours.reshape(leaf.shape))

    return jax.tree_util.tree_map_with_path(of, tree)


def random_variables(net, *inputs):
    """Variables none of which is 0, of order one over the root of a layer's inputs."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *inputs, train=True))

    def value(path, leaf):
        if path[0].key == "batch_stats":
            return jnp.ones(leaf.shape)
        inputs = math.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 16
        random = np.random.default_rng(list(_name(path).encode()))
        return jnp.asarray(random.standard_normal(leaf.shape) / math.sqrt(inputs), jnp.float32)

    return jax.tree_util.tree_map_with_path(value, shapes)


def spectral_vectors(shapes, params):
    """The collection "spectral", exact: the first singular vector of each kernel.

    Args:
      shapes: of the collection.
      params: the parameters; a layer's norm is named after the layer.
    """

    def vector(path, leaf):
        del leaf
        *place, norm, kind = (entry.key for entry in path)
        weights = params
        for name in [*place, norm.removesuffix("_norm"), kind]:
            weights = weights[name]
        matrix = np.asarray(weights).reshape(-1, weights.shape[-1])
        return jnp.asarray(np.linalg.svd(matrix)[2][0])

    return jax.tree_util.tree_map_with_path(vector, shapes)


def assert_same_gradients(player, grads, published, theirs):
    """Compares a tree of gradients with the published network's, as `references.projected`."""
    ours = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(grads)[0]:
        name, turn = published(player, _name(path))
        ours[name] = references.projected(name, turned(leaf, turn))
    assert ours.keys() == theirs.keys()
    for name, (norm, product) in theirs.items():
        # Of a bias before batch norm the gradient is 0, but for rounding.
        assert ours[name][0] == pytest.approx(norm, rel=RTOL, abs=1e-6), name
        # The product may be small by chance: its error is measured by the norm.
        assert ours[name][1] == pytest.approx(product, abs=10 * RTOL * norm + 1e-5), name


def turned(array, turn):
    """An array of ours with the axes of the published one."""
    return {
        "": lambda a: a,
        "dense": lambda a: a.T,
        "1x1": lambda a: a.T[:, :, None, None],
        "conv": lambda a: a.transpose(3, 2, 0, 1),
        "transposed conv": lambda a: a[::-1, ::-1].transpose(2, 3, 0, 1),
        "shuffled 2": lambda a: _unshuffled(a, 2),
        "shuffled 3": lambda a: _unshuffled(a, 3),
        "basis": lambda a: a.transpose(2, 0, 1),
        "depthwise": lambda a: a.transpose(2, 0, 1)[:, None],
        "noise": lambda a: a[:, :, 0],
        "first": lambda a: (
            a.reshape(-1, 4, 4, a.shape[-1] // 16).transpose(3, 1, 2, 0).reshape(a.shape[-1], -1)
        ),
        "first bias": lambda a: a.reshape(4, 4, -1).transpose(2, 0, 1).ravel(),
        "flat": lambda a: (
            a.reshape(4, 4, -1, a.shape[-1]).transpose(3, 2, 0, 1).reshape(a.shape[-1], -1)
        ),
    }[turn](np.asarray(array))


def _unshuffled(a, times):
    """Kernel or bias before a pixel shuffle; published, the pixels of a channel lie together."""
    a = a.reshape(*a.shape[:-1], times, times, a.shape[-1] // times**2)
    a = np.moveaxis(a, -1, -3).reshape(*a.shape[:-3], -1)
    return a.transpose(3, 2, 0, 1) if a.ndim == 4 else a


def _name(path):
    return ".".join(str(key.key) for key in path)
