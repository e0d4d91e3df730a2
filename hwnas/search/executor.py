"""Where evaluations run. Ray or Dask fit behind the same three methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hwnas.cost import CostModel
from hwnas.search.outcomes import Outcomes
from hwnas.search.pricing import price
from hwnas.space import Archs

__all__ = ["Executor", "SerialExecutor"]


class Executor(Protocol):
    """Evaluates batches of architectures under a fixed set of cost models.

    A run calls `map` with one batch after another, from one thread, and whoever made the executor
    calls `close` at the end. The outcomes come in the order of the architectures and do not depend
    on how the batch was divided among workers. A worker is given a `WorkerSpec` and choice indices,
    both plain JSON, never a live object.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The cost models that it evaluates."""
        ...

    def map(self, archs: Archs) -> Outcomes:
        """Evaluate a batch."""
        ...

    def close(self) -> None:
        """Release workers; a second call does nothing."""
        ...


class SerialExecutor:
    """Evaluates in this process, each batch in one call of each cost model."""

    def __init__(self, models: Mapping[str, CostModel], *, breakdown: bool = False) -> None:
        self._models = dict(models)
        self._breakdown = breakdown

    @property
    def names(self) -> tuple[str, ...]:
        """The cost models that it evaluates."""
        return tuple(self._models)

    def map(self, archs: Archs) -> Outcomes:
        """Evaluate a batch."""
        return price(self._models, archs, breakdown=self._breakdown)

    def close(self) -> None:
        """Nothing to release."""
