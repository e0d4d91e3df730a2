"""Linear layers of a subnet as callables for inference: float, fake-quantized and integer.

All take x (..., I) and return (..., O). Their weights are prepared once for each (bits, slice)
and applied many times; `merged.py` holds the trainable one. `quantized_linear` chooses between
the integer and the fake-quantized form; they differ by the rounding of float32 sums only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from hwnas.quant.bits import signed_codes, unsigned_codes
from hwnas.quant.integer import integer_matmul, integer_products_exact
from hwnas.quant.lsq import positive

__all__ = [
    "ActivationGrid",
    "FakeLinear",
    "FloatLinear",
    "IntegerLinear",
    "QuantizedWeight",
    "integer_codes",
    "quantized_linear",
]

_CENTER = 128  # int8 holds the unsigned codes minus 128


@dataclass(frozen=True)
class ActivationGrid:
    """The grid of an activation: x^ = scale * code + offset, codes 0 to highest."""

    scale: float
    offset: float
    highest: int

    @classmethod
    def of(cls, scale: torch.Tensor, offset: torch.Tensor, bits: int) -> ActivationGrid:
        return cls(float(positive(scale)), float(offset), unsigned_codes(bits)[1])

    def codes(self, x: torch.Tensor, *, center: int = 0) -> torch.Tensor:
        """round(clamp((x - offset) / scale, 0, highest)) - center, as float32.

        The new tensor is changed in place; x is not.
        """
        shift = torch.full((), -self.offset / self.scale - center, device=x.device)
        codes = torch.add(shift, x, alpha=1.0 / self.scale)
        return codes.round_().clamp_(-center, self.highest - center)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """Fake-quantize x."""
        return self.codes(x).mul_(self.scale).add_(self.offset)


@dataclass(frozen=True)
class FloatLinear:
    """x W' + bias with an optional grid for x; W may be fake-quantized already."""

    weight: torch.Tensor  # (O, I)
    bias: torch.Tensor  # (O,)
    grid: ActivationGrid | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.grid is None else self.grid.quantize(x)
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class FakeLinear:
    """scale * (codes(x) W^') + bias in float32, the offset of x folded into the bias."""

    weight: torch.Tensor  # (O, I), fake-quantized
    bias: torch.Tensor  # (O,) or (M, O), with offset * sum of the row
    grid: ActivationGrid

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.grid.codes(x).flatten(0, -2)
        y = torch.addmm(self.bias, codes, self.weight.t(), alpha=self.grid.scale)
        return y.view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class IntegerLinear:
    """factor * (int8 codes of x times int8 codes of W) + bias, accumulated in int32."""

    weight: torch.Tensor  # (O, I) int8
    factor: torch.Tensor  # (O,), scale of x times scale of each row
    bias: torch.Tensor  # (O,) or (M, O), with (offset + 128 scale) * sum of the row
    grid: ActivationGrid

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.grid.codes(x, center=_CENTER).to(torch.int8)
        return self.apply(codes.flatten(0, -2)).view(*x.shape[:-1], -1)

    def apply(self, codes: torch.Tensor) -> torch.Tensor:
        """The layer on codes (M, I) int8 that are centered already."""
        sums = integer_matmul(codes, self.weight).float()
        return torch.addcmul(self.bias, sums, self.factor, out=sums)


@dataclass(frozen=True)
class QuantizedWeight:
    """Codes (O, I) int8, scales (O,) and the sum of each dequantized row (O,)."""

    codes: torch.Tensor
    scale: torch.Tensor
    row_sum: torch.Tensor

    @classmethod
    def of(cls, codes: torch.Tensor, scale: torch.Tensor) -> QuantizedWeight:
        return cls(codes, scale, codes.sum(dim=1, dtype=torch.int32) * scale)


def integer_codes(
    weight: torch.Tensor, scale: torch.Tensor, bits: int, *, centered: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (O, I) int8 and scales (O,) whose product is the fake-quantized weight.

    The centered grid of 2 bits, s (floor(v) + 0.5), is the odd codes -3 to 3 with s / 2.
    """
    lowest, highest = signed_codes(bits)
    v = weight / scale[:, None]
    if centered:
        codes = v.floor_().clamp_(lowest, highest).mul_(2).add_(1)
        return codes.to(torch.int8), scale / 2
    return v.round_().clamp_(lowest, highest).to(torch.int8), scale.clone()


def quantized_linear(
    weight: QuantizedWeight,
    bias: torch.Tensor,
    grid: ActivationGrid,
    *,
    integer: bool | None = None,
) -> FakeLinear | IntegerLinear:
    """A layer from a quantized weight, bias (O,) and the grid of x.

    Integer arithmetic where it is exact on this machine, unless `integer` decides.
    """
    codes, scale = weight.codes, weight.scale
    exact = codes.device.type == "cpu" and integer_products_exact()
    if exact if integer is None else integer:
        folded = bias + (grid.offset + _CENTER * grid.scale) * weight.row_sum
        return IntegerLinear(codes, scale * grid.scale, folded, grid)
    return FakeLinear(codes * scale[:, None], bias + grid.offset * weight.row_sum, grid)
