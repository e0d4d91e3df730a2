"""Activation grids normalized by the extremes of the batch, for the QFA-style baseline.

Source: Bai et al., "BatchQuant: Quantized-for-all Architecture Search with Robust Quantizer"
(2021): q = clamp(round(x softplus(a) / s + z + o), 0, Q), s = (max - min) / Q and z = -min / s
of the batch, a and o learned, running extremes in evaluation. Gradients of a and o carry LSQ's
1 / sqrt(N Q), which the paper does not say; none flows into the extremes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from hwnas.quant.bits import unsigned_codes
from hwnas.quant.lsq import SMALLEST_SCALE

__all__ = ["NEUTRAL", "BatchRange", "normalized_range"]

NEUTRAL = (0.5413248546129181, 0.0)  # softplus(a) = 1 and o = 0: plain minimum and maximum
_MOMENTUM = 0.1


def normalized_range(
    extremes: torch.Tensor, learned: torch.Tensor, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset, of shape (), from minimum and maximum (2,) and from a and o (2,)."""
    low, high = extremes
    step = ((high - low) / unsigned_codes(bits)[1]).clamp_min(SMALLEST_SCALE)
    scale = step / functional.softplus(learned[0])
    return scale, (low / step - learned[1]) * scale


@dataclass(frozen=True)
class BatchRange:
    """Scale and offset of an input from its own extremes, which `running` (2,) follows."""

    learned: torch.Tensor
    running: torch.Tensor
    bits: int

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        extremes = torch.stack(x.detach().aminmax()).to(self.running.dtype)
        self.running.lerp_(extremes, _MOMENTUM)
        return normalized_range(extremes, self.learned, self.bits)
