"""What a step written for one device needs to be right on each of several: four functions.

They are for the per-device view: `pmap`, or `shard_map(..., check_vma=False)`. Each takes the name
of the mapped axis, and with None does what one device does, so that a step is written once. A step
of one's own under `parallel.pmap_step`:

    def step(key, state, batch):  # the key, and the state, are the same on every device
        num = batch["image"].shape[0]  # of this device
        z = collectives.share(lambda key, num: latents.normal(key, num, 64), key, num, axis_name)
        ...
        grads = collectives.mean(jax.grad(loss_fn)(params), axis_name)

so that N devices train as one does: each has its rows of the batch and of the latents, noise of its
own where nobody else must draw the same (`own_key`), and the mean of all gradients. A loss that
compares examples sees those of all devices through `gather`.
"""

from collections.abc import Callable

import jax

from jaxgan.types import Array, Key, PyTree


def mean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Averages every leaf over the devices.

    Args:
      tree: pytree of arrays.
      axis_name: the mapped axis, or None.

    Returns:
      The averages, the same on every device; without an axis the tree as it is.
    """
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gather(x: Array, axis_name: str | None) -> Array:
    """Puts the rows of all devices together.

    A loss of gathered logits is the global one, on every device. The transpose of the gathering
    sums what the N devices send back, so that the mean of the gradients over devices is the true
    gradient.

    Args:
      x: [B, ...], this device's rows.
      axis_name: the mapped axis, or None.

    Returns:
      [N * B, ...], in the order of the devices; without an axis `x`.
    """
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def own_key(key: Key, axis_name: str | None) -> Key:
    """Makes a key that is the same on every device this device's own.

    Args:
      key: consumed.
      axis_name: the mapped axis, or None.

    Returns:
      A key; without an axis the one given.
    """
    return key if axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(axis_name))


def share(draw: Callable[[Key, int], PyTree], key: Key, num: int, axis_name: str | None) -> PyTree:
    """Draws this device's rows of what one device would draw for the global batch.

    Args:
      draw: `(key, num) -> [num, ...]`, or a pytree of such arrays.
      key: the same on every device; consumed.
      num: rows of this device.
      axis_name: the mapped axis, or None.

    Returns:
      [num, ...]: rows `i * num` to `(i + 1) * num` of the draw, on device i.
    """
    if axis_name is None:
        return draw(key, num)
    drawn = draw(key, num * jax.lax.axis_size(axis_name))
    first = num * jax.lax.axis_index(axis_name)
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, num), drawn)
