"""Square windows of a token map, padded with zeros as segment_anything does."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["merge_windows", "split_windows"]


def split_windows(x: torch.Tensor, side: int) -> torch.Tensor:
    """Cut a map (B, g, g, C) into windows (B·n·n, side·side, C), n = ceil(g / side).

    Zeros fill up the bottom and the right. `side` 0 keeps the map whole: (B, g·g, C).
    """
    b, g, _, c = x.shape
    if side == 0:
        return x.reshape(b, g * g, c)
    n = -(-g // side)
    if n * side != g:
        x = functional.pad(x, (0, 0, 0, n * side - g, 0, n * side - g))
    x = x.view(b, n, side, n, side, c).transpose(2, 3)  # (B, n, n, side, side, C)
    return x.reshape(b * n * n, side * side, c)


def merge_windows(x: torch.Tensor, side: int, grid: int) -> torch.Tensor:
    """Undo `split_windows`: (B, grid, grid, C) with the padding cut off."""
    c = x.shape[-1]
    if side == 0:
        return x.view(-1, grid, grid, c)
    n = -(-grid // side)
    x = x.view(-1, n, n, side, side, c).transpose(2, 3)  # (B, n, side, n, side, C)
    return x.reshape(-1, n * side, n * side, c)[:, :grid, :grid]
