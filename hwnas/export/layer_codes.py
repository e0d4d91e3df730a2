"""A layer of a subnet as integers: codes of the weight, scales, and the grid of its input.

One form for every target, read off the layers that the supernet runs. Input codes are centered:
q = round((x - shift) / scale), clamped to -128 .. highest - 128, with shift = offset + 128 scale,
so that the zero point is 0 for every target; our learned offsets are real numbers, which no integer
zero point could stand for. With that y = q W' * factor + bias, the arithmetic of
`hwnas.quant.linear.IntegerLinear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.quant.linear import ActivationGrid, FakeLinear, FloatLinear, IntegerLinear
from hwnas.supernet.neck_conv import FloatConv, IntegerConv

__all__ = ["CENTER", "CodedLayer", "CodedTable", "InputGrid", "coded", "coded_table"]

CENTER = 128
_HIGHEST = 255  # of 8 bits

Float = NDArray[np.float32]


@dataclass(frozen=True)
class InputGrid:
    """Grid of an input: `scale`, `shift` of the centered codes, and the highest of them."""

    scale: float
    shift: float
    highest: int  # 127 at 8 bits; less, and the codes must be clipped

    @classmethod
    def of(cls, grid: ActivationGrid) -> InputGrid:
        """Center the codes of a grid."""
        return cls(grid.scale, grid.offset + CENTER * grid.scale, grid.highest - CENTER)

    @property
    def clipped(self) -> bool:
        """Whether the saturation of int8 does not do it."""
        return self.highest < _HIGHEST - CENTER


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """Weight (O, I) as int8 codes, or as float32 where the layer is in floating point.

    `scale` (O,) belongs to the codes; None in floating point. `bias` (O,) or (M, O) holds the
    share of the input's shift. `grid` is None where the input is not quantized.
    """

    weight: NDArray[np.int8] | Float
    scale: Float | None
    bias: Float
    grid: InputGrid | None


@dataclass(frozen=True, eq=False)
class CodedTable:
    """Relative positions (2 S - 1, head_dim), int8 codes with their scale, or float32 with None."""

    values: NDArray[np.int8] | Float
    scale: float | None


def coded(layer: object, name: str) -> CodedLayer:
    """Read a layer of a subnet; `name` is for the message.

    Raises:
        ConfigError: the layer computes in fake-quantized floating point, which has no codes.
    """
    if isinstance(layer, (IntegerLinear, IntegerConv)):
        grid = InputGrid.of(layer.grid)
        scale = layer.factor / layer.grid.scale
        return CodedLayer(_array(layer.weight), _array(scale), _array(layer.bias), grid)
    if isinstance(layer, FloatLinear):
        bias, found = layer.bias, layer.grid
        if found is None:
            return CodedLayer(_array(layer.weight), None, _array(bias), None)
        grid = InputGrid.of(found)
        bias = bias + grid.shift * layer.weight.sum(dim=1)
        return CodedLayer(_array(layer.weight), None, _array(bias), grid)
    if isinstance(layer, FloatConv) and layer.grid is None:
        columns = layer.weight.permute(0, 2, 3, 1).flatten(1)  # (O, 9 C), as IntegerConv has them
        return CodedLayer(_array(columns), None, np.zeros(len(columns), np.float32), None)
    kind = "fake-quantized" if isinstance(layer, (FakeLinear, FloatConv)) else "unknown"
    raise ConfigError(
        f"{name}: a {kind} layer ({type(layer).__name__}) has no integer codes to export; expected "
        "a subnet of integer layers, as a CPU with exact int8 products builds it"
    )


def coded_table(table: torch.Tensor, *, quantized: bool) -> tuple[CodedTable, CodedTable]:
    """Height and width tables of `by_offset`, reversed back to ascending offsets."""
    height, width = (part.flip(0) for part in table.chunk(2))
    if not quantized:
        return CodedTable(_array(height), None), CodedTable(_array(width), None)
    return _codes_of(height), _codes_of(width)


def _codes_of(table: torch.Tensor) -> CodedTable:
    """Undo `quantize_table`: its largest entry has the code 127 or -127."""
    scale = float(table.abs().amax()) / (_HIGHEST - CENTER)
    if scale == 0:
        return CodedTable(np.zeros(table.shape, np.int8), 1.0)
    return CodedTable(_array((table / scale).round().to(torch.int8)), scale)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return array
