"""Rules of operations that pick values out of an array, or put it among others."""

from typing import Any

import numpy as np

from jaxgan.onnx.graph import BEGIN, END, Graph, Inexpressible, Value, element


def unknown(eqn: Any) -> Inexpressible:
    """Says that a form of an operation has no rule.

    Args:
      eqn: the operation.

    Returns:
      The error to raise.
    """
    return Inexpressible(
        f"ONNX: the network has a form of {eqn.primitive.name} without a rule here"
    )


def part(graph: Graph, eqn: Any, x: Value) -> Value:
    """Slices.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      x: what is sliced.

    Returns:
      The part.
    """
    shape, params = eqn.invars[0].aval.shape, eqn.params
    steps = params["strides"] or (1,) * len(shape)
    starts, stops = params["start_indices"], params["limit_indices"]
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        if _differs(start, 0) or _differs(stop, shape[axis]) or step != 1:
            x = graph.slice(x, axis, start, stop, step)
    return x


def reverse(graph: Graph, eqn: Any, x: Value) -> Value:
    """Turns axes round.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      x: what is turned.

    Returns:
      It, turned.
    """
    for axis in eqn.params["dimensions"]:
        x = graph.slice(x, axis, END, BEGIN, -1)
    return x


def pad(graph: Graph, eqn: Any, x: Value, fill: Value) -> Value:
    """Puts a value around an array and between its elements, or cuts some off.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      x: the array.
      fill: the value.

    Returns:
      The padded array.
    """
    config = eqn.params["padding_config"]
    shape = list(eqn.invars[0].aval.shape)
    for axis, (_, _, between) in enumerate(config):
        if between:
            x, shape = apart(graph, x, fill, shape, axis, between)
    return surrounded(graph, x, [(low, high) for low, high, _ in config], fill=fill)


def surrounded(graph: Graph, x: Value, edges: Any, *, fill: Value | None = None) -> Value:
    """Puts a value around an array; where there is to be less than nothing, cuts some off.

    Args:
      graph: that nodes are added to.
      x: the array.
      edges: how many before and after, for each axis.
      fill: the value; 0 by default.

    Returns:
      The padded array.
    """
    more = [(_more(low), _more(high)) for low, high in edges]
    if any(_differs(n, 0) for pair in more for n in pair):
        ends = graph.size([low for low, _ in more] + [high for _, high in more])
        x = graph.node("Pad", x, ends, *([] if fill is None else [fill]), mode="constant")
    for axis, (low, high) in enumerate(edges):
        less = _less(low), _less(high)
        if any(less):
            x = graph.slice(x, axis, less[0], -less[1] if less[1] else END)
    return x


def apart(
    graph: Graph, x: Value, fill: Value, shape: list[Any], axis: int, between: int
) -> tuple[Value, list[Any]]:
    """Puts so many of a value after each element but the last.

    Args:
      graph: that nodes are added to.
      x: the array.
      fill: the value.
      shape: of the array.
      axis: along which its elements are moved apart.
      between: how many.

    Returns:
      The array and its shape.
    """
    longer = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
    edges = [(0, 0)] * len(longer)
    edges[axis + 1] = (0, between)
    x = surrounded(graph, graph.reshape(x, longer), edges, fill=fill)
    whole = [*shape[:axis], shape[axis] * (between + 1), *shape[axis + 1 :]]
    x = graph.slice(graph.reshape(x, whole), axis, 0, -between)
    return x, [*shape[:axis], whole[axis] - between, *shape[axis + 1 :]]


def gather(graph: Graph, eqn: Any, x: Value, at: Value) -> Value:
    """Picks elements or rows, each by its numbers; those beyond the edge are the nearest there.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      x: what is picked from.
      at: [..., n] numbers along n axes.

    Returns:
      What is picked.
    """
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape, at_shape = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape
    indexed, shared = list(numbers.start_index_map), list(numbers.operand_batching_dims)
    gone = {*numbers.collapsed_slice_dims, *shared}
    rest = [axis for axis in range(len(shape)) if axis not in (*indexed, *shared)]
    if at_shape == (len(indexed),) and not shared:
        return _window(graph, eqn, x, at)
    whole = all(not _differs(sizes[axis], shape[axis]) for axis in rest)
    if not whole or not set(indexed) <= gone:
        raise unknown(eqn)
    at = graph.node("Cast", at, to=element(np.int64))
    at = graph.node("Max", at, np.zeros(1, np.int64))
    at = graph.node("Min", at, graph.size([shape[axis] - 1 for axis in indexed]))
    if len(indexed) == 1 and not shared:
        order = [*indexed, *rest]
        picked = graph.node("Gather", graph.transpose(x, order), graph.reshape(at, at_shape[:-1]))
    else:
        given = list(numbers.start_indices_batching_dims)
        others = [axis for axis in range(len(at_shape) - 1) if axis not in given]
        if given != list(range(len(given))):
            raise unknown(eqn)
        at = graph.transpose(at, [*given, *others, len(at_shape) - 1])
        x = graph.transpose(x, [*shared, *indexed, *rest])
        picked = graph.node("GatherND", x, at, batch_dims=len(shared))
    return _put(graph, eqn, picked, len(rest))


def _window(graph: Graph, eqn: Any, x: Value, at: Value) -> Value:
    """One part of an array, from these numbers on."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    axes = numbers.start_index_map
    start = graph.node("Cast", at, to=element(np.int64))
    stop = graph.node("Add", start, graph.size([sizes[axis] for axis in axes]))
    part = graph.node("Slice", x, start, stop, np.array(axes, np.int64))
    gone = np.array(numbers.collapsed_slice_dims, np.int64)
    return graph.node("Squeeze", part, gone) if gone.size else part


def _put(graph: Graph, eqn: Any, picked: str, rest: int) -> Value:
    """Has the axes that were not picked by number, which come last, be where they belong."""
    offset = list(eqn.params["dimension_numbers"].offset_dims)
    rank = len(eqn.outvars[0].aval.shape)
    others = [axis for axis in range(rank) if axis not in offset]
    if len(offset) != rest:
        raise unknown(eqn)
    order = [*others, *offset]
    return graph.transpose(picked, [order.index(axis) for axis in range(rank)])


def _differs(a: Any, b: Any) -> bool:
    """Whether two sizes are not known to be the same."""
    return not bool(a == b)


def _is_number(size: Any) -> bool:
    return isinstance(size, int | np.integer)


def _more(size: Any) -> Any:
    return max(size, 0) if _is_number(size) else size


def _less(size: Any) -> int:
    return max(-size, 0) if _is_number(size) else 0
