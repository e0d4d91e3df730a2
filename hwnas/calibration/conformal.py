"""Split-conformal intervals: how wide an interval must be, read off errors on held-out data.

Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al.,
"Distribution-free predictive inference for regression", JASA 2018. The promise is marginal and
needs exchangeable data: it is void for architectures that a search has pushed to where no held-out
one lies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hwnas.errors import ConfigError

__all__ = ["conformal_quantile", "fewest_residuals"]


def conformal_quantile(residuals: ArrayLike, level: float) -> float | None:
    """The k-th smallest of n absolute residuals, k = ceil((n + 1) level).

    An interval of that half-width covers a new value with probability `level` at least. None where
    n is too small for it (k > n): there is no finite interval then.

    Raises:
        ConfigError: the level is not between 0 and 1, or a residual is not finite.
    """
    found = np.abs(np.asarray(residuals, dtype=np.float64).ravel())
    if not np.isfinite(found).all():
        raise ConfigError("residuals must be finite; leave out what failed")
    k = _rank(len(found), level)
    return float(np.sort(found)[k - 1]) if k <= len(found) else None


def fewest_residuals(level: float) -> int:
    """The smallest n for which `conformal_quantile` is finite: 4 for 80 %, 9 for 90 %.

    Raises:
        ConfigError: the level is not between 0 and 1.
    """
    n = 1
    while _rank(n, level) > n:
        n += 1
    return n


def _rank(n: int, level: float) -> int:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; expected a share between 0 and 1, such as 0.9")
    # 10 x 0.9 is 9.000000000000002 in floating point, which would cost a whole rank
    return math.ceil(round((n + 1) * level, 9))
