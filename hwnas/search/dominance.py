"""Which rows of a matrix no other row dominates (minimization)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["non_dominated"]

FloatArray = NDArray[np.float64]
_BLOCK = 256


def non_dominated(f: FloatArray) -> NDArray[np.bool_]:
    """Mark the Pareto front of `f`, shape (n, n_obj) -> (n,).

    Row a dominates row b if a <= b everywhere and a < b somewhere. Of equal rows only the first
    counts, so a front holds each point once.

    Sorted lexicographically, a row can only be dominated by an earlier one; rows are compared with
    the front found so far, a block at a time.
    """
    n = len(f)
    keep = np.zeros(n, dtype=np.bool_)
    if n == 0:
        return keep
    order = np.lexsort((np.arange(n), *f.T[::-1]))
    if f.shape[1] <= 2:
        last = f[order, -1]
        best_before = np.concatenate(([np.inf], np.minimum.accumulate(last)[:-1]))
        keep[order[last < best_before]] = True
        return keep
    front = np.empty((0, f.shape[1]))
    for start in range(0, n, _BLOCK):
        rows = order[start : start + _BLOCK]
        rows = rows[~_weakly_dominated(f[rows], front)]
        block = f[rows]
        beaten = (block[None, :, :] <= block[:, None, :]).all(axis=2)
        alone = ~np.tril(beaten, k=-1).any(axis=1)  # by an earlier row of the block
        keep[rows[alone]] = True
        front = np.concatenate((front, block[alone]))
    return keep


def _weakly_dominated(block: FloatArray, front: FloatArray) -> NDArray[np.bool_]:
    result = np.zeros(len(block), dtype=np.bool_)
    for start in range(0, len(front), 4 * _BLOCK):
        part = front[start : start + 4 * _BLOCK]
        smaller = part[None, :, 0] <= block[:, None, 0]
        for column in range(1, block.shape[1]):
            smaller &= part[None, :, column] <= block[:, None, column]
        result |= smaller.any(axis=1)
    return result
