"""The Pareto front, and picking one design from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import InfeasibleError
from hwnas.search.designs import Column, Design, Designs, Row
from hwnas.search.infeasible import explain_infeasible
from hwnas.search.limit import Limit
from hwnas.search.objective import Direction
from hwnas.space import Archs

__all__ = ["ParetoFront"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ParetoFront:
    """The designs that no evaluated design beats in every objective, sorted by the first objective.

    Values are natural: an objective with direction "max" is better when larger. Of designs with
    equal objectives one stands for all. Observed columns are carried along.
    """

    designs: Designs

    def __len__(self) -> int:
        return len(self.designs)

    def __iter__(self) -> Iterator[Design]:
        return (self.designs[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Design:
        return self.designs[index]

    @property
    def archs(self) -> Archs:
        """The Pareto set."""
        return self.designs.archs

    @property
    def ids(self) -> tuple[str, ...]:
        """Arch ids."""
        return self.designs.archs.ids

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of `values` is; objectives first."""
        return self.designs.columns

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        return self.designs.names

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each column."""
        return tuple(column.unit for column in self.columns)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of each column."""
        return tuple(column.direction for column in self.columns)

    @property
    def values(self) -> FloatArray:
        """(n, n_columns), natural signs."""
        return self.designs.values

    @property
    def intervals(self) -> tuple[dict[str, tuple[float, float]], ...]:
        """For each design, (low, high) by name where a cost model gives them."""
        return tuple(dict(design.intervals) for design in self)

    def best(self, objective: str | None = None, limits: Iterable[str | Limit] = ()) -> Design:
        """Return the design that is best in one objective among those that keep the limits.

        Args:
            objective: name of a column; the first objective by default.
            limits: `"latency<=20"` or `Limit`, on any column.

        Raises:
            ConfigError: a name was not evaluated.
            InfeasibleError: no design of the front keeps the limits; the message names each with
                the best value there is, and the design that comes nearest.
        """
        bounds = [Limit.parse(limit) if isinstance(limit, str) else limit for limit in limits]
        g = violations(self.designs, bounds)
        at = self.designs.position(objective) if objective else 0
        allowed = np.flatnonzero((g <= 0).all(axis=1))
        if len(allowed) == 0:
            raise InfeasibleError(explain_infeasible(self.designs, bounds, "of the front"))
        column = self.values[allowed, at]
        maximize = self.columns[at].direction == "max"
        return self[int(allowed[column.argmax() if maximize else column.argmin()])]

    def knee(self) -> Design:
        """Return the design where a gain in one objective begins to cost much of another.

        Each objective is scaled to 0 at its best and 1 at its worst on the front; the knee has the
        smallest sum. With two objectives that is the point farthest from the line through the ends,
        on the side of the ideal (Das 1999).

        Raises:
            InfeasibleError: the front is empty.
        """
        if len(self) == 0:
            raise InfeasibleError("the front is empty; there is no knee")
        objectives = [i for i, column in enumerate(self.columns) if column.objective]
        signs = [1.0 if self.columns[i].direction == "min" else -1.0 for i in objectives]
        f = self.values[:, objectives] * np.array(signs)
        extent = f.max(axis=0) - f.min(axis=0)
        scaled = (f - f.min(axis=0)) / np.where(extent > 0, extent, 1.0)
        return self[int(scaled.sum(axis=1).argmin())]

    def rows(self) -> list[Row]:
        """See `Designs.rows`."""
        return self.designs.rows()

    def to_csv(self) -> str:
        """See `Designs.to_csv`."""
        return self.designs.to_csv()

    def to_json(self) -> str:
        """See `Designs.to_json`."""
        return self.designs.to_json()

    def to_pandas(self) -> Any:
        """See `Designs.to_pandas`."""
        return self.designs.to_pandas()

    def plot(self) -> Any:
        """Return a plotly figure of the first two objectives, the third as color."""
        from hwnas.search.plot import plot_front

        return plot_front(self)


def violations(designs: Designs, limits: Iterable[Limit]) -> FloatArray:
    """G (n, n_limits) of designs, at most 0 where a limit holds.

    Raises:
        ConfigError: a limit names no column.
    """
    columns = []
    for limit in limits:
        at = designs.position(limit.name)
        columns.append(limit.violation(designs.values[:, at], designs.lo[:, at], designs.hi[:, at]))
    return np.stack(columns, axis=1) if columns else np.zeros((len(designs), 0))
