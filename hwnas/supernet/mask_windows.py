"""Masks of the original size, computed only where they can be set.

`transforms.postprocess` resizes mask logits twice, to the input and to the image. Both resizes are
separable and linear, so one matrix along each axis does the same; and as its rows are averages,
a pixel can be set only near a positive logit. Outside that window nothing is computed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hwnas.data.transforms import fit_size

__all__ = ["windowed_masks"]

Window = tuple[slice, slice]


def windowed_masks(
    logits: torch.Tensor, size: tuple[int, int]
) -> list[tuple[NDArray[np.bool_], Window]]:
    """The masks of n logit maps (n, s, s), s = R/4, at the original `size`, each in its window.

    Equal to `postprocess(logits, size) > 0`, which is empty outside of the windows, up to rounding
    of logits that are zero.
    """
    side = logits.shape[-1]
    rows, columns = (_axis(n, max(size), side) for n in size)
    found = []
    positive = (logits > 0).cpu()
    maps = logits.float().cpu().numpy()
    across, down = positive.any(1).numpy(), positive.any(2).numpy()  # (n, s): columns, rows
    for one, has_row, has_column in zip(maps, down, across, strict=True):
        if not has_row.any():
            found.append((np.zeros((0, 0), dtype=np.bool_), (slice(0, 0), slice(0, 0))))
            continue
        (y, top), (x, left) = _reach(has_row, rows), _reach(has_column, columns)
        picked = rows.matrix[y, top] @ one[top, left] @ columns.matrix[x, left].T
        found.append((picked > 0, (y, x)))
    return found


class _Axis:
    """The matrix (n, s) from logits to pixels of one axis, and which pixels each logit reaches."""

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self.matrix = matrix
        used = matrix != 0
        n = len(matrix)
        self.first = np.where(used.any(0), used.argmax(0), n)  # (s,): first pixel of each logit
        self.last = np.where(used.any(0), n - used[::-1].argmax(0), 0)
        self.low = used.argmax(1)  # (n,): first logit of each pixel
        self.high = used.shape[1] - used[:, ::-1].argmax(1)


@lru_cache(maxsize=256)
def _axis(length: int, long_side: int, side: int) -> _Axis:
    resolution = side * 4
    inside = fit_size(length, long_side, resolution)[0]
    full = functional.interpolate(
        torch.eye(side)[None], resolution, mode="linear", align_corners=False
    )[..., :inside]
    if inside != length:
        full = functional.interpolate(full, length, mode="linear", align_corners=False)
    return _Axis(np.ascontiguousarray(full[0].T.numpy()))


def _reach(has: NDArray[np.bool_], axis: _Axis) -> tuple[slice, slice]:
    """Pixels that positive logits reach, and all logits that these pixels are made of."""
    at = np.flatnonzero(has)
    start, stop = int(axis.first[at[0] :].min()), int(axis.last[: at[-1] + 1].max())
    if start >= stop:  # positive in the padding only
        return slice(0, 0), slice(0, 0)
    return slice(start, stop), slice(int(axis.low[start]), int(axis.high[stop - 1]))
