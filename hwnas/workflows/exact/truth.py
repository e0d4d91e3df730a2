"""Fronts of searches beside exact designs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from hwnas.search import (
    Certificate,
    Designs,
    ExactResult,
    ParetoFront,
    Problem,
    best_within,
    front_gap,
)
from hwnas.space import Archs

__all__ = ["ExactBudget", "Found", "Truth"]

Float = NDArray[np.float64]
Fronts = Sequence[ParetoFront | None]
_PARTS = tuple(attrgetter(f"designs.{name}") for name in ("values", "lo", "hi"))
_SAME = 1e-9  # of the range: sums of floats in another order


@dataclass(frozen=True)
class Found:
    """What one kind of start found at one budget, by seed; None where it has nothing there.

    `behind` is in the unit of the objective and at least 0, `percent` of the optimum (None where
    that is 0), `of_range` in per cent of the range of the exact front.
    """

    values: tuple[float | None, ...]
    behind: tuple[float | None, ...]
    percent: tuple[float | None, ...]
    of_range: tuple[float | None, ...]


@dataclass(frozen=True)
class ExactBudget:
    """The exact optimum at one budget, how open the solver left it, and what searches found."""

    budget: float
    optimum: float
    arch_id: str
    gap: float
    found: Mapping[str, Found]


@dataclass(frozen=True, eq=False)
class Truth:
    """Exact designs at some budgets, and those at more of them.

    Attributes:
        judged: Solved at the budgets that searches are judged at.
        front: These and all other exact designs that are known.
        names: Objective and budget.
        sign: 1 where the objective is to be small, else -1.
    """

    judged: ExactResult
    front: ParetoFront
    names: tuple[str, str]
    sign: float

    @classmethod
    def of(cls, problem: Problem, given: ParetoFront, judged: ExactResult) -> Truth:
        """Put the exact designs of a problem together."""
        first, second = problem.objectives
        sign = 1.0 if first.direction == "min" else -1.0
        return cls(judged, _joined(given, judged.front), (first.name, second.name), sign)

    def rows(
        self, budgets: Sequence[float], found: Mapping[str, Fronts]
    ) -> tuple[ExactBudget, ...]:
        """What searches found at each budget, by kind of start."""
        optima = best_within(self.judged.front, self.names, budgets)
        best = {start: self._best(fronts, budgets) for start, fronts in found.items()}
        rows = []
        for i, (budget, optimum) in enumerate(zip(budgets, optima.tolist(), strict=True)):
            arch_id, certificate = self._certified(optimum)
            compared = {s: self._found(values[:, i], optimum) for s, values in best.items()}
            rows.append(ExactBudget(budget, optimum, arch_id, certificate.gap, compared))
        return tuple(rows)

    def volumes(self, fronts: Fronts) -> tuple[float, ...]:
        """Hypervolume of each front over that of the exact designs; 0 where there is none."""
        reference = front_gap(self.front, self.front).reference
        return tuple(
            0.0 if one is None
            else front_gap(one, self.front, reference=reference).hypervolume_ratio
            for one in fronts
        )  # fmt: skip

    def _best(self, fronts: Fronts, budgets: Sequence[float]) -> Float:
        """Best objective of each front within each budget, (n_fronts, n_budgets)."""
        unknown = np.full(len(budgets), np.nan)
        return np.stack([
            unknown if one is None else best_within(one, self.names, budgets) for one in fronts
        ])  # fmt: skip

    def _certified(self, optimum: float) -> tuple[str, Certificate]:
        values = self.judged.front.values[:, self.judged.front.names.index(self.names[0])]
        row = int(np.abs(values - optimum).argmin())
        return self.judged.front.ids[row], self.judged.certificates[row]

    def _found(self, values: Float, optimum: float) -> Found:
        at = self.front.names.index(self.names[0])
        extent = float(np.ptp(self.front.values[:, at]))
        behind = np.maximum(self.sign * (values - optimum), 0.0)  # NaN stays
        behind[behind <= _SAME * max(extent, abs(optimum))] = 0.0
        return Found(
            _known(values),
            _known(behind),
            _known(100 * behind / abs(optimum) if optimum else behind * np.nan),
            _known(100 * behind / extent if extent else behind * np.nan),
        )


def _known(values: Float) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _joined(one: ParetoFront, other: ParetoFront) -> ParetoFront:
    """The designs of two fronts, each once."""
    archs = [*one.archs, *other.archs]
    first = sorted({arch.id: i for i, arch in reversed(list(enumerate(archs)))}.values())
    designs = Designs(
        Archs.of(one.archs.space, archs), one.columns,
        *(np.concatenate([one_of(one), one_of(other)]) for one_of in _PARTS),
    )  # fmt: skip
    return ParetoFront(designs.take(first))
