"""Every architecture evaluated in a run, once, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.search.outcomes import Outcomes
from hwnas.space import Archs, SearchSpace

__all__ = ["Ledger", "row_keys"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def row_keys(archs: Archs) -> list[bytes]:
    """One key an architecture: equal keys, equal architectures; cheaper than ids."""
    matrix = archs.matrix
    width = matrix.shape[1] * matrix.itemsize
    data = matrix.tobytes()
    return [data[i * width : (i + 1) * width] for i in range(len(matrix))]


class Ledger:
    """Columns of a growing table; row numbers never change.

    `fidelity` is by column of the problem.
    """

    def __init__(self, space: SearchSpace, names: tuple[str, ...]) -> None:
        self.names = names
        self.fidelity = [""] * len(names)
        self._space = space
        self._matrix = np.empty((64, len(space.genes)), dtype=np.int16)
        self._values = np.empty((64, len(names)))
        self._lo = np.empty((64, len(names)))
        self._hi = np.empty((64, len(names)))
        self._messages: list[str] = []
        self._row_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def archs(self) -> Archs:
        """All architectures, in order of evaluation."""
        return Archs(self._space, self._matrix[: len(self)])

    @property
    def values(self) -> FloatArray:
        """(n, n_columns), NaN where a model failed or has not been fitted yet."""
        return self._values[: len(self)]

    @property
    def lo(self) -> FloatArray:
        """(n, n_columns), NaN where unknown."""
        return self._lo[: len(self)]

    @property
    def hi(self) -> FloatArray:
        """(n, n_columns), NaN where unknown."""
        return self._hi[: len(self)]

    @property
    def messages(self) -> list[str]:
        """What went wrong, "" where nothing did."""
        return self._messages

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) where every model answered."""
        return np.asarray(~np.isnan(self.values).any(axis=1))

    def row(self, key: bytes) -> int | None:
        """The row of an architecture, if it is here."""
        return self._row_of.get(key)

    def add(self, archs: Archs, outcomes: Outcomes) -> IntArray:
        """Append rows; columns that `outcomes` lacks are NaN. Returns the row numbers."""
        start, stop = len(self), len(self) + len(archs)
        self._grow(stop)
        self._matrix[start:stop] = archs.matrix
        for table, found in (
            (self._values, outcomes.values),
            (self._lo, outcomes.lo),
            (self._hi, outcomes.hi),
        ):
            table[start:stop] = np.nan
            table[start:stop, self._positions(outcomes.names)] = found
        self._messages.extend(outcomes.messages)
        self._row_of.update(zip(row_keys(archs), range(start, stop), strict=True))
        self._note_fidelity(outcomes)
        return np.arange(start, stop, dtype=np.intp)

    def rewrite(self, outcomes: Outcomes) -> None:
        """Replace some columns of all rows."""
        positions = self._positions(outcomes.names)
        self._values[: len(self), positions] = outcomes.values
        self._lo[: len(self), positions] = outcomes.lo
        self._hi[: len(self), positions] = outcomes.hi
        self._note_fidelity(outcomes)

    def _positions(self, names: tuple[str, ...]) -> list[int]:
        return [self.names.index(name) for name in names]

    def _note_fidelity(self, outcomes: Outcomes) -> None:
        for position, said in zip(self._positions(outcomes.names), outcomes.fidelity, strict=True):
            self.fidelity[position] = said or self.fidelity[position]

    def _grow(self, rows: int) -> None:
        if rows <= len(self._matrix):
            return
        size = max(rows, 2 * len(self._matrix))
        self._matrix = _wider(self._matrix, size)
        self._values = _wider(self._values, size)
        self._lo = _wider(self._lo, size)
        self._hi = _wider(self._hi, size)


def _wider(table: NDArray[Any], rows: int) -> NDArray[Any]:
    wider = np.empty((rows, table.shape[1]), dtype=table.dtype)
    wider[: len(table)] = table
    return wider
