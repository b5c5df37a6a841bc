"""From Flax modules to the two functions of a `Game`; any function of the same form will do too.

A network of Flax NNX, as a player with variables {"params": ..., "stats": ...}:

    definition, params, stats = nnx.split(Generator(nnx.Rngs(0)), nnx.Param, ...)
    variables = {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}

    def gen(key, variables, batch):
        module = nnx.merge(definition, variables["params"], variables["stats"])
        image = module(latents.normal(key, batch["image"].shape[0], 64))
        _, _, stats = nnx.split(module, nnx.Param, ...)
        return {"image": image}, {"stats": nnx.to_pure_dict(stats)}
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxgan import collectives, latents
from jaxgan.steps.game import DiscFn, GenFn
from jaxgan.types import Batch, Key, Outputs, Prior, PyTree


def from_latents(
    module: nn.Module,
    dim: int,
    *,
    prior: Prior = latents.normal,
    conditional: bool = False,
    target: str = "image",
    axis_name: str | None = None,
) -> GenFn:
    """A generator of latents.

    Args:
      module: `(z [B, dim], label [B] where conditional, *, train) -> x [B, ...]`, or a dict of
        entries.
      dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      conditional: whether it sees `batch["label"]`.
      target: the entry it makes, one for each of the batch's.
      axis_name: the mapped axis, if any: each device then has its share of the global latents.

    Returns:
      `(key, variables, batch) -> ({target: x}, new statistics)`.
    """

    def gen(key: Key, variables: PyTree, batch: Batch) -> tuple[Batch, PyTree]:
        z_key, net_key = jax.random.split(key)
        num = batch[target].shape[0]
        z = collectives.share(lambda key, num: prior(key, num, dim), z_key, num, axis_name)
        inputs = (z, batch["label"]) if conditional else (z,)
        made, stats = _apply(module, net_key, variables, inputs, axis_name)
        return _entries(made, target), stats

    return gen


def from_entry(
    module: nn.Module, source: str, target: str, *, axis_name: str | None = None
) -> GenFn:
    """A generator that translates an entry of the batch.

    Args:
      module: `(x [B, ...], *, train) -> y [B, ...]`, or a dict of entries.
      source: the entry it sees.
      target: the entry it makes.
      axis_name: the mapped axis, if any.

    Returns:
      `(key, variables, batch) -> ({target: y}, new statistics)`.
    """

    def gen(key: Key, variables: PyTree, batch: Batch) -> tuple[Batch, PyTree]:
        made, stats = _apply(module, key, variables, (batch[source],), axis_name)
        return _entries(made, target), stats

    return gen


def from_entries(module: nn.Module, *sources: str, axis_name: str | None = None) -> GenFn:
    """A generator that sees several entries of the batch, such as one that translates both ways.

    Args:
      module: `(*entries, *, train)` -> a dict of entries; those of the batch's names take their
        place for the discriminator, others are for terms of the loss.
      *sources: the entries it sees, in the order of its arguments.
      axis_name: the mapped axis, if any.

    Returns:
      `(key, variables, batch) -> (entries made, new statistics)`.
    """

    def gen(key: Key, variables: PyTree, batch: Batch) -> tuple[Batch, PyTree]:
        return _apply(module, key, variables, tuple(batch[name] for name in sources), axis_name)

    return gen


def judged(module: nn.Module, *entries: str, axis_name: str | None = None) -> DiscFn:
    """A discriminator of one or several entries of the batch.

    Args:
      module: `(*entries, *, train) -> logits [B] or [B, h, w]`, or a dict of outputs with "logits".
      *entries: names of the entries it sees, in the order of its arguments: `"image", "label"`.
      axis_name: the mapped axis, if any.

    Returns:
      `(key, variables, batch) -> (outputs, new statistics)`.
    """

    def disc(key: Key, variables: PyTree, batch: Batch) -> tuple[Outputs, PyTree]:
        inputs = tuple(batch[name] for name in entries)
        out, stats = _apply(module, key, variables, inputs, axis_name)
        return _entries(out, "logits"), stats

    return disc


def _apply(
    module: nn.Module, key: Key, variables: PyTree, inputs: tuple[Any, ...], axis_name: str | None
) -> tuple[Any, PyTree]:
    """The module in training, and its new statistics."""
    stats = [name for name in variables if name != "params"]
    own_key = collectives.own_key(key, axis_name)
    return module.apply(variables, *inputs, train=True, mutable=stats, rngs=own_key)


def _entries(out: Any, name: str) -> Mapping[str, Any]:
    """What a module returned, by name."""
    return out if isinstance(out, Mapping) else {name: out}
