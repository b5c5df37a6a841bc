"""What each operation of JAX is in ONNX: element by element, sums, and the layout of arrays.

A rule is `(graph, eqn, *values) -> value`, or a list of them. Products and convolutions are in
`products`, what picks and pads in `places`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgan.onnx import places, products
from jaxgan.onnx.graph import Graph, Spread, Value, element

Rule = Callable[..., Any]


def _alike(graph: Graph, eqn: Any, values: Sequence[Value]) -> list[Value]:
    """Values as they are, where one of them is whole and has ONNX repeat the others."""
    shape = eqn.outvars[0].aval.shape
    whole = any(
        not isinstance(value, Spread) and var.aval.shape == shape
        for value, var in zip(values, eqn.invars, strict=True)
    )
    return [x.small if whole and isinstance(x, Spread) else x for x in values]


def _plain(op: str) -> Rule:
    """An operation that ONNX has."""
    return lambda graph, eqn, *values: graph.node(op, *_alike(graph, eqn, values))


def _chain(*ops: str) -> Rule:
    """One after the other."""

    def rule(graph: Graph, eqn: Any, *values: Value) -> Value:
        made = graph.node(ops[0], *_alike(graph, eqn, values))
        for op in ops[1:]:
            made = graph.node(op, made)
        return made

    return rule


def _same(graph: Graph, eqn: Any, *values: Value) -> list[Value]:
    del graph, eqn
    return list(values)


def _square(graph: Graph, eqn: Any, x: Value) -> Value:
    del eqn
    name = graph.ref(x)
    return graph.node("Mul", name, name)


def _integer_pow(graph: Graph, eqn: Any, x: Value) -> Value:
    power = eqn.params["y"]
    if power == 2:
        return _square(graph, eqn, x)
    return graph.node("Pow", x, np.array(power, eqn.outvars[0].aval.dtype))


def _shifted(first: str, second: str, *, turned: bool = False) -> Rule:
    """The first operation and then the second with 1, as expm1 and log1p are."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        one = np.array(1, eqn.outvars[0].aval.dtype)
        if turned:
            return graph.node(second, graph.node(first, x, one))
        return graph.node(first, graph.node(second, x), one)

    return rule


def _select(graph: Graph, eqn: Any, which: Value, *cases: Value) -> Value:
    if len(cases) != 2 or eqn.invars[0].aval.dtype != np.bool_:
        raise places.unknown(eqn)
    which, no, yes = _alike(graph, eqn, (which, *cases))
    return graph.node("Where", which, yes, no)


def _clamp(graph: Graph, eqn: Any, low: Value, x: Value, high: Value) -> Value:
    low, x, high = _alike(graph, eqn, (low, x, high))
    return graph.node("Min", graph.node("Max", x, low), high)


def _cast(graph: Graph, eqn: Any, x: Value) -> Value:
    before, after = eqn.invars[0].aval.dtype, eqn.params["new_dtype"]
    if before == after:
        return x
    if isinstance(x, Spread):
        return Spread(graph.node("Cast", x.small, to=element(after)), x.shape)
    return graph.node("Cast", x, to=element(after))


