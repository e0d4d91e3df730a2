"""LSQ and LSQ+ by plain autograd: straight-through rounding and scaled gradients."""

from __future__ import annotations

import torch

from hwnas.quant.bits import signed_codes, unsigned_codes
from hwnas.quant.lsq import gradient_scale


def plain_weight(w: torch.Tensor, s: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight (O, I) with a scale for each channel (O,) or for all (1,)."""
    low, high = signed_codes(bits)
    factor = gradient_scale(w.numel() // s.numel(), high)
    used = (s - s * factor).detach() + s * factor
    v = (w / used[:, None]).clamp(low, high)
    return ((v.round() - v).detach() + v) * used[:, None]


def plain_activation(
    x: torch.Tensor, s: torch.Tensor, beta: torch.Tensor, bits: int, elements: int
) -> torch.Tensor:
    """An activation with scalar scale and offset."""
    _, high = unsigned_codes(bits)
    factor = gradient_scale(elements, high)
    s, beta = ((p - p * factor).detach() + p * factor for p in (s, beta))
    v = ((x - beta) / s).clamp(0, high)
    return ((v.round() - v).detach() + v) * s + beta
