"""From the ledger to the tables of a result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.search.designs import Column, Designs
from hwnas.search.dominance import non_dominated
from hwnas.search.front import ParetoFront
from hwnas.search.ledger import Ledger
from hwnas.search.problem import Problem

__all__ = ["all_designs", "pareto_front"]

FloatArray = NDArray[np.float64]


def all_designs(problem: Problem, ledger: Ledger) -> Designs:
    """Every design that all cost models answered for, in the order of evaluation."""
    good = np.flatnonzero(ledger.ok)
    columns = tuple(
        Column(c.name, c.unit, c.direction, fidelity, objective=i < len(problem.objectives))
        for i, (c, fidelity) in enumerate(zip(problem.columns, ledger.fidelity, strict=True))
    )
    return Designs(
        ledger.archs.take(good), columns, ledger.values[good], ledger.lo[good], ledger.hi[good]
    )


def pareto_front(designs: Designs, f: FloatArray, feasible: NDArray[np.bool_]) -> ParetoFront:
    """The feasible designs that no feasible one dominates, by the first of f (minimized)."""
    rows = np.flatnonzero(feasible)
    rows = rows[non_dominated(f[rows])]
    return ParetoFront(designs.take(rows[np.lexsort(f[rows].T[::-1])]))
