"""Reads a traced program, operation by operation, and has each written into a graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxgan.onnx import rules
from jaxgan.onnx.graph import IR, OPSET, Graph, Inexpressible, Value

FOLDED = 2**16  # numbers that are written down rather than computed, where weights have fewer


def convert(
    function: Callable[..., Any],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
) -> bytes:
    """Writes a function as an ONNX model.

    Args:
      function: of arrays, to an array or a tuple of them.
      inputs: their names, shapes and types, in order; sizes may be symbols of
        `jax.export.symbolic_shape`.
      outputs: names of the results, in order.

    Returns:
      The model, of opset `OPSET`.

    Raises:
      Inexpressible: ONNX has no form of something in it.
    """
    from onnx import helper

    closed = jax.make_jaxpr(function)(*inputs.values())
    graph = Graph({})
    graph.inputs = [(name, x.dtype, x.shape) for name, x in inputs.items()]
    for name, x in inputs.items():
        _find_symbols(graph, name, x.shape)
    results = read(graph, closed.jaxpr, closed.consts, list(inputs))
    for name, value, var in zip(outputs, results, closed.jaxpr.outvars, strict=True):
        graph.nodes.append(("Identity", [graph.ref(value)], [name], {}))
        graph.outputs.append((name, _dtype(var), _shape(var)))
    model = helper.make_model(
        graph.proto("generator"),
        producer_name="jaxgan",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    return model.SerializeToString()


def read(graph: Graph, program: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
    """Writes a program, or one in it, into a graph.

    Args:
      graph: that nodes are added to.
      program: a jaxpr.
      consts: its constants.
      args: the values of its arguments.

    Returns:
      The values of its results.

    Raises:
      Inexpressible: there is no rule for an operation.
    """
    known: dict[Any, Value] = {}

    def value(var: Any) -> Value:
        return np.asarray(var.val, _dtype(var)) if isinstance(var, core.Literal) else known[var]

    known.update(zip(program.constvars, map(np.asarray, consts), strict=True))
    known.update(zip(program.invars, args, strict=True))
    for eqn in program.eqns:
        results = _written(graph, eqn, [value(var) for var in eqn.invars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [value(var) for var in program.outvars]


def _written(graph: Graph, eqn: Any, args: list[Value]) -> Sequence[Value]:
    """The values of one operation's results."""
    name = eqn.primitive.name
    if _is_constant(eqn, args):
        return _computed(eqn, args)
    if name in PROGRAMS:
        inner = eqn.params[PROGRAMS[name]]
        return read(graph, *_opened(inner), args)
    if name == "cond":
        return _chosen(graph, eqn, args)
    if name == "scan":
        return _scan(graph, eqn, args)
    if name not in rules.RULES:
        raise Inexpressible(f"ONNX: the network has the operation {name}, which has no rule here")
    made = rules.RULES[name](graph, eqn, *args)
    return made if isinstance(made, list) else [made]


# Operations that are programs, and the parameter that holds these.
PROGRAMS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


def _opened(inner: Any) -> tuple[Any, Sequence[Any]]:
    closed = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]
    return (inner.jaxpr, inner.consts) if isinstance(inner, closed) else (inner, ())


def _is_constant(eqn: Any, args: Sequence[Value]) -> bool:
    """Whether an operation can be done now, without its result being larger than weights are."""
    shapes = [_shape(var) for var in eqn.outvars]
    if eqn.primitive.name in {*PROGRAMS, "cond", "dim_as_value", "platform_index"}:
        return False
    if not all(isinstance(x, np.ndarray) for x in args):
        return False
    if not all(isinstance(n, int | np.integer) for shape in shapes for n in shape):
        return False
    made = sum(int(np.prod(shape)) for shape in shapes)
    return made <= max(FOLDED, 2 * sum(x.size for x in args if isinstance(x, np.ndarray)))


def _computed(eqn: Any, args: Sequence[Value]) -> list[Value]:
    made = eqn.primitive.bind(*args, **eqn.params)
    each = made if eqn.primitive.multiple_results else [made]
    return [np.asarray(x) for x in each]


def _chosen(graph: Graph, eqn: Any, args: Sequence[Value]) -> list[Value]:
    """One branch, where it is known now, as that of a platform is."""
    index = args[0]
    if not isinstance(index, np.ndarray):
        raise Inexpressible("ONNX: the network has a branch that depends on what it sees")
    branches = eqn.params["branches"]
    branch = branches[int(np.clip(int(index), 0, len(branches) - 1))]
    return read(graph, *_opened(branch), args[1:])


def _scan(graph: Graph, eqn: Any, args: Sequence[Value]) -> list[str]:
    """A loop over the first axis, as ONNX has it too."""
    params = eqn.params
    body, consts = _opened(params["jaxpr"])
    first, second = _parts(params)
    shared = [graph.ref(value) for value in args[:first]]
    inner = Graph(graph.symbols, names=graph.names)
    taken = []
    for var in body.invars[first:]:
        taken.append(inner.new_name())
        inner.inputs.append((taken[-1], _dtype(var), _shape(var)))
    scanned = [graph.ref(value) for value in args[second:]]
    if not scanned:  # ONNX counts by what it scans
        scanned = [graph.ref(np.zeros(params["length"], np.int64))]
        inner.inputs.append((inner.new_name(), np.int64, ()))
    for value, var in zip(read(inner, body, consts, [*shared, *taken]), body.outvars, strict=True):
        inner.outputs.append((inner.node("Identity", value), _dtype(var), _shape(var)))
    starts = [graph.ref(value) for value in args[first:second]]
    made = len(eqn.outvars) - len(starts)
    back = {}
    if params["reverse"]:
        back["scan_input_directions"] = [1] * len(scanned)
        if made:
            back["scan_output_directions"] = [1] * made
    return graph.nodes_of(
        "Scan",
        len(eqn.outvars),
        *starts,
        *scanned,
        body=inner,
        num_scan_inputs=len(scanned),
        **back,
    )


def _parts(params: Mapping[str, Any]) -> tuple[int, int]:
    """Where a loop's arguments are carried on, and where they are scanned; before are constants."""
    if "ft_in" in params:  # since jax 0.11
        consts, carried, _ = (len(part) for part in params["ft_in"].unpack())
    else:
        consts, carried = params["num_consts"], params["num_carry"]
    return consts, consts + carried


def _find_symbols(graph: Graph, name: str, shape: Sequence[Any]) -> None:
    """Has the graph find the symbols of an input's sizes, each a symbol or a multiple of one."""
    for axis, size in enumerate(shape):
        if isinstance(size, int | np.integer):
            continue
        times, _, symbol = str(size).rpartition("*")
        if symbol in graph.symbols:
            continue
        found = graph.node("Shape", name, start=axis, end=axis + 1)
        if times:
            found = graph.node("Div", found, np.array([int(times)], np.int64))
        graph.symbols[symbol] = found


def _shape(var: Any) -> tuple[Any, ...]:
    return var.aval.shape


def _dtype(var: Any) -> Any:
    return var.aval.dtype
