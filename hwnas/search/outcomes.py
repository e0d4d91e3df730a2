"""What a batch of architectures cost, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outcomes"]

FloatArray = NDArray[np.float64]
Breakdowns = tuple[Mapping[str, Mapping[str, float]], ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Values of n architectures under the cost models `names`, in natural signs.

    `values`, `lo` and `hi` are (n, n_models). A NaN in `values` marks a model that failed there, in
    `lo` and `hi` an interval that it does not give; neither leaves `hwnas.search`. `messages` (n,)
    are empty where every model answered. `fidelity` is by model, "" where it never answered.
    `seconds` (n,) are shares of the wall clock. `breakdowns` (n,) hold cost by part by model name.
    """

    names: tuple[str, ...]
    values: FloatArray
    lo: FloatArray
    hi: FloatArray
    messages: tuple[str, ...]
    fidelity: tuple[str, ...]
    seconds: FloatArray
    breakdowns: Breakdowns

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Put batches one after another; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        fidelities = zip(*(part.fidelity for part in parts), strict=True)
        return cls(
            parts[0].names,
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lo for part in parts]),
            np.concatenate([part.hi for part in parts]),
            tuple(message for part in parts for message in part.messages),
            tuple(next((f for f in column if f), "") for column in fidelities),
            np.concatenate([part.seconds for part in parts]),
            tuple(breakdown for part in parts for breakdown in part.breakdowns),
        )

    def take(self, rows: NDArray[np.intp]) -> Outcomes:
        """Return some of the architectures, in the order of `rows`."""
        return Outcomes(
            self.names,
            self.values[rows],
            self.lo[rows],
            self.hi[rows],
            tuple(self.messages[row] for row in rows),
            self.fidelity,
            self.seconds[rows],
            tuple(self.breakdowns[row] for row in rows),
        )
