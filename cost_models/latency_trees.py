"""Boosted trees for what a sum of columns leaves over: small ones, because labels are few."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cost_models.quality_xgb import Trees

__all__ = ["BoostedRatio"]

Float = NDArray[np.float64]
Single = NDArray[np.float32]
_TREES = 200
_SETTINGS = {"max_depth": 3, "eta": 0.08, "colsample_bytree": 0.5, "min_child_weight": 3}


class BoostedRatio:
    """XGBoost on log ratios; one member, one thread, one seed: one answer."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self.save = trees.save

    @classmethod
    def fitted(cls, x: Single, y: Float) -> Self:
        """Train on columns x (n, f) and log ratios y (n,)."""
        signs = [0] * x.shape[1]
        weights = np.ones(len(y))
        return cls(Trees.fitted(x, y, weights, signs, members=1, trees=_TREES, **_SETTINGS))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `save` back."""
        return cls(Trees.load(folder, members=1))

    def predict(self, x: Single) -> Float:
        """Return the log ratio, shape (n,)."""
        out: Float = self._trees.predict(x)[0]
        return out
