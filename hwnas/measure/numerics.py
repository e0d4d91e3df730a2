"""Whether a compiled kernel computes the right thing."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import DeviceError
from hwnas.measure.kernels.family import Problem

__all__ = ["check_result", "relative_error"]

Array = np.ndarray[Any, Any]


def relative_error(result: Array, expected: Array) -> float:
    """Largest difference over the largest expected magnitude; infinite where a result is not."""
    if not np.isfinite(result).all():
        return float("inf")
    largest = float(np.abs(expected).max(initial=0.0)) or 1.0
    return float(np.abs(result - expected).max(initial=0.0)) / largest


def check_result(what: str, result: Array, problem: Problem) -> float:
    """Compare a kernel's output with torch and return the relative error.

    Raises:
        DeviceError: it is above the problem's tolerance.
    """
    expected = problem.expected()
    if result.shape != expected.shape:
        raise DeviceError(f"{what} returned {result.shape} scalars, not {expected.shape}")
    error = relative_error(result, expected)
    if error <= problem.tolerance:
        return error
    worst = int(np.nanargmax(np.abs(result - expected)))
    raise DeviceError(
        f"{what} computes wrong numbers: relative error {error:.3g}, allowed "
        f"{problem.tolerance:.3g}; at {worst} it gives {result[worst]:.6g} instead of "
        f"{expected[worst]:.6g}. Its times mean nothing; leave the kernel out and report it"
    )
