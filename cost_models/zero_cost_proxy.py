"""What the zero-cost proxies share: options, seeds, and the estimate."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.supernet.probing import BatchSize, Probe, ProbeScores, Weights, estimate_seeds
from hwnas.supernet.probing.layer_choice import option_problems

__all__ = ["ZeroCostProxy", "log_of"]

Float = NDArray[np.float64]


class ZeroCostProxy(ABC):
    """A score of a probe, by `score`; the mean over draws of fresh weights, higher is better.

    The interval is one standard error over the draws. `images` None asks for no data.
    """

    name: str
    unit = "score"
    direction: Direction = "max"
    fidelity = "proxy"

    def __init__(
        self, context: CostContext, *, weights: Weights = "fresh", seeds: int | None = None,
        images: int | None = None, layers: str = ".*",
    ) -> None:  # fmt: skip
        problems = option_problems(
            weights=weights,
            seeds=seeds,
            layers=layers,
            batch_images=1 if images is None else images,
        )
        if problems:
            raise CostError(f"{self.name}: " + "; ".join(problems))
        self._context, self._layers = context, re.compile(layers)
        self._scores = ProbeScores(
            context, self.score, by=self.name, weights=weights,
            seeds=3 if seeds is None else seeds,
            size=None if images is None else BatchSize(1, images, context.seed),
        )  # fmt: skip

    @abstractmethod
    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the score of one probe on its one batch, if any; `seed` drew its weights."""

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return self._scores.note

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the scores, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the means over draws, with one standard error to either side."""
        own = Archs.of(self._context.space, archs)
        return estimate_seeds(own, self._scores.of, unit=self.unit, version=self._version)

    def _version(self) -> str:
        return f"{self.name}-1 layers={self._layers.pattern} {self._scores.version}"


def log_of(total: float, what: str) -> float:
    """The logarithm of a positive, finite total; CostError for any other."""
    if not 0 < total < math.inf:
        raise CostError(f"{what} is {total}, expected a positive number; it cannot be scored")
    return math.log(total)
