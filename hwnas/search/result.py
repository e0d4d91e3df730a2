"""What a search gives back, and what it says on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hwnas.search.designs import Designs
from hwnas.search.front import ParetoFront

__all__ = ["HistoryPoint", "Progress", "SearchResult"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands after a generation, or after a real evaluation within one.

    `real_evaluations` counts designs that were evaluated to refine a predictor. `hypervolume` is
    None until a design keeps the limits. Rate and time left count what this process evaluates, not
    what a resumed run reads back; they are None until something was.
    """

    generation: int
    evaluations: int
    max_evaluations: int
    failed: int
    real_evaluations: int
    front_size: int
    hypervolume: float | None
    evaluations_per_s: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """Hypervolume after a number of evaluations; None until a design keeps the limits."""

    evaluations: int
    hypervolume: float | None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The outcome of one run.

    `reference_point` has natural values by objective; `hypervolume` is measured from it, in the
    product of the objectives' units. `evaluated` are all designs that could be evaluated, in order;
    `feasible` marks those that keep the limits. `stopped` says whether the budget was used up or
    the space was.
    """

    front: ParetoFront
    evaluated: Designs
    feasible: tuple[bool, ...]
    algorithm: str
    generations: int
    evaluations: int
    failed: int
    real_evaluations: int
    seconds: float
    hypervolume: float
    reference_point: Mapping[str, float]
    history: tuple[HistoryPoint, ...]
    stopped: Literal["budget", "exhausted"]
