"""Bringing together what was measured several times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_by_name"]

Float = NDArray[np.float64]


def mean_by_name(names: Sequence[str], values: Float) -> tuple[NDArray[np.intp], Float]:
    """Return the first row of each name and the mean of its values (n,), both sorted by name."""
    _, first, inverse = np.unique(np.array(names), return_index=True, return_inverse=True)
    totals = np.bincount(inverse, weights=values, minlength=len(first))
    return first, totals / np.bincount(inverse, minlength=len(first))
