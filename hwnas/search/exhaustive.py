"""The truth, where a space is small enough."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.search.algorithm import Told
from hwnas.search.problem import Problem
from hwnas.space import Archs

__all__ = ["ExhaustiveSearch"]


class ExhaustiveSearch:
    """Proposes every architecture of the space, in the space's order."""

    name = "exhaustive"

    def __init__(self, problem: Problem, *, batch: int = 4096, limit: int = 1_000_000) -> None:
        """Set up.

        Raises:
            SpaceError: the space has more than `limit` architectures.
        """
        self._batch = batch
        self._chunks = problem.space.enumerate(limit)
        self._rest = Archs(problem.space, np.empty((0, len(problem.space.genes)), dtype=np.int16))

    def ask(self, most: int) -> Archs:
        """Propose the next ones."""
        if not len(self._rest):
            self._rest = next(self._chunks, self._rest)
        size = min(most, self._batch)
        batch, self._rest = self._rest[:size], self._rest[size:]
        return batch

    def tell(self, rows: NDArray[np.intp], told: Told) -> None:
        """Learn nothing."""
