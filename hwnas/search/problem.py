"""The question that a search answers, and the only place where a sign is flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.search.limit import Limit
from hwnas.search.objective import Objective
from hwnas.space import SearchSpace

__all__ = ["Problem"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Problem:
    """Objectives to optimize and limits to keep, over a search space.

    `observed` are cost models that are evaluated and recorded but not optimized; every limit names
    an objective or one of these. `columns` are all of them, objectives first: the columns of every
    matrix of values in `hwnas.search`.

    Raises:
        ConfigError: listing every problem found.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()
    observed: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        problems = [] if self.objectives else ["no objectives; name at least one cost model"]
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"the cost model {name!r} is named twice" for name in twice]
        problems += [self._unknown(limit) for limit in self.limits if limit.name not in names]
        if problems:
            raise ConfigError("\n".join(problems))

    def _unknown(self, limit: Limit) -> str:
        return _unknown_name(f"limit {limit}", limit.name, self.names)

    @property
    def columns(self) -> tuple[Objective, ...]:
        """Objectives, then observed cost models."""
        return self.objectives + self.observed

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each column."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> int:
        """The position of a cost model among the columns.

        Raises:
            ConfigError: no column has this name.
        """
        if name not in self.names:
            raise ConfigError(_unknown_name("objective", name, self.names))
        return self.names.index(name)

    def minimized(self, values: FloatArray) -> FloatArray:
        """F (n, n_obj), smaller is better, from natural values (n, n_columns)."""
        signs = np.array([1.0 if o.direction == "min" else -1.0 for o in self.objectives])
        f: FloatArray = values[:, : len(self.objectives)] * signs
        return f

    def natural(self, f: Sequence[float] | FloatArray) -> dict[str, float]:
        """One row of f back as natural values by name."""
        return {
            o.name: float(v) if o.direction == "min" else -float(v)
            for o, v in zip(self.objectives, f, strict=True)
        }

    def constraints(self, values: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
        """G (n, n_limits), at most 0 where a limit holds; all matrices are (n, n_columns)."""
        g = np.empty((len(values), len(self.limits)))
        for j, limit in enumerate(self.limits):
            c = self.names.index(limit.name)
            g[:, j] = limit.violation(values[:, c], lo[:, c], hi[:, c])
        return g


def _unknown_name(what: str, name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return (
        f"{what}: no cost model called {name!r} is evaluated{hint} Evaluated: {', '.join(names)}; "
        f"add it with --cost {name}"
    )
