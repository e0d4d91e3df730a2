"""The volume that a set of points dominates, up to a reference point (minimization)."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.search.dominance import non_dominated

__all__ = ["hypervolume"]

FloatArray = NDArray[np.float64]


def hypervolume(f: ArrayLike, ref_point: ArrayLike) -> float:
    """Lebesgue measure of the union of the boxes [row, ref_point].

    Exact for any number of objectives: a length, a staircase, a sweep over staircases (Fonseca,
    Paquete and Lopez-Ibanez 2006, without their balanced tree), and above three objectives the
    exclusive-volume recursion of WFG (While, Bradstreet and Barone 2012), which is exponential in
    the number of objectives. Rows that do not beat the reference point everywhere add nothing.

    Args:
        f: (n, n_obj) values, smaller is better.
        ref_point: (n_obj,).

    Raises:
        ValueError: the shapes do not match, or a number is not a number.
    """
    ref = np.asarray(ref_point, dtype=np.float64)
    points = np.asarray(f, dtype=np.float64)
    if points.size == 0:
        points = points.reshape(0, len(ref))
    if points.ndim != 2 or points.shape[1] != len(ref) or len(ref) == 0:
        raise ValueError(
            f"f has shape {points.shape} and ref_point {ref.shape}; expected (n, m), (m,)"
        )
    if np.isnan(points).any() or np.isnan(ref).any():
        raise ValueError("f or ref_point holds NaN; expected numbers")
    points = points[(points < ref).all(axis=1)]
    if len(points) == 0:
        return 0.0
    return _volume(points[non_dominated(points)], ref)


def _volume(front: FloatArray, ref: FloatArray) -> float:
    if len(ref) == 1:
        return float(ref[0] - front.min())
    if len(ref) == 2:
        return _area(front, ref)
    if len(ref) == 3:
        return _sweep(front, ref)
    return _recursion(front, ref)


def _area(front: FloatArray, ref: FloatArray) -> float:
    stairs = front[np.argsort(front[:, 0], kind="stable")]
    heights = np.concatenate(([ref[1]], stairs[:-1, 1])) - stairs[:, 1]
    return float(((ref[0] - stairs[:, 0]) * heights).sum())


def _sweep(front: FloatArray, ref: FloatArray) -> float:
    """Add points from the lowest third coordinate up; keep the area of their (x, y) staircase."""
    xs, ys = [-np.inf, float(ref[0])], [float(ref[1]), -np.inf]  # sentinels at both ends
    area = volume = 0.0
    rows = front[np.lexsort((front[:, 0], front[:, 2]))].tolist()
    heights = [row[2] for row in rows[1:]] + [float(ref[2])]
    for (x, y, z), z_next in zip(rows, heights, strict=True):
        area += _step(xs, ys, x, y)
        volume += area * (z_next - z)
    return float(volume)


def _step(xs: list[float], ys: list[float], x: float, y: float) -> float:
    """Put (x, y) into the staircase; return the area that it adds.

    `xs` ascends while `ys` descends; entry i covers x >= xs[i], y >= ys[i].
    """
    at = bisect_left(xs, x)
    if ys[at - 1] <= y or (xs[at] == x and ys[at] <= y):
        return 0.0
    end, left, top, added = at, x, ys[at - 1], 0.0
    while ys[end] >= y:
        added += (xs[end] - left) * (top - y)
        left, top = xs[end], ys[end]
        end += 1
    added += (xs[end] - left) * (top - y)
    xs[at:end] = [x]
    ys[at:end] = [y]
    return added


def _recursion(front: FloatArray, ref: FloatArray) -> float:
    front = front[np.argsort(-front[:, -1], kind="stable")]
    total = 0.0
    for i, point in enumerate(front):
        own = float(np.prod(ref - point))
        rest = np.maximum(front[i + 1 :], point)
        if len(rest):
            own -= _volume(rest[non_dominated(rest)], ref)
        total += own
    return total
