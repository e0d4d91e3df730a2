"""How well a measurement agrees with itself: what no predictor can beat.

Repeats of one thing are rows of an (n, r) array, NaN where one is missing. The label of a row is a
statistic of what is left after outliers were dropped twice by the interquartile range. Source of
the cleaning: BRP-NAS (Dudziak et al., NeurIPS 2020), code of its latency tables. `drift_pct`,
`outliers` and `variation_pct` take times (n,) in the order in which they were taken.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.calibration.accuracy import Accuracy

__all__ = [
    "drift_pct", "label_of", "noise_between", "noise_of_repeats", "outliers", "repeat_cv",
    "variation_pct", "without_outliers",
]  # fmt: skip

Float = NDArray[np.float64]
Statistic = Literal["median", "minimum"]
_FENCES = 1.5  # interquartile ranges beyond the quartiles
_PASSES = 2
_FEWEST = 4  # repeats below which quartiles say nothing
_FAR = 2.0  # interquartile ranges from the quartiles; 1.5 flags one clean value in 140
_MOST_PAIRS = 500  # Theil-Sen looks at every pair: more points are thinned to this many


def without_outliers(repeats: ArrayLike) -> Float:
    """Return the repeats (n, r) with NaN in place of what lies beyond the fences of its row."""
    kept = np.array(repeats, dtype=np.float64, ndmin=2)
    for _ in range(_PASSES):
        enough = (~np.isnan(kept)).sum(axis=1) >= _FEWEST
        if not enough.any():
            break
        low, high = np.nanpercentile(kept[enough], [25, 75], axis=1)
        # a hair of slack: rounded clocks give quartiles that coincide
        reach = _FENCES * (high - low) + 1e-3 * np.abs(high)
        rows = kept[enough]
        rows[(rows < (low - reach)[:, None]) | (rows > (high + reach)[:, None])] = np.nan
        kept[enough] = rows
    return kept


def label_of(repeats: ArrayLike, statistic: Statistic = "median") -> Float:
    """Return one value a row (n,): median or minimum of the repeats that are no outliers."""
    kept = without_outliers(repeats)
    out: Float = (np.nanmin if statistic == "minimum" else np.nanmedian)(kept, axis=1)
    return out


def repeat_cv(repeats: ArrayLike) -> Float:
    """Standard deviation over mean of each row's repeats without outliers; NaN of fewer than 2."""
    kept = without_outliers(repeats)
    count = (~np.isnan(kept)).sum(axis=1)
    out = np.full(len(kept), np.nan)
    some = kept[count > 1]
    out[count > 1] = np.nanstd(some, axis=1, ddof=1) / np.nanmean(some, axis=1)
    return out


def noise_of_repeats(repeats: ArrayLike, statistic: Statistic = "median") -> Accuracy | None:
    """How well two labels of r repeats each would agree, from one set of r; None below two.

    Odd repeats are compared with even ones, so that a drift over the session touches both alike.
    Halves of r/2 differ by sqrt(2) more than labels of r, so their log ratio is divided by that.
    What changes from one session to the next is not in it.
    """
    rows = np.array(repeats, dtype=np.float64, ndmin=2)
    halves = rows[:, ::2], rows[:, 1::2]
    both = np.all([(~np.isnan(h)).any(axis=1) for h in halves], axis=0) if halves[1].size else []
    if not np.any(both):
        return None
    first, second = (np.log(label_of(half[both], statistic)) for half in halves)
    apart, middle = (first - second) / np.sqrt(2.0), (first + second) / 2.0
    return Accuracy.of(np.exp(middle + apart / 2.0), np.exp(middle - apart / 2.0))


def noise_between(first: ArrayLike, second: ArrayLike) -> Accuracy | None:
    """How well two measurements of the same things agree; None where nothing was measured twice."""
    y = np.asarray(first, dtype=np.float64)
    return Accuracy.of(y, second) if y.size else None


def drift_pct(reference_ms: ArrayLike) -> float:
    """Return by how much the reference changed from the first to the last, in percent.

    The slope is Theil and Sen's (the median over all pairs), which a few bad values do not move.
    Fewer than three values drift by 0.
    """
    values = np.asarray(reference_ms, float)
    if values.size < 3:
        return 0.0
    at = np.linspace(0, values.size - 1, min(values.size, _MOST_PAIRS)).round().astype(int)
    i, j = np.triu_indices(at.size, k=1)
    slope = np.median((values[at[j]] - values[at[i]]) / (at[j] - at[i]))
    return float(100 * slope * (values.size - 1) / np.median(values))


def outliers(values: ArrayLike) -> NDArray[np.bool_]:
    """Mark what lies more than two interquartile ranges outside the quartiles, shape (n,)."""
    array = np.asarray(values, float)
    if array.size == 0:
        return np.zeros(0, bool)
    low, high = np.percentile(array, (25, 75))
    margin = _FAR * (high - low)
    marked: NDArray[np.bool_] = (array < low - margin) | (array > high + margin)
    return marked


def variation_pct(values: ArrayLike) -> float:
    """Return the coefficient of variation, in percent; 0 of a single value."""
    array = np.asarray(values, float)
    return float(100 * array.std(ddof=1) / array.mean()) if array.size > 1 else 0.0
