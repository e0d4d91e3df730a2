"""Scales and offsets from data, by least squares over a grid of candidates.

Source: LSQ+ (Bhalgat et al., 2020) initializes by minimizing the squared error; the grids are
ours. Nothing here is differentiated.
"""

from __future__ import annotations

import torch

from hwnas.quant.bits import signed_codes, unsigned_codes
from hwnas.quant.lsq import SMALLEST_SCALE, quantize_weight

__all__ = ["activation_range", "signed_scale", "weight_scales"]

_MULTIPLES = 40  # candidates 0.2 to 1.0 of the scale that clips nothing
_SHRINKS = 16  # candidates 0.1 to 1.0 for each end of an activation's range
_BINS = 2048
_FINEST = 8  # bits whose grid clips nothing
_PIECE = 1 << 16  # weights tried at a time, so that they stay in the cache of a processor


@torch.no_grad()
def weight_scales(
    weight: torch.Tensor, bits: int, *, centered: bool = False, per_tensor: bool = False
) -> torch.Tensor:
    """Scale (O,) for each output channel of a weight (O, ...), or (1,) for all `per_tensor`.

    8 bits: max|w| / 127. Fewer: per channel the one of 40 multiples, 0.2 to 1.0, of
    max|w| / Qp with the least squared error. A channel of zeros gets the smallest scale.
    """
    flat = weight.reshape(1 if per_tensor else len(weight), -1).float()
    rows = max(1, _PIECE // flat.shape[1])
    return torch.cat([_row_scales(part, bits, centered) for part in torch.split(flat, rows)])


def _row_scales(flat: torch.Tensor, bits: int, centered: bool) -> torch.Tensor:
    _, highest = signed_codes(bits)
    largest = flat.abs().amax(dim=1).clamp_min_(SMALLEST_SCALE * highest) / highest
    if bits == _FINEST:
        return largest
    best_error = torch.full_like(largest, torch.inf)
    best = largest.clone()
    for multiple in torch.linspace(0.2, 1.0, _MULTIPLES).tolist():
        scale = largest * multiple
        quantized = quantize_weight(flat, scale, bits, centered=centered)
        error = quantized.sub_(flat).square_().sum(dim=1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, scale, best)
    return best


@torch.no_grad()
def signed_scale(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Scale of shape () for a signed symmetric grid, from a sample of values of any shape.

    The least squared error among 40 multiples, 0.2 to 1.0, of max|x| / Qp.
    """
    lowest, highest = signed_codes(bits)
    points, counts = _histogram(values)
    largest = values.abs().amax().float().clamp_min(SMALLEST_SCALE * highest) / highest
    scales = torch.linspace(0.2, 1.0, _MULTIPLES) * largest  # (40,)
    codes = (points / scales[:, None]).round_().clamp_(lowest, highest)
    errors = (codes.mul_(scales[:, None]) - points).square_() @ counts
    return scales[errors.argmin()]


@torch.no_grad()
def activation_range(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset, both of shape (), for an asymmetric grid, from a sample of values.

    The range [alpha * min, gamma * max] with the least squared error over a joint grid of 16 x 16
    shrink factors, 0.1 to 1.0; scale = (high - low) / (2^b - 1), offset = low. Where min and max
    have one sign only, the far end shrinks toward zero like any other.
    """
    _, highest = unsigned_codes(bits)
    points, counts = _histogram(values)
    shrink = torch.linspace(0.1, 1.0, _SHRINKS)
    low = (values.amin().float() * shrink).repeat_interleave(_SHRINKS)
    high = (values.amax().float() * shrink).repeat(_SHRINKS)
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    scales = ((high - low) / highest).clamp_min_(SMALLEST_SCALE)[:, None]  # (256, 1)
    codes = ((points - low[:, None]) / scales).round_().clamp_(0, highest)
    errors = codes.mul_(scales).add_(low[:, None]).sub_(points).square_() @ counts
    best = int(errors.argmin())
    return scales[best, 0], low[best].clone()


def _histogram(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the values in each of 2048 equal bins, and how many they are; empty bins left out.

    A bin is at most 1/8 of the finest (8-bit) step over the full range, so the squared error of
    a candidate is that of the values up to a constant.
    """
    flat = values.reshape(-1).float()
    low, high = flat.amin(), flat.amax()
    width = (high - low).clamp_min(torch.finfo(torch.float32).tiny) / _BINS
    index = ((flat - low) / width).long().clamp_(0, _BINS - 1)
    counts = torch.bincount(index, minlength=_BINS).float()
    sums = torch.bincount(index, weights=flat.double(), minlength=_BINS).float()
    used = counts > 0
    return sums[used] / counts[used], counts[used]
