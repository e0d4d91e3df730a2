"""An ONNX graph that is put together node by node.

We write the graph ourselves instead of tracing it, because where a QuantizeLinear stands, and what
shape a bias has, decides whether a runtime multiplies integers: ONNX Runtime 1.31 turns a MatMul
with a bias of one axis into a floating-point Gemm, and keeps it an integer product where the bias
has three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwnas.export.exact_codes import exact_codes

__all__ = ["OPSET", "OnnxGraph"]

OPSET = 21  # the first with 4-bit integers
_IR_VERSION = 10  # of opset 21; older runtimes refuse newer files
_TYPES = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}

Array = NDArray[Any]
Shape = Sequence[int | str]


class OnnxGraph:
    """Nodes, constants, inputs and outputs under construction; values are known by their names.

    Names are paths such as `blocks/0/qkv/codes`, so that a runtime's profile can be read, and a
    difference between two runtimes be traced to a layer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._taken: dict[str, int] = {}

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Declare an input; axes that are words may have any length."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return self._unique(name)

    def output(self, value: str, dtype: str, shape: Shape) -> None:
        """Declare a value as an output."""
        self._outputs.append(helper.make_tensor_value_info(value, _TYPES[dtype], list(shape)))

    def constant(self, name: str, array: Array | float) -> str:
        """Store an array; a number becomes a float32 scalar."""
        if not isinstance(array, np.ndarray):
            array = np.asarray(array, dtype=np.float32)
        name = self._unique(name)
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str, array: Array) -> str:
        """Store a float32 weight, as int8 codes and scales where they give it back exactly.

        Codes are multiplied by Cast and Mul, which a runtime folds when a session starts.
        """
        found = exact_codes(array)
        if found is None:
            return self.constant(name, array)
        codes = self.constant(f"{name}/codes", found[0])
        scale = self.constant(f"{name}/scale", found[1])
        values = self.node("Cast", [codes], f"{name}/cast", to=TensorProto.FLOAT)
        return self.node("Mul", [values, scale], name)

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, whose name is that of the node."""
        return self.nodes(operator, inputs, [name], **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs."""
        made = [self._unique(name) for name in names]
        self._nodes.append(
            helper.make_node(operator, list(inputs), made, name=made[0], **attributes)
        )
        return made

    def reshape(self, value: str, shape: Sequence[int], name: str) -> str:
        """Give a value another shape; 0 keeps an axis, -1 is what is left."""
        return self.node("Reshape", [value, self._integers(f"{name}/shape", shape)], name)

    def transpose(self, value: str, order: Sequence[int], name: str) -> str:
        """Reorder axes."""
        return self.node("Transpose", [value], name, perm=list(order))

    def slice(
        self, value: str, starts: Sequence[int], stops: Sequence[int], axes: Sequence[int],
        name: str,
    ) -> str:  # fmt: skip
        """A part of a value along some axes."""
        ends = [
            self._integers(f"{name}/{word}", numbers)
            for word, numbers in (("starts", starts), ("stops", stops), ("axes", axes))
        ]
        return self.node("Slice", [value, *ends], name)

    def model(self, notes: dict[str, str] | None = None) -> onnx.ModelProto:
        """The finished model, which has passed the checker.

        Raises:
            onnx.checker.ValidationError: the graph is no valid one.
        """
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="hwnas")
        model.ir_version = _IR_VERSION
        helper.set_model_props(model, notes or {})
        onnx.checker.check_model(model, full_check=True)
        return model

    def _integers(self, name: str, numbers: Sequence[int]) -> str:
        return self.constant(name, np.array(numbers, dtype=np.int64))

    def _unique(self, name: str) -> str:
        count = self._taken.get(name, 0)
        self._taken[name] = count + 1
        return name if not count else f"{name}.{count}"