def _reduced(op: str) -> Rule:
    """Over some axes, which are gone then."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        axes = np.array(eqn.params["axes"], np.int64)
        return graph.node(op, x, axes, keepdims=0)

    return rule


def _truths(op: str) -> Rule:
    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        numbers = graph.node("Cast", x, to=element(np.int32))
        return graph.node("Cast", _reduced(op)(graph, eqn, numbers), to=element(np.bool_))

    return rule


def _place_of(op: str) -> Rule:
    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        (axis,) = eqn.params["axes"]
        found = graph.node(op, x, axis=axis, keepdims=0)
        return graph.node("Cast", found, to=element(eqn.params["index_dtype"]))

    return rule


def _running_sum(graph: Graph, eqn: Any, x: Value) -> Value:
    axis = np.array(eqn.params["axis"], np.int64)
    return graph.node("CumSum", x, axis, reverse=int(eqn.params["reverse"]))


def _remainder(graph: Graph, eqn: Any, *values: Value) -> Value:
    return graph.node("Mod", *_alike(graph, eqn, values), fmod=1)


def _top(graph: Graph, eqn: Any, x: Value) -> list[Value]:
    count = np.array([eqn.params["k"]], np.int64)
    values, places_ = graph.nodes_of("TopK", 2, x, count, axis=-1)
    return [values, graph.node("Cast", places_, to=element(eqn.outvars[1].aval.dtype))]


def _reshape(graph: Graph, eqn: Any, x: Value) -> Value:
    return graph.reshape(x, eqn.outvars[0].aval.shape)


def _squeeze(graph: Graph, eqn: Any, x: Value) -> Value:
    return graph.node("Squeeze", x, np.array(eqn.params["dimensions"], np.int64))


def _transpose(graph: Graph, eqn: Any, x: Value) -> Value:
    return graph.transpose(x, eqn.params["permutation"])


def _broadcast(graph: Graph, eqn: Any, x: Value, *sizes: Value) -> Value:
    del sizes  # what symbols stand for: the shape says it too
    shape, kept = eqn.outvars[0].aval.shape, eqn.params["broadcast_dimensions"]
    given = eqn.invars[0].aval.shape
    row: list[Any] = [1] * len(shape)
    for axis, size in zip(kept, given, strict=True):
        row[axis] = size
    small = x if list(given) == row else graph.reshape(x, row)
    if isinstance(small, Spread):
        small = small.small
    return small if tuple(row) == tuple(shape) else Spread(small, tuple(shape))


def _concatenate(graph: Graph, eqn: Any, *values: Value) -> Value:
    shapes = [var.aval.shape for var in eqn.invars]
    full = [value for value, shape in zip(values, shapes, strict=True) if 0 not in shape]
    if len(full) == 1:
        return full[0]
    return graph.node("Concat", *full, axis=eqn.params["dimension"])


def _stack(graph: Graph, eqn: Any, *values: Value) -> Value:
    axis = np.array([eqn.params["axis"]], np.int64)
    rows = [graph.node("Unsqueeze", value, axis) for value in values]
    return graph.node("Concat", *rows, axis=eqn.params["axis"])


def _split(graph: Graph, eqn: Any, x: Value) -> list[str]:
    sizes = np.array(eqn.params["sizes"], np.int64)
    return graph.nodes_of("Split", len(sizes), x, sizes, axis=eqn.params["axis"])


def _count(graph: Graph, eqn: Any, *sizes: Value) -> Value:
    del sizes
    shape, axis = eqn.outvars[0].aval.shape, eqn.params["dimension"]
    end = graph.reshape(graph.length(shape[axis]), ())
    numbers = graph.node("Range", np.array(0, np.int64), end, np.array(1, np.int64))
    row = [1] * len(shape)
    row[axis] = shape[axis]
    numbers = graph.node("Cast", numbers, to=element(eqn.outvars[0].aval.dtype))
    small = graph.reshape(numbers, row)
    return small if tuple(row) == tuple(shape) else Spread(small, tuple(shape))  # pyright: ignore


def _size(graph: Graph, eqn: Any) -> Value:
    number = graph.reshape(graph.length(eqn.params["dim"]), ())
    return graph.node("Cast", number, to=element(eqn.outvars[0].aval.dtype))


def _platform(graph: Graph, eqn: Any) -> Value:
    """The form for any device but those named."""
    del graph
    platforms = list(eqn.params["platforms"])
    return np.array(platforms.index(None) if None in platforms else 0, np.int32)


PLAIN = {
    "abs": "Abs", "add": "Add", "add_any": "Add", "and": "And", "ceil": "Ceil", "cos": "Cos",
    "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge":
    "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid",
    "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or",
    "pow": "Pow", "round": "Round", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "sub": "Sub",
    "tan": "Tan", "tanh": "Tanh", "xor": "Xor",
}  # fmt: skip
SAME = ("copy", "copy_p", "optimization_barrier", "sharding_constraint", "stop_gradient", "name")
RULES: dict[str, Rule] = {
    **{name: _plain(op) for name, op in PLAIN.items()},
    **dict.fromkeys(SAME, _same),
    "argmax": _place_of("ArgMax"),
    "argmin": _place_of("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": products.convolution,
    "convert_element_type": _cast,
    "convolution_map": products.convolution_map,
    "cumsum": _running_sum,
    "dim_as_value": _size,
    "dot_general": products.product,
    "expm1": _shifted("Sub", "Exp"),
    "gather": places.gather,
    "integer_pow": _integer_pow,
    "iota": _count,
    "log1p": _shifted("Add", "Log", turned=True),
    "ne": _chain("Equal", "Not"),
    "pad": places.pad,
    "platform_index": _platform,
    "reduce_and": _truths("ReduceMin"),
    "reduce_max": _reduced("ReduceMax"),
    "reduce_min": _reduced("ReduceMin"),
    "reduce_or": _truths("ReduceMax"),
    "reduce_prod": _reduced("ReduceProd"),
    "reduce_sum": _reduced("ReduceSum"),
    "rem": _remainder,
    "reshape": _reshape,
    "rev": places.reverse,
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "select_n": _select,
    "slice": places.part,
    "split": _split,
    "square": _square,
    "squeeze": _squeeze,
    "stack": _stack,
    "top_k": _top,
    "transpose": _transpose,
}
