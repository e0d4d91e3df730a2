"""Splitting labels into those that a predictor is fitted on and those that judge it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError

__all__ = ["hold_out"]


def hold_out(groups: Sequence[str], share: float, *, at_least: int = 0) -> NDArray[np.bool_]:
    """Mark the rows (n,) that are held out; rows of one group are never on both sides.

    The groups are put into the order of their sha256 and the first ones are held out: about
    `share` of the groups, rounded, or `at_least` of them if that is more. The order of the rows
    does not matter, nor does anything random.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"a share of {share} held out; expected 0 to less than 1")
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).digest())
    count = max(round(share * len(names)), at_least)
    chosen = set(names[:count])
    return np.array([name in chosen for name in groups], dtype=np.bool_)
