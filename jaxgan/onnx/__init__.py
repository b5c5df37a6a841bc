"""Functions of JAX as ONNX models: one traced program, read operation by operation.

`convert` traces a function for inputs whose sizes may be symbols, computes what depends on nothing
(weights turned round, say) and writes a node or a few for each operation that is left. Operations
are rows of `rules.RULES`; one that has none is `Inexpressible`, which names it.
"""

from jaxgan.onnx.graph import OPSET, Inexpressible
from jaxgan.onnx.trace import convert

__all__ = ["OPSET", "Inexpressible", "convert"]
