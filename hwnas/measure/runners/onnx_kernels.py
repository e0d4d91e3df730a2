"""Single kernels as ONNX graphs, integer ones as quantize-dequantize pairs around the product.

A graph holds `times` copies of the kernel on one input, each with weights of its own. Shapes are
those of `hwnas.measure.kernels`; maps have their channels first, as ONNX wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.runners.bench import Unsupported

__all__ = ["Graph", "onnx_kernel"]

Array = np.ndarray[Any, Any]

OPSET: Final = 20  # the first with Gelu
_IR_VERSION: Final = 9


@dataclass
class Graph:
    """Nodes, constants and ends of a graph that is being written.

    Attributes:
        inputs: Shape of each input.
        outputs: Names of the outputs, one a copy.
        constant_bytes: Of one copy.
        rng: Draws constants.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: list[str] = field(default_factory=list)
    constant_bytes: int = 0
    _nodes: list[Any] = field(default_factory=list)
    _constants: list[Any] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; return the output's name."""
        from onnx import helper

        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Array) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        self.constant_bytes += value.nbytes
        return name

    def normal(self, *shape: int) -> str:
        """Add a random float32 constant."""
        return self.constant(0.1 * self.rng.standard_normal(shape, np.float32))

    def codes(self, shape: tuple[int, ...], axis: int) -> str:
        """Add a random 8-bit weight with a scale for each channel along `axis`, dequantized."""
        codes = self.rng.integers(-127, 128, shape, dtype=np.int8)
        scales = self.rng.uniform(1e-3, 2e-3, shape[axis]).astype(np.float32)
        zeros = np.zeros(shape[axis], np.int8)
        names = [self.constant(value) for value in (codes, scales, zeros)]
        return self.node("DequantizeLinear", *names, axis=axis)

    def integers(self, *values: int) -> str:
        """Add whole numbers, a shape or axes say."""
        return self.constant(np.array(values, np.int64))

    def quantized(self, x: str) -> str:
        """Round an activation to 8 bits; scales differ, or copies would share the node."""
        scale = np.float32(0.03 * (1 + 1e-4 * len(self._nodes)))
        ends = [self.constant(np.array(value)) for value in (scale, np.uint8(128))]
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *ends), *ends)

    def serialized(self) -> bytes:
        """Return the model."""
        from onnx import TensorProto, helper

        def ends(names: Sequence[str], shapes: Sequence[Any]) -> list[Any]:
            pairs = zip(names, shapes, strict=True)
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in pairs]

        outputs = ends(self.outputs, [None] * len(self.outputs))
        inputs = ends(list(self.inputs), list(self.inputs.values()))
        graph = helper.make_graph(self._nodes, "kernel", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        serialized: bytes = model.SerializeToString()
        return serialized


def onnx_kernel(kernel: Kernel, times: int) -> Graph:
    """Write `times` copies of a kernel.

    Raises:
        Unsupported: the kind moves data only, or the arithmetic is neither fp32 nor int8.
    """
    if kernel.kind not in _KINDS:
        raise Unsupported(
            f"{kernel.key}: the onnxruntime runner has no kernels of kind {kernel.kind!r}; "
            f"it has {', '.join(_KINDS)}"
        )
    if kernel.dtype not in ("fp32", "int8"):
        raise Unsupported(f"{kernel.key}: the onnxruntime runner has fp32 and int8 alone")
    shapes, write = _KINDS[kernel.kind](kernel)
    graph = Graph({f"x{i}": shape for i, shape in enumerate(shapes)})
    for copy in range(times):
        graph.outputs.append(write(graph, *graph.inputs))
        if copy == 0:
            once = graph.constant_bytes
    graph.constant_bytes = once
    return graph


Written = tuple[list[tuple[int, ...]], Callable[..., str]]


def _linear(kernel: Kernel) -> Written:
    rows, c_in, c_out = kernel.shape

    def write(g: Graph, x: str) -> str:
        if kernel.dtype == "int8":
            product = g.node("MatMul", g.quantized(x), g.codes((c_in, c_out), 1))
        else:
            product = g.node("MatMul", x, g.normal(c_in, c_out))
        return g.node("Add", product, g.normal(c_out))

    return [(rows, c_in)], write


def _conv(kernel: Kernel) -> Written:
    c_in, c_out, taps, stride, groups, side = kernel.shape
    source, before = side * stride, max(0, (taps - stride) // 2)
    after = max(0, taps - stride - before)

    def write(g: Graph, x: str) -> str:
        shape = (c_out, c_in // groups, taps, taps)
        how = {"strides": [stride] * 2, "pads": [before] * 2 + [after] * 2, "group": groups}
        if kernel.dtype == "fp32":
            return g.node("Conv", x, g.normal(*shape), g.normal(c_out), **how)
        # fused to integers only without a float bias, and with a rounded output
        return g.quantized(g.node("Conv", g.quantized(x), g.codes(shape, 0), **how))

    return [(1, c_in, source, source)], write


def _conv_transpose(kernel: Kernel) -> Written:
    c_in, c_out, taps, _, _, side = kernel.shape

    def write(g: Graph, x: str) -> str:
        shape = (c_in, c_out, taps, taps)
        integer = kernel.dtype == "int8"
        x, weight = (g.quantized(x), g.codes(shape, 1)) if integer else (x, g.normal(*shape))
        return g.node("ConvTranspose", x, weight, g.normal(c_out), strides=[taps, taps])

    return [(1, c_in, side, side)], write


def _matmul(kernel: Kernel) -> Written:
    batch, rows, inner, columns = kernel.shape

    def write(g: Graph, a: str, b: str) -> str:
        if kernel.dtype == "int8":
            a, b = g.quantized(a), g.quantized(b)
        return g.node("MatMul", a, b)

    return [(batch, rows, inner), (batch, inner, columns)], write


def _attention(kernel: Kernel) -> Written:
    windows, heads, side, dim = kernel.shape
    tokens = side * side

    def write(g: Graph, qkv: str) -> str:
        apart = g.node("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        q, k, v = (
            g.node("Gather", apart, g.constant(np.array(i, np.int64)), axis=0) for i in range(3)
        )
        q = g.quantized(q) if kernel.dtype == "int8" else q
        maps = g.node("Reshape", q, g.integers(windows, heads, side, side, dim))
        added = g.node("Reshape", _relative(g, maps, side, dim),
                       g.integers(windows, heads, tokens, tokens))  # fmt: skip
        return g.node("Transpose", _attended(g, kernel, q, k, v, added), perm=[0, 2, 1, 3])

    return [(windows, tokens, 3, heads, dim)], write


def _relative(g: Graph, maps: str, side: int, dim: int) -> str:
    """Products of queries with both position tables, by vertical and horizontal distance."""
    distance = np.arange(side)[:, None] - np.arange(side)[None, :] + side - 1
    found = []
    for axis, swap in ((5, None), (4, [0, 1, 3, 2, 4])):
        table = 0.1 * g.rng.standard_normal((2 * side - 1, dim), np.float32)
        turned = maps if swap is None else g.node("Transpose", maps, perm=swap)
        product = g.node("MatMul", turned, g.constant(table[distance].transpose(0, 2, 1).copy()))
        back = product if swap is None else g.node("Transpose", product, perm=swap)
        found.append(g.node("Unsqueeze", back, g.integers(axis)))
    return g.node("Add", *found)


def _attended(g: Graph, kernel: Kernel, q: str, k: str, v: str, added: str | None) -> str:
    """softmax(q k' / sqrt(d) + added) v; `q` is quantized already where the kernel is integer."""

    def rounded(x: str) -> str:
        return g.quantized(x) if kernel.dtype == "int8" else x

    turned = rounded(g.node("Transpose", k, perm=[0, 1, 3, 2]))
    scale = g.constant(np.array(kernel.shape[-1] ** -0.5, np.float32))
    scores = g.node("Mul", g.node("MatMul", q, turned), scale)
    scores = scores if added is None else g.node("Add", scores, added)
    return g.node("MatMul", rounded(g.node("Softmax", scores, axis=-1)), rounded(v))


def _cross_attention(kernel: Kernel) -> Written:
    heads, queries, keys, dim = kernel.shape

    def write(g: Graph, *x: str) -> str:
        q, k, v = (g.node("Transpose", part, perm=[0, 2, 1, 3]) for part in x)
        q = g.quantized(q) if kernel.dtype == "int8" else q
        return g.node("Transpose", _attended(g, kernel, q, k, v, None), perm=[0, 2, 1, 3])

    return [(1, n, heads, dim) for n in (queries, keys, keys)], write


def _norm(kernel: Kernel) -> Written:
    rows, channels = kernel.shape

    def write(g: Graph, x: str) -> str:
        return g.node("LayerNormalization", x, g.normal(channels), g.normal(channels), axis=-1)

    return [(rows, channels)], write


def _plain(op: str, operands: int = 1, **attributes: Any) -> Callable[[Kernel], Written]:
    def of(kernel: Kernel) -> Written:
        def write(g: Graph, *x: str) -> str:
            return g.node(op, *x, **attributes)

        return [kernel.shape] * operands, write

    return of


_KINDS: Final[dict[str, Callable[[Kernel], Written]]] = {
    "linear": _linear,
    "conv": _conv,
    "dwconv": _conv,
    "conv_transpose": _conv_transpose,
    "matmul": _matmul,
    "attention": _attention,
    "cross_attention": _cross_attention,
    "norm": _norm,
    "softmax": _plain("Softmax", axis=-1),
    "gelu": _plain("Gelu"),
    "relu": _plain("Relu"),
    "add": _plain("Add", 2),
}
