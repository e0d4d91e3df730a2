"""Predictors of other devices as columns to regress a latency on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_columns import GeneColumns
from cost_models.latency_transfer import SourceTables, TransferFit
from hwnas.cost import CostContext, CostModel
from hwnas.space import Arch

__all__ = ["SourceColumns"]

Float = NDArray[np.float64]
_POOL = 1000  # random architectures in whose times the sources are compared


class SourceColumns:
    """Milliseconds that predictors of other devices say, then one column an option."""

    name = "tables of other devices"

    def __init__(
        self, context: CostContext, sources: Mapping[str, CostModel], one_hot: GeneColumns
    ) -> None:
        self._space = context.space
        self._sources = dict(sources)
        self._one_hot = one_hot
        self.names: tuple[str, ...] = (*(f"source {name}" for name in sources), *one_hot.names)

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return the columns, shape (n, s + p)."""
        return np.concatenate([self._tables(archs), self._one_hot.matrix(archs)], axis=1)

    def fit(self, x: Float, y: Float) -> TransferFit:
        """Fit columns x (n, s + p) to milliseconds y (n,)."""
        pool = self._space.sample(np.random.default_rng(0), _POOL).unique()
        return TransferFit.of(x, y, SourceTables.of(self._tables(pool)))

    def fitted(self, arrays: Mapping[str, NDArray[Any]]) -> TransferFit:
        """Read what a fit's `to_arrays` gave."""
        return TransferFit.of_arrays(arrays)

    def _tables(self, archs: Sequence[Arch]) -> Float:
        return np.stack([model.evaluate(archs) for model in self._sources.values()], axis=1)
