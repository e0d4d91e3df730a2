"""How far a front ended from the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.search.front import ParetoFront
from hwnas.search.hypervolume import hypervolume

__all__ = ["FrontGap", "best_within", "front_gap"]

Float = NDArray[np.float64]
_SAME = 1e-9  # share of a budget: costs are sums of floats in another order


@dataclass(frozen=True, slots=True)
class FrontGap:
    """A front beside the exact one of the same two objectives.

    Attributes:
        hypervolume_ratio: Hypervolume of the front over that of the exact one, both up to
            `reference`. Above 1 only where the exact front was solved at some budgets alone.
        reference: The reference point in natural signs, by name.
        worst_gap: Largest loss of the first objective at the budget of an exact design, in its
            unit; never below 0. None where the front has nothing at any of these budgets.
        worst_share: The same as a share of the range of the exact front.
        worst_budget: The budget where it is, in the unit of the second objective.
        reached: Exact designs at whose budget the front is as good, up to a billionth of the range.
        missed: Exact designs at whose budget the front has no design at all.
        budgets: Number of exact designs.
    """

    hypervolume_ratio: float
    reference: dict[str, float]
    worst_gap: float | None
    worst_share: float | None
    worst_budget: float | None
    reached: int
    missed: int
    budgets: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def front_gap(
    found: ParetoFront, exact: ParetoFront, *, reference: dict[str, float] | None = None
) -> FrontGap:
    """Compare a front with the exact one, at the budget of each exact design.

    Args:
        found: A front whose columns include the two objectives.
        exact: The exact front; its first column is what is optimized, its second the budget.
        reference: Natural values by name; by default the worst value of each objective in both
            fronts, a tenth of the range further.

    Raises:
        ConfigError: the exact front is empty or has not two objectives, or the other front does
            not have them, or no volume is left before the reference point.
    """
    objectives = [c for c in exact.columns if c.objective]
    if len(objectives) != 2 or not len(exact):
        raise ConfigError(
            f"the exact front has {len(exact)} designs and {len(objectives)} objectives; expected "
            "a front of two"
        )
    names = [c.name for c in objectives]
    signs = np.array([1.0 if c.direction == "min" else -1.0 for c in objectives])
    ours, truth = (_minimized(front, names, signs) for front in (found, exact))
    ref = _reference(ours, truth) if reference is None else _given(reference, names) * signs
    volume = hypervolume(truth, ref)
    if volume <= 0:
        raise ConfigError(f"no exact design is better than the reference point {reference}")
    losses = np.array([_loss(ours, point) for point in truth])
    known = np.isfinite(losses)
    extent = float(np.ptp(truth[:, 0]))
    worst = int(np.where(known, losses, -np.inf).argmax()) if known.any() else None
    gap = None if worst is None else float(losses[worst])
    return FrontGap(
        hypervolume(ours, ref) / volume,
        dict(zip(names, (ref * signs).tolist(), strict=True)),
        gap,
        None if gap is None or extent == 0 else gap / extent,
        None if worst is None else float(truth[worst, 1] * signs[1]),
        int((losses[known] <= _SAME * extent).sum()),
        int((~known).sum()),
        len(truth),
    )


def best_within(front: ParetoFront, names: tuple[str, str], budgets: Sequence[float]) -> Float:
    """The best value of the first column within each budget of the second, shape (n_budgets,).

    Natural signs; NaN where the front has nothing within a budget, which holds up to a billionth.

    Raises:
        ConfigError: the front has no column of such a name.
    """
    columns = [front.columns[front.designs.position(name)] for name in names]
    signs = np.array([1.0 if c.direction == "min" else -1.0 for c in columns])
    ours = _minimized(front, list(names), signs)
    best = np.array([_least(ours, float(signs[1] * budget)) for budget in budgets])
    return np.where(np.isfinite(best), signs[0] * best, np.nan)


def _minimized(front: ParetoFront, names: list[str], signs: Float) -> Float:
    columns = [front.designs.position(name) for name in names]
    values: Float = front.values[:, columns] * signs
    return values


def _loss(ours: Float, point: Float) -> float:
    """How much worse the first objective is within the budget of a point; inf if nothing is."""
    return max(_least(ours, float(point[1])) - float(point[0]), 0.0)


def _least(ours: Float, budget: float) -> float:
    """The least first column within a budget of the second; inf if there is nothing."""
    within = ours[ours[:, 1] <= budget + _SAME * abs(budget), 0]
    return float(within.min()) if len(within) else np.inf


def _reference(ours: Float, truth: Float) -> Float:
    both = np.concatenate([ours, truth])
    worst, extent = both.max(axis=0), np.ptp(both, axis=0)
    margin = np.where(extent > 0, extent, np.maximum(np.abs(worst), 1.0))
    reference: Float = worst + 0.1 * margin
    return reference


def _given(reference: dict[str, float], names: list[str]) -> Float:
    missing = [name for name in names if name not in reference]
    if missing:
        raise ConfigError(f"the reference point has no {', '.join(missing)}")
    return np.array([reference[name] for name in names])
