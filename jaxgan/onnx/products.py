"""Rules of products of matrices and of convolutions."""

import functools
from typing import Any

import jax
import numpy as np

from jaxgan.nets import conv
from jaxgan.onnx import places
from jaxgan.onnx.graph import BEGIN, END, Graph, Value


def product(graph: Graph, eqn: Any, a: Value, b: Value) -> Value:
    """Multiplies and sums over some axes, beside shared ones.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      a: one factor.
      b: the other.

    Returns:
      The product.
    """
    (summed_a, summed_b), (shared_a, shared_b) = eqn.params["dimension_numbers"]
    ranks = [len(var.aval.shape) for var in eqn.invars]
    if not shared_a and ranks[1] == 2 and summed_a == (ranks[0] - 1,) and summed_b == (0,):
        return graph.node("MatMul", a, b)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names_a = [next(letters) for _ in range(ranks[0])]
    names_b = [next(letters) for _ in range(ranks[1])]
    for first, second in [
        *zip(summed_a, summed_b, strict=True),
        *zip(shared_a, shared_b, strict=True),
    ]:
        names_b[second] = names_a[first]
    free_a = [n for i, n in enumerate(names_a) if i not in (*summed_a, *shared_a)]
    free_b = [n for i, n in enumerate(names_b) if i not in (*summed_b, *shared_b)]
    made = "".join([*(names_a[i] for i in shared_a), *free_a, *free_b])
    equation = f"{''.join(names_a)},{''.join(names_b)}->{made}"
    return graph.node("Einsum", a, b, equation=equation)


def convolution_map(graph: Graph, eqn: Any, a: Value, b: Value) -> Value:
    """One of the three maps of `nets.conv`, by the convolutions that it is on accelerators.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      a: its first operand.
      b: its second.

    Returns:
      What it makes.
    """
    from jaxgan.onnx import trace  # reads programs by these rules

    plain = functools.partial(conv.by_lax, **eqn.params)
    shapes = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in eqn.invars]
    closed = jax.make_jaxpr(plain)(*shapes)
    return trace.read(graph, closed.jaxpr, closed.consts, [a, b])[0]


def convolution(graph: Graph, eqn: Any, x: Value, w: Value) -> Value:
    """Convolves, with steps between outputs, inputs or both.

    Args:
      graph: that nodes are added to.
      eqn: the operation.
      x: the images.
      w: the kernel.

    Returns:
      The feature maps.
    """
    params, layout = eqn.params, eqn.params["dimension_numbers"]
    if params["batch_group_count"] != 1:
        raise places.unknown(eqn)
    x, w = graph.transpose(x, layout.lhs_spec), graph.transpose(w, layout.rhs_spec)
    shape = [eqn.invars[0].aval.shape[axis] for axis in layout.lhs_spec]
    kernel = [eqn.invars[1].aval.shape[axis] for axis in layout.rhs_spec][2:]
    apart, pads = params["lhs_dilation"], [list(pair) for pair in params["padding"]]
    if _is_transposed(params, pads, kernel):
        made = _transposed(graph, params, x, w, kernel)
    else:
        zero = np.zeros((), eqn.invars[0].aval.dtype)
        for axis, times in enumerate(apart):
            if times > 1:
                x, shape = places.apart(graph, x, zero, shape, axis + 2, times - 1)
        if not all(isinstance(n, int | np.integer) and n >= 0 for pair in pads for n in pair):
            x = places.surrounded(graph, x, [(0, 0), (0, 0), *pads])
            pads = [[0, 0]] * len(pads)
        made = graph.node(
            "Conv",
            x,
            w,
            strides=list(params["window_strides"]),
            dilations=list(params["rhs_dilation"]),
            pads=[low for low, _ in pads] + [high for _, high in pads],
            group=params["feature_group_count"],
            kernel_shape=kernel,
        )
    return graph.transpose(made, np.argsort(layout.out_spec).tolist())


def _is_transposed(params: Any, pads: Any, kernel: Any) -> bool:
    """Whether it is what ONNX calls a transposed convolution."""
    fits = all(
        isinstance(n, int | np.integer) and n < k
        for pair, k in zip(pads, kernel, strict=True)
        for n in pair
    )
    once = {*params["window_strides"], *params["rhs_dilation"]} == {1}
    return max(params["lhs_dilation"]) > 1 and once and params["feature_group_count"] == 1 and fits


def _transposed(graph: Graph, params: Any, x: Value, w: Value, kernel: Any) -> str:
    """Output s i + k - p sums input i times kernel k, which the other form has turned round."""
    w = graph.transpose(w, (1, 0, 2, 3))
    for axis in (2, 3):
        if isinstance(w, np.ndarray):
            w = np.flip(w, axis)
        else:
            w = graph.slice(w, axis, END, BEGIN, -1)
    ends = [
        [k - 1 - pair[side] for pair, k in zip(params["padding"], kernel, strict=True)]
        for side in (0, 1)
    ]
    return graph.node(
        "ConvTranspose",
        x,
        w,
        strides=list(params["lhs_dilation"]),
        pads=[*ends[0], *ends[1]],
        kernel_shape=kernel,
    )
