"""Which search variables cannot be chosen one without the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.space import encoding
from hwnas.space.repair import broken_rows, scope_of

if TYPE_CHECKING:
    from hwnas.space.space import SearchSpace


class Coupling:
    """Ties, depths and constraints of a space, in positions of its search variables.

    Attributes:
        constrained: For each constraint its variables, the depths that decide whether it binds
            included.
        deciders: Variables that decide whether others are present: the depths.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._layout, self._tables = space._layout, space._tables
        self._position = {group: j for j, group in enumerate(self._layout.free)}
        self.constrained = tuple(
            self._positions(scope_of(self._layout, table.columns)) for table in self._tables
        )
        depths = {depth for conditions in self._layout.conditions for depth, _ in conditions}
        self.deciders = self._positions({int(self._layout.group_of[d]) for d in depths})

    def variables_of(self, genes: Iterable[str]) -> frozenset[int]:
        """Positions of the variables that set these genes or decide whether they are present."""
        columns = [self._layout.column[name] for name in genes]
        return self._positions(scope_of(self._layout, columns))

    def present(self, x: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which variables matter in one row of choice indices (n_var,), shape (n_var,)."""
        row = encoding.decode(self._layout, x[None])[0]
        groups = (list(self._layout.groups[group]) for group in self._layout.free)
        return np.array([(row[columns] >= 0).any() for columns in groups], dtype=np.bool_)

    def allowed(self, x: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which rows of choice indices (n, n_var) meet the constraints, shape (n,)."""
        return ~broken_rows(self._layout, self._tables, x)

    def _positions(self, groups: Iterable[int]) -> frozenset[int]:
        return frozenset(self._position[g] for g in groups if g in self._position)
