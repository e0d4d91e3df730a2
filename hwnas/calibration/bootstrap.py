"""How far a figure would move if other architectures had been drawn: percentile bootstrap.

Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979. Rows
are drawn with replacement, and the same draws serve every predictor, so that differences between
predictors are paired.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ConfigError

__all__ = [
    "draw_rows",
    "each_draw",
    "kendall_of_draws",
    "percentile_interval",
    "spearman_of_draws",
]

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
_BLOCK = 512  # columns of the matrix of pairs that are held at once


def draw_rows(n: int, draws: int, rng: np.random.Generator) -> Rows:
    """Draw n of n rows with replacement, `draws` times; shape (draws, n)."""
    return rng.integers(0, n, size=(draws, n), dtype=np.intp)


def each_draw(statistic: Callable[[Rows], float | None], rows: Rows) -> Float:
    """Return the statistic of each draw, shape (draws,), NaN where it is None."""
    found = [statistic(drawn) for drawn in rows]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def kendall_of_draws(true: ArrayLike, predicted: ArrayLike, rows: Rows) -> Float:
    """Kendall's tau-b of each draw, as `kendall_tau` of the drawn rows; NaN where it has none.

    With c_i how often row i was drawn, C - D = sum over pairs of c_i c_j s_ij, and likewise for the
    pairs that are not tied: three matrix products for all draws together.
    """
    y, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    counts = _counts(rows, len(y))
    agree, free_y, free_p = np.zeros((3, len(rows)))
    for start in range(0, len(y), _BLOCK):
        part = slice(start, start + _BLOCK)
        dy, dp = np.sign(y[:, None] - y[part]), np.sign(p[:, None] - p[part])  # (n, block)
        drawn = counts[:, part]
        agree += ((counts @ (dy * dp)) * drawn).sum(axis=1)
        free_y += ((counts @ np.abs(dy)) * drawn).sum(axis=1)
        free_p += ((counts @ np.abs(dp)) * drawn).sum(axis=1)
    return _ratio(agree, np.sqrt(free_y * free_p))


def spearman_of_draws(true: ArrayLike, predicted: ArrayLike, rows: Rows) -> Float:
    """Spearman's rho of each draw, as `spearman_rho` of the drawn rows; NaN where it has none."""
    from scipy.stats import rankdata

    y, p = (rankdata(np.asarray(v, dtype=np.float64)[rows], axis=1) for v in (true, predicted))
    y, p = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (y, p))
    return _ratio((y * p).sum(axis=1), np.sqrt((y**2).sum(axis=1) * (p**2).sum(axis=1)))


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """The middle `level` of the draws that are defined; None where most of them are not.

    Raises:
        ConfigError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    values = np.asarray(draws, dtype=np.float64)
    known = values[~np.isnan(values)]
    if not known.size or 2 * known.size < values.size:
        return None
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _ratio(part: Float, scale: Float) -> Float:
    """Part / scale, NaN where the scale is 0."""
    out: Float = np.full(part.shape, np.nan)
    np.divide(part, scale, out=out, where=scale > 0)
    return out


def _counts(rows: Rows, n: int) -> Float:
    """How often each draw holds each row, shape (draws, n)."""
    flat = (rows + n * np.arange(len(rows))[:, None]).ravel()
    return np.bincount(flat, minlength=n * len(rows)).reshape(len(rows), n).astype(np.float64)
