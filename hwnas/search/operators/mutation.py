"""Steps along ordered choices, fresh options for unordered ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mutate"]

IntArray = NDArray[np.int64]

STEP = 0.6  # geometric: the share of one-option steps among ordered mutations


def mutate(
    x: IntArray,
    sizes: IntArray,
    ordered: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    rate: float = 1.0,
) -> IntArray:
    """Change about `rate` variables of each row of x, (n, n_var), and at least one.

    An ordered variable moves up or down by a geometric number of options, reflected at the ends; an
    unordered one takes any of its other options, all equally likely. No mutation leaves a chosen
    variable as it is.
    """
    n, n_var = x.shape
    if n_var == 0 or n == 0:
        return x.copy()
    chosen = rng.random((n, n_var)) < rate / n_var
    chosen[np.arange(n), rng.integers(0, n_var, n)] |= ~chosen.any(axis=1)
    rows, columns = np.nonzero(chosen)
    old, size = x[rows, columns], sizes[columns]
    other = rng.integers(0, size - 1, len(rows))
    jumped = other + (other >= old)
    distance = np.minimum(rng.geometric(STEP, len(rows)), size - 1)
    stepped = _walk(old, np.where(rng.random(len(rows)) < 0.5, distance, -distance), size)
    out = x.copy()
    out[rows, columns] = np.where(ordered[columns], stepped, jumped)
    return out


def _walk(old: IntArray, step: IntArray, size: IntArray) -> IntArray:
    """Take the step, or the opposite one where it leads out, or as much of it as there is room."""
    inside = (old + step >= 0) & (old + step < size)
    return np.clip(np.where(inside, old + step, old - step), 0, size - 1)
