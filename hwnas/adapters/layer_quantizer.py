"""The quantizer of one adapted layer: fixed scales, so that adapters can be exchanged."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from hwnas.quant.bits import require_bits
from hwnas.quant.lsq import quantize_activation
from hwnas.quant.ranges import activation_range, weight_scales

__all__ = ["LayerQuantizer"]


class LayerQuantizer(nn.Module):
    """Bits and grids of a layer: `scale` (O,) of the weight, `range` (2,) of x, scale and offset.

    The scales are of the frozen weight and stay when adapters come and go; otherwise one adapter
    would change the integers that another has not touched. `learned` makes them parameters.
    """

    def __init__(
        self, scale: torch.Tensor, input_range: torch.Tensor, w_bits: int, a_bits: int, *,
        learned: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.w_bits, self.a_bits = require_bits(w_bits), require_bits(a_bits)
        self.scale = nn.Parameter(scale, requires_grad=learned)
        self.range = nn.Parameter(input_range, requires_grad=learned)

    @classmethod
    def of(
        cls, weight: torch.Tensor, inputs: torch.Tensor, w_bits: int, a_bits: int, *,
        learned: bool = False,
    ) -> Self:  # fmt: skip
        """Grids with the least squared error for a weight (O, I) and a sample of x."""
        scale = weight_scales(weight, w_bits)
        found = torch.stack(activation_range(inputs, a_bits))
        return cls(scale, found, w_bits, a_bits, learned=learned)

    def quantize_input(self, x: torch.Tensor) -> torch.Tensor:
        """Fake-quantize x (..., I) on its grid."""
        scale, offset = self.range
        return quantize_activation(x, scale, offset, self.a_bits, elements=x[0].numel())
