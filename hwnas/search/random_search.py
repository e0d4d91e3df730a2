"""The baseline that any search must beat: independent draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.search.algorithm import Told
from hwnas.search.operators.duplicates import Seen
from hwnas.search.operators.sampling import distinct_sample, first_population
from hwnas.search.problem import Problem
from hwnas.space import Archs

__all__ = ["RandomSearch"]


class RandomSearch:
    """Draws architectures from the space's own distribution, none twice."""

    name = "random"

    def __init__(
        self, problem: Problem, *, batch: int = 100, seed: int = 0, references: bool = False
    ) -> None:
        """Set up; with `references` it begins with the same designs as NSGA-II."""
        self._space = problem.space
        self._batch = batch
        self._references = references
        self._rng = np.random.default_rng(seed)
        self._seen = Seen()

    def ask(self, most: int) -> Archs:
        """Draw a batch."""
        wanted = min(self._batch, most)
        if self._references and not len(self._seen):
            return first_population(self._space, wanted, self._seen, self._rng)
        return distinct_sample(self._space, wanted, self._seen, self._rng)

    def tell(self, rows: NDArray[np.intp], told: Told) -> None:
        """Learn nothing."""
