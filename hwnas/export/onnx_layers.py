"""Linear layers, norms and quantizers of an exported graph, in the QuantizeLinear form.

A quantized product is a MatMul of two DequantizeLinear, one after the QuantizeLinear of x - shift,
one after an int8 weight with a scale for each output, all with zero points of 0: what ONNX Runtime,
OpenVINO and TensorRT turn into an integer product. Where a norm comes before it, the shift is part
of the norm's bias.

Weights of 4 bits and fewer can be stored as INT4. ONNX Runtime does not fuse an INT4
DequantizeLinear with int8 activations; a Cast to int8 before it is folded away when a session
starts, and the product stays an integer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from hwnas.export.layer_codes import CodedLayer
from hwnas.export.onnx_graph import OnnxGraph
from hwnas.supernet.encoder_view import Norm

__all__ = ["WEIGHT_STORAGE", "GraphStyle", "LayerWriter", "WeightStorage"]

GraphStyle = Literal["onnxruntime", "tensorrt"]
WeightStorage = Literal["int8", "int4"]
WEIGHT_STORAGE: tuple[WeightStorage, ...] = ("int8", "int4")
_INT4 = (-8, 7)

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerWriter:
    """Adds layers to a graph.

    With the style `onnxruntime` codes are reshaped as int8; with `tensorrt` a DequantizeLinear
    follows each QuantizeLinear at once, as its rules (and OpenVINO's) ask for.
    """

    graph: OnnxGraph
    style: GraphStyle = "onnxruntime"
    storage: WeightStorage = "int8"

    @property
    def paired(self) -> bool:
        """Whether nothing may stand between QuantizeLinear and DequantizeLinear."""
        return self.style == "tensorrt"

    def norm(self, norm: Norm, x: str, name: str, *, shift: float = 0.0) -> str:
        """LayerNorm over the last axis, minus a shift."""
        g = self.graph
        weight = g.constant(f"{name}/weight", norm.weight.detach().numpy())
        bias = g.constant(f"{name}/bias", norm.bias.detach().numpy() - np.float32(shift))
        return g.node("LayerNormalization", [x, weight, bias], name, epsilon=norm.eps, axis=-1)

    def shifted(self, x: str, shift: float, name: str) -> str:
        """The input minus a shift."""
        if shift == 0:
            return x
        return self.graph.node("Sub", [x, self.graph.constant(f"{name}/shift", shift)], name)

    def codes(
        self, x: str, scale: float, name: str, *, bounds: tuple[int, int] = (-128, 127),
        unsigned: bool = False,
    ) -> str:  # fmt: skip
        """Codes of x with zero point 0, clipped first where the type's own range is wider."""
        g = self.graph
        lowest, highest = (0, 255) if unsigned else (-128, 127)
        low = "" if bounds[0] == lowest else g.constant(f"{name}/low", bounds[0] * scale)
        high = "" if bounds[1] == highest else g.constant(f"{name}/high", bounds[1] * scale)
        if low or high:
            x = g.node("Clip", [x, low, high] if high else [x, low], f"{name}/clip")
        zero = np.zeros((), np.uint8 if unsigned else np.int8)
        ends = [g.constant(f"{name}/scale", scale), g.constant(f"{name}/zero", zero)]
        return g.node("QuantizeLinear", [x, *ends], name)

    def values(self, codes: str, scale: float, name: str, *, unsigned: bool = False) -> str:
        """Codes times their scale."""
        g = self.graph
        zero = np.zeros((), np.uint8 if unsigned else np.int8)
        ends = [g.constant(f"{name}/scale", scale), g.constant(f"{name}/zero", zero)]
        return g.node("DequantizeLinear", [codes, *ends], name)

    def quantized(
        self, x: str, scale: float, name: str, *, bounds: tuple[int, int],
        moves: Sequence[Move] = (),
    ) -> str:  # fmt: skip
        """Quantize x and move it to where a product reads it as its first operand."""
        if self.paired:
            x = self.moved(x, moves, name)
            codes = self.codes(x, scale, f"{name}/codes", bounds=bounds)
            return self.values(codes, scale, f"{name}/values")
        codes = self.codes(x, scale, f"{name}/codes", bounds=bounds)
        return self.operand(codes, scale, name, moves)

    def operand(self, codes: str, scale: float, name: str, moves: Sequence[Move] = ()) -> str:
        """The first operand of a product, from codes that are moved as int8.

        ONNX Runtime 1.31 fuses a product only where a QuantizeLinear with no other reader comes
        right before the DequantizeLinear of its first operand. So the last move is made on
        values, between two such pairs.
        """
        if not moves:
            return self.values(codes, scale, f"{name}/values")
        codes = self.moved(codes, moves[:-1], name)
        last = self.values(codes, scale, f"{name}/before")
        last = self.moved(last, moves[-1:], f"{name}/last")
        return self.values(self.codes(last, scale, f"{name}/moved"), scale, f"{name}/values")

    def moved(self, value: str, moves: Sequence[Move], name: str) -> str:
        """Apply reshapes and transpositions."""
        for step, move in enumerate(moves):
            value = move.add(self.graph, value, f"{name}/move{step}")
        return value

    def product(
        self, x: str, layer: CodedLayer, name: str, *, units: Array | None = None,
        add: Array | None = None,
    ) -> str:  # fmt: skip
        """Product of x (1, T, I) and the weight, plus bias: (1, T, O).

        `units` (O,) divide each output; `add` (T, O) is a further constant.
        """
        g = self.graph
        bias: Array = layer.bias if add is None else layer.bias + add
        y = g.node("MatMul", [x, self._weight(layer, name, units)], f"{name}/product")
        if not bias.any():
            return y
        bias = bias if units is None else bias / units
        # three axes: ONNX Runtime makes a floating-point Gemm of a product and a bias with fewer
        bias = bias[None, None] if bias.ndim == 1 else bias[None]
        return g.node("Add", [y, g.constant(f"{name}/bias", bias)], name)

    def _weight(self, layer: CodedLayer, name: str, units: Array | None) -> str:
        g, weight = self.graph, np.ascontiguousarray(layer.weight.T)
        if layer.scale is None:
            return g.constant(f"{name}/weight", weight if units is None else weight / units)
        scale = layer.scale if units is None else layer.scale / units
        stored = self._stored(weight, f"{name}/weight")
        inputs = [stored, g.constant(f"{name}/weight/scale", scale)]
        return g.node("DequantizeLinear", inputs, f"{name}/weight/values", axis=1)

    def _stored(self, codes: Array, name: str) -> str:
        fits = _INT4[0] <= int(codes.min()) and int(codes.max()) <= _INT4[1]
        if self.storage == "int8" or not fits:
            return self.graph.constant(name, codes)
        packed = self.graph.constant(f"{name}/packed", codes.astype(ml_dtypes.int4))
        return self.graph.node("Cast", [packed], name, to=TensorProto.INT8)


@dataclass(frozen=True)
class Move:
    """A reshape, a transposition, or a crop of a map to its first rows and columns."""

    kind: Literal["reshape", "transpose", "crop"]
    numbers: tuple[int, ...]

    def add(self, graph: OnnxGraph, value: str, name: str) -> str:
        """Add it to a graph."""
        if self.kind == "reshape":
            return graph.reshape(value, self.numbers, name)
        if self.kind == "transpose":
            return graph.transpose(value, self.numbers, name)
        return graph.slice(value, (0, 0), self.numbers, (1, 2), name)
