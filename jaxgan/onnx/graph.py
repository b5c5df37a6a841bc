"""An ONNX graph while it is written: nodes, constants, and sizes that are known at run time only.

A value is an array where it is known, the name of a node's output, or a `Spread`, which is repeated
when somebody needs it whole: ONNX, as NumPy, repeats what is smaller by itself in most operations.
"""

import ast
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan import types
from jaxgan.types import UserError

OPSET, IR = 18, 8  # what onnxruntime reads from 1.14 on
END = np.iinfo(np.int64).max  # a slice that ends here goes to the end
BEGIN = np.iinfo(np.int64).min  # one backwards that ends here takes the first too
Shape = Sequence[Any]  # of numbers, and of expressions of symbols as `jax.export` has them


class Inexpressible(UserError):
    """A form of a program has no words for something in it."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """A value that is to be repeated.

    Attributes:
      small: what it is made of, of the same rank, with 1 where it is repeated.
      shape: what it is repeated to.
    """

    small: "np.ndarray | str"
    shape: tuple[Any, ...]


Value = np.ndarray | str | Spread


class Graph:
    """A graph, or the body of a loop in one."""

    def __init__(self, symbols: Mapping[str, str], *, names: Any = None):
        """Begins an empty one.

        Args:
          symbols: names of the values, [1] int64, that symbols of sizes have at run time.
          names: numbers for names, shared with the graph around it.
        """
        self.symbols = dict(symbols)
        self.names = names or itertools.count()
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[tuple[str, Any, Shape]] = []
        self.outputs: list[tuple[str, Any, Shape]] = []
        self._sizes: dict[str, str] = {}

    def new_name(self) -> str:
        """A name that nothing has yet."""
        return f"v{next(self.names)}"

    def node(self, op: str, *values: Value, **attributes: Any) -> str:
        """Adds an operation of one output, whose name it returns."""
        return self.nodes_of(op, 1, *values, **attributes)[0]

    def nodes_of(self, op: str, outputs: int, *values: Value, **attributes: Any) -> list[str]:
        """Adds an operation of several outputs, whose names it returns."""
        made = [self.new_name() for _ in range(outputs)]
        self.nodes.append((op, [self.ref(value) for value in values], made, attributes))
        return made

    def ref(self, value: Value) -> str:
        """The name of a value, which is written down or repeated if it has none."""
        if isinstance(value, str):
            return value
        if isinstance(value, Spread):
            rank = len(value.shape)
            whole = [
                1 if _is_size(small, size) else size
                for small, size in zip(self._shape_of(value.small, rank), value.shape, strict=True)
            ]
            return self.node("Expand", value.small, self.size(whole))
        name = self.new_name()
        self.constants[name] = value
        return name

    def size(self, shape: Shape) -> np.ndarray | str:
        """Sizes as a value [rank] int64."""
        if all(isinstance(n, int | np.integer) for n in shape):
            return np.array(shape, np.int64)
        return self.node("Concat", *[self.length(n) for n in shape], axis=0)

    def reshape(self, value: Value, shape: Shape) -> Value:
        """Lays a value out anew."""
        unknown = [n for n in shape if not isinstance(n, int | np.integer)]
        if isinstance(value, np.ndarray) and not unknown:
            return value.reshape(shape)
        if len(unknown) == 1 and 0 not in shape:  # ONNX finds one size by itself
            shape = [n if isinstance(n, int | np.integer) else -1 for n in shape]
        empty = {"allowzero": 1} if 0 in shape else {}  # else 0 stands for the size that is there
        return self.node("Reshape", value, self.size(shape), **empty)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Puts axes into another order."""
        if list(order) == list(range(len(order))):
            return value
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        return self.node("Transpose", value, perm=list(order))

    def slice(self, value: Value, axis: int, start: Any, stop: Any = END, step: int = 1) -> str:
        """Takes a part of one axis."""
        ends = [self.length(n) for n in (start, stop)]
        axes, steps = np.array([axis], np.int64), np.array([step], np.int64)
        return self.node("Slice", value, ends[0], ends[1], axes, steps)

    def length(self, size: Any) -> np.ndarray | str:
        """A size as a value [1] int64."""
        if isinstance(size, int | np.integer):
            return np.array([size], np.int64)
        text = str(size).replace("^", "**")
        if text not in self._sizes:
            made = self._computed(ast.parse(text, mode="eval").body)
            self._sizes[text] = self.ref(made)
        return self._sizes[text]

    def _computed(self, tree: ast.expr) -> np.ndarray | str:
        """The value of an expression of symbols, such as 4*b + floordiv(h, 2)."""
        if isinstance(tree, ast.Constant):
            return np.array([tree.value], np.int64)
        if isinstance(tree, ast.Name):
            return self.symbols[tree.id]
        if isinstance(tree, ast.UnaryOp):
            return self.node("Neg", self._computed(tree.operand))
        if isinstance(tree, ast.BinOp):
            op = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}[type(tree.op)]
            return self.node(op, self._computed(tree.left), self._computed(tree.right))
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            op = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}[tree.func.id]
            return self.node(op, *[self._computed(each) for each in tree.args])
        raise Inexpressible(f"ONNX: a size of {ast.unparse(tree)} pixels or examples")

    def _shape_of(self, value: np.ndarray | str, rank: int) -> Shape:
        """What is known of it: of a name nothing, and no size is like that."""
        return value.shape if isinstance(value, np.ndarray) else (None,) * rank

    def taken(self) -> set[str]:
        """Names that it takes from itself, or from the graph around it; drops nodes of no use."""
        names = {name for name, _, _ in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            _, given, made, attributes = node
            if names.isdisjoint(made):
                continue
            names.update(given)
            for value in attributes.values():
                names |= value.taken() if isinstance(value, Graph) else set()
            kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: x for name, x in self.constants.items() if name in names}
        return names

    def proto(self, name: str) -> Any:
        """The graph as `onnx` has it."""
        from onnx import helper, numpy_helper

        self.taken()

        def described(name: str, dtype: Any, shape: Shape) -> Any:
            sizes = [int(n) if isinstance(n, int | np.integer) else str(n) for n in shape]
            return helper.make_tensor_value_info(name, element(dtype), sizes)

        def attribute(value: Any) -> Any:
            return value.proto("body") if isinstance(value, Graph) else value

        return helper.make_graph(
            [
                helper.make_node(op, taken, made, **{k: attribute(v) for k, v in given.items()})
                for op, taken, made, given in self.nodes
            ],
            name,
            [described(*each) for each in self.inputs],
            [described(*each) for each in self.outputs],
            [numpy_helper.from_array(_writable(x), k) for k, x in self.constants.items()],
        )


def element(dtype: Any) -> int:
    """Names a type of numbers as ONNX does.

    Args:
      dtype: of an array.

    Returns:
      A value of `onnx.TensorProto`.

    Raises:
      Inexpressible: onnxruntime computes with none such.
    """
    from onnx import helper

    name = np.dtype(dtype).name
    if name in ("bfloat16", "float16"):
        raise Inexpressible(
            f"ONNX: the network computes in {name}, which onnxruntime has no operations for on CPU"
        )
    try:
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    except (KeyError, ValueError) as error:
        raise Inexpressible(f"ONNX: numbers of the type {types.one_line(name)}") from error


def _is_size(small: Any, size: Any) -> bool:
    return isinstance(size, int | np.integer) and small == size


def _writable(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(x.shape)  # of a number it would make a row
