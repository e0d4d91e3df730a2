"""Is a campaign of measurements to be believed: noise floor, drift, outliers.

Pure functions on arrays of times in ms, in the order in which they were taken.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["drift_pct", "noise_floor_pct", "outliers", "variation_pct"]

_FENCE: Final = 2.0  # interquartile ranges from the quartiles; 1.5 flags one clean value in 140
_MAX_PAIRS: Final = 500  # Theil-Sen looks at every pair: more points are thinned to this many


def noise_floor_pct(first_ms: npt.ArrayLike, second_ms: npt.ArrayLike) -> float:
    """Return the mean absolute difference of two measurements of the same things, in percent.

    Relative to the first, as a predictor's MAPE is relative to the measured value: no predictor
    can be asked to do better.

    Raises:
        ValueError: the arrays are empty or of different lengths.
    """
    first, second = np.asarray(first_ms, float), np.asarray(second_ms, float)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"{first.size} first and {second.size} second measurements; expected pairs"
        )
    return float(100 * np.mean(np.abs(second - first) / first))


def drift_pct(reference_ms: npt.ArrayLike) -> float:
    """Return by how much the reference changed from the first to the last, in percent.

    The slope is Theil and Sen's (the median over all pairs), which a few bad values do not move.
    Fewer than three values drift by 0.
    """
    values = np.asarray(reference_ms, float)
    if values.size < 3:
        return 0.0
    at = np.linspace(0, values.size - 1, min(values.size, _MAX_PAIRS)).round().astype(int)
    i, j = np.triu_indices(at.size, k=1)
    slope = np.median((values[at[j]] - values[at[i]]) / (at[j] - at[i]))
    return float(100 * slope * (values.size - 1) / np.median(values))


def outliers(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark what lies more than two interquartile ranges outside the quartiles."""
    array = np.asarray(values, float)
    if array.size == 0:
        return np.zeros(0, bool)
    low, high = np.percentile(array, (25, 75))
    margin = _FENCE * (high - low)
    marked: npt.NDArray[np.bool_] = (array < low - margin) | (array > high + margin)
    return marked


def variation_pct(values: npt.ArrayLike) -> float:
    """Return the coefficient of variation, in percent; 0 of a single value."""
    array = np.asarray(values, float)
    return float(100 * array.std(ddof=1) / array.mean()) if array.size > 1 else 0.0
