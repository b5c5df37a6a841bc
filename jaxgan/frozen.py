"""Layers of a network that keep their weights, as when a trained discriminator is fine-tuned.

See "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs" by Mo, Cho and Shin
(https://arxiv.org/abs/2002.10964): the discriminator's layers next to the image stay as they were
trained on other images, the others learn the new ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from jaxgan.types import Key, PyTree, UserError

WRAPPED = "disc"  # a wrapper's network, beside parameters of the wrapper's own
Layer = tuple[str, ...]  # places in a pytree of parameters, such as "Conv_1" and "Norm_0"


def layers(init: Callable[[Key], Mapping[str, Any]]) -> list[Layer]:
    """Lists the layers of a network in the order in which data pass through them.

    Flax makes parameters as the layers are called, so that the order of a fresh pytree of them is
    that of the layers. What has no weights of two axes or more (norms, biases) belongs to the layer
    before it. A block of the network is one layer, also under `nn.remat`; of a whole network under
    it the order is lost.

    Args:
      init: key -> fresh variables, as `module.init` returns them; it is traced, not computed.

    Returns:
      The places of each layer's parameters: names, below a wrapper's name and "/".
    """
    found = []

    def traced(key: Key) -> None:
        found.extend(_layers(init(key)["params"]))

    jax.eval_shape(traced, jax.eval_shape(lambda: jax.random.key(0)))
    return found


def first(layers: Sequence[Layer], num: int, *, flag: str) -> Layer:
    """Takes the parameters of the first layers.

    Args:
      layers: from `layers`.
      num: how many of the layers.
      flag: that asks for them, for the message.

    Returns:
      Their places.

    Raises:
      UserError: no layer would be left to train.
    """
    if num >= len(layers):
        told = ", ".join(names[0] for names in layers)
        raise UserError(
            f"{flag}={num} leaves nothing to train: the network has {len(layers)} layers ({told}); "
            f"use at most {len(layers) - 1}"
        )
    return tuple(name for names in layers[:num] for name in names)


def freeze(tx: optax.GradientTransformation, names: Layer) -> optax.GradientTransformation:
    """Keeps some of the parameters as they are.

    Args:
      tx: updates the others; it keeps no moments of those that are frozen.
      names: places of the frozen ones, from `first`; each stands for all that is below it.

    Returns:
      The transformation of all.
    """
    if not names:
        return tx

    def kinds(params: PyTree) -> PyTree:
        def kind(path: Any, leaf: Any) -> str:
            del leaf
            place = "/".join(str(entry.key) for entry in path) + "/"
            return "frozen" if any(place.startswith(f"{name}/") for name in names) else "trained"

        return jax.tree_util.tree_map_with_path(kind, params)

    return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, kinds)


def _layers(params: Mapping[str, Any]) -> list[Layer]:
    """The layers of a fresh pytree of parameters; of a wrapper, those of the network within it."""
    above = ""
    while len(params) == 1 or WRAPPED in params:
        name = WRAPPED if WRAPPED in params else next(iter(params))
        inside = params[name]
        if not isinstance(inside, Mapping) or not _has_parts(inside):
            break
        above, params = f"{above}{name}/", inside
    found: list[list[str]] = [[]]
    begun = False
    for name, part in params.items():
        weighs = any(leaf.ndim > 1 for leaf in jax.tree.leaves(part))
        if weighs and begun:
            found.append([])
        begun = begun or weighs
        found[-1].append(above + name)
    return [tuple(names) for names in found]


def _has_parts(params: Mapping[str, Any]) -> bool:
    return any(isinstance(part, Mapping) for part in params.values())
