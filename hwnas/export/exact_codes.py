"""Floating-point weights that are integer codes times scales after all: found again, exactly.

Shipped weights are stored in 8 bits with one scale per output channel (`hwnas.supernet.packing`),
and are float32 once they are read. A file for another runtime can hold the codes again where codes
times scale give every weight back to the last bit, and the weights themselves where not.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact_codes"]

_HIGHEST = 127
_SMALL = 4096  # elements; below this nothing is gained

Float = NDArray[np.float32]


def exact_codes(weight: Float) -> tuple[NDArray[np.int8], Float] | None:
    """Codes of the weight's shape and scales that broadcast against it; None where none fit.

    The axes that scales belong to are not known, as the weight may have been transposed and split:
    every choice of them is tried, those with the fewest scales first.
    """
    if weight.size < _SMALL or weight.ndim < 2:
        return None
    axes = range(weight.ndim)
    choices = [kept for n in range(1, weight.ndim) for kept in itertools.combinations(axes, n)]
    for kept in sorted(choices, key=lambda kept: int(np.prod([weight.shape[a] for a in kept]))):
        found = _codes(weight, tuple(axis for axis in axes if axis not in kept))
        if found is not None:
            return found
    return None


def _codes(weight: Float, others: tuple[int, ...]) -> tuple[NDArray[np.int8], Float] | None:
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale: Any = np.where(largest > 0, largest / np.float32(_HIGHEST), np.float32(1))
    codes = np.rint(weight / scale)
    # the largest weight was rounded when it was multiplied: its scale may be a neighbor
    for nearby in (scale, np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(1e9))):
        if np.array_equal(codes.astype(np.float32) * nearby, weight):
            return codes.astype(np.int8), nearby.astype(np.float32)
    return None
