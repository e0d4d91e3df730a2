"""The 3 x 3 convolution of the neck on channels-last maps, in each arithmetic.

Zeros pad the map after quantization. Zero need not be on the input's grid, so the integer form
gives the border its own share of the offset: a bias for each position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from hwnas.quant.integer import integer_matmul
from hwnas.quant.linear import ActivationGrid
from hwnas.quant.lsq import quantize_activation
from hwnas.quant.merged import RangeOf, range_of

__all__ = ["FloatConv", "IntegerConv", "TrainableConv", "integer_conv"]

_KERNEL = 3
_CENTER = 128


@dataclass(frozen=True)
class FloatConv:
    """Convolution of maps (B, g, g, C) in float32; `weight` (O, C, 3, 3) has no bias."""

    weight: torch.Tensor
    grid: ActivationGrid | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.grid is None else self.grid.quantize(x)
        return _conv(x, self.weight)


@dataclass(frozen=True)
class TrainableConv:
    """LSQ+ on the input, then the convolution with a weight that is quantized already."""

    weight: torch.Tensor
    input_range: torch.Tensor | RangeOf
    bits: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        scale, offset = range_of(self.input_range, x)
        x = quantize_activation(x, scale, offset, self.bits, elements=x[0].numel())
        return _conv(x, self.weight)


@dataclass(frozen=True)
class IntegerConv:
    """The same on int8 codes: one integer product with the 9 C inputs of every position."""

    weight: torch.Tensor  # (O, 9 C) int8; columns ordered kernel row, kernel column, channel
    factor: torch.Tensor  # (O,)
    bias: torch.Tensor  # (g·g, O)
    grid: ActivationGrid

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        b, g, _, c = x.shape
        codes = self.grid.codes(x, center=_CENTER).to(torch.int8)
        codes = functional.pad(codes, (0, 0, 1, 1, 1, 1))
        windows = codes.unfold(1, _KERNEL, 1).unfold(2, _KERNEL, 1)  # (B, g, g, C, 3, 3)
        columns = windows.permute(0, 1, 2, 4, 5, 3).reshape(b * g * g, _KERNEL**2 * c)
        sums = integer_matmul(columns, self.weight).float().view(b, g * g, -1)
        return torch.addcmul(self.bias, sums, self.factor, out=sums).view(b, g, g, -1)


def integer_conv(
    codes: torch.Tensor, scale: torch.Tensor, grid: ActivationGrid, side: int
) -> IntegerConv:
    """An integer convolution from codes (O, C, 3, 3) int8 and scales (O,), at a grid of `side`."""
    by_tap = codes.sum(dim=1, keepdim=True, dtype=torch.int32) * scale.view(-1, 1, 1, 1)
    ones = torch.ones(1, 1, side, side)
    valid = functional.conv2d(ones, by_tap, padding=1)[0]  # (O, g, g)
    bias = valid.flatten(1).t() * (grid.offset + _CENTER * grid.scale)
    columns = codes.permute(0, 2, 3, 1).flatten(1).contiguous()
    return IntegerConv(columns, scale * grid.scale, bias.contiguous(), grid)


def _conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)
