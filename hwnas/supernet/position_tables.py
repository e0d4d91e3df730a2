"""Relative-position tables at any grid, in the two layouts that attention reads."""

from __future__ import annotations

import torch
from torch.nn import functional

from hwnas.quant.bits import EDGE_BITS, signed_codes
from hwnas.quant.lsq import SMALLEST_SCALE

__all__ = ["by_offset", "by_pair", "quantize_table", "resize_table"]


def resize_table(table: torch.Tensor, side: int) -> torch.Tensor:
    """Resize a table (2S - 1, head_dim) to (2 side - 1, head_dim), linearly along its length.

    The stock function of segment_anything (`get_rel_pos`); the table itself where sizes agree.
    """
    rows = 2 * side - 1
    if len(table) == rows:
        return table
    return functional.interpolate(table.t()[None], size=rows, mode="linear")[0].t()


def quantize_table(table: torch.Tensor) -> torch.Tensor:
    """Fake-quantize a table to 8 bits, symmetric, one scale: max|x| / 127."""
    _, highest = signed_codes(EDGE_BITS)
    scale = table.abs().amax().clamp_min(SMALLEST_SCALE) / highest
    return (table / scale).round() * scale


def by_pair(table: torch.Tensor) -> torch.Tensor:
    """Rows for each query and key coordinate: (S, S, head_dim), [i, j] = table[i - j + S - 1]."""
    side = (len(table) + 1) // 2
    at = torch.arange(side, device=table.device)
    return table[at[:, None] - at[None] + side - 1]


def by_offset(height: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Both tables reversed, one above the other: (2 (2 S - 1), head_dim).

    A query at coordinate i finds its keys 0 .. S - 1 in the consecutive rows from S - 1 - i on,
    so one product of all queries with this matrix holds every relative term.
    """
    return torch.cat([height.flip(0), width.flip(0)]).contiguous()
