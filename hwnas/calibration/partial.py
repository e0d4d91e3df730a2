"""Rank correlation of what size does not explain.

Most proxies grow with the network, and so does quality: a proxy that only counts parameters looks
good. Its rank correlation given the counts says what it knows besides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ConfigError

__all__ = ["partial_spearman"]

Float = NDArray[np.float64]
_EXPLAINED = 1e-12  # share of the variance of the ranks below which nothing is left


def partial_spearman(true: ArrayLike, predicted: ArrayLike, given: ArrayLike) -> float | None:
    """Correlation of the ranks of two lists (n,) after the ranks of `given` (n, c) are taken out.

    The ranks of both, equal numbers sharing their mean rank, are regressed on those of the columns
    of `given` and a constant; the result is Pearson's correlation of what is left. One column
    gives Kendall's formula, "Partial rank correlation" (Biometrika 1942), with Spearman's rho:

        (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))

    None where `given` leaves nothing of one list, or n has no more than c + 2 rows.

    Raises:
        ConfigError: the shapes do not fit, or something is not finite.
    """
    from scipy.stats import rankdata

    y, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    z = np.asarray(given, dtype=np.float64)
    if y.ndim != 1 or p.shape != y.shape or z.ndim != 2 or len(z) != len(y):
        raise ConfigError(
            f"partial_spearman: shapes {y.shape}, {p.shape} and {z.shape}; expected (n,), (n,) "
            "and (n, c)"
        )
    if not all(np.isfinite(values).all() for values in (y, p, z)):
        raise ConfigError("values to rank must be finite; leave out what failed")
    if len(y) <= z.shape[1] + 2:
        return None
    known = np.concatenate([np.ones((len(y), 1)), rankdata(z, axis=0)], axis=1)
    left = [_left(rankdata(values), known) for values in (y, p)]
    if left[0] is None or left[1] is None:
        return None
    return float(np.clip(left[0] @ left[1], -1.0, 1.0))


def _left(ranks: Float, known: Float) -> Float | None:
    """What `known` (n, c + 1) does not explain of ranks (n,), of length 1; None for nothing."""
    weights, *_ = np.linalg.lstsq(known, ranks, rcond=None)
    rest: Float = ranks - known @ weights
    length = float(rest @ rest)
    spread = float(((ranks - ranks.mean()) ** 2).sum())
    return rest / np.sqrt(length) if length > _EXPLAINED * max(spread, 1.0) else None
