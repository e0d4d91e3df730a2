"""What a cost model that learns may say besides: how good it is, and what it would learn from.

Both are optional, and looked for with `isinstance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from hwnas.cost.model import CostModel

__all__ = ["FitReport", "Judged", "Refinement", "Refining"]


@dataclass(frozen=True, slots=True)
class FitReport:
    """How well predictions agree with values that were held out.

    Attributes:
        fitted_on: Number of architectures that the model was fitted on.
        held_out: Number of others that judge it; none of them was fitted on.
        kendall_tau: Kendall's tau-b on those, None where it is not defined.
        spearman: Spearman's rho, likewise.
        mean_error: Mean absolute error on those, in the model's unit; None without any.
        unit: The model's unit.
        labels: Where the values came from, in words.
        judged_on: Which of them judge it, in words; empty where none does.
    """

    fitted_on: int
    held_out: int
    kendall_tau: float | None
    spearman: float | None
    mean_error: float | None
    unit: str
    labels: str
    judged_on: str = ""

    def __str__(self) -> str:
        """One sentence for people."""
        if not self.held_out or self.mean_error is None:
            return f"fitted on {self.fitted_on} designs ({self.labels}); none held out to judge it"
        ranks = ", ".join(
            f"{name} {'undefined' if value is None else f'{value:.2f}'}"
            for name, value in (("Kendall tau", self.kendall_tau), ("Spearman", self.spearman))
        )
        return (
            f"{ranks}, mean error {self.mean_error:.2g} {self.unit} on {self.held_out} held-out "
            f"{self.judged_on or 'values'}; fitted on {self.fitted_on} ({self.labels})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Refinement:
    """What a search may spend on evaluating some of its designs for real.

    Attributes:
        real: The cost model that gives the values to learn from, in the unit of the learner.
        evaluations: Designs evaluated by `real` in a whole search, at most.
        start: How many of them are drawn from the first generation, to learn the first values.
        rounds: In how many rounds, evenly over the search, the rest is spent on the designs that
            look best or are least known.
    """

    real: CostModel
    evaluations: int
    start: int
    rounds: int


@runtime_checkable
class Judged(Protocol):
    """A cost model that knows how good it is."""

    def fit_report(self) -> FitReport | None:
        """Return how well it does on held-out values; None where it has learned nothing yet."""
        ...


@runtime_checkable
class Refining(Protocol):
    """A `Fittable` cost model with a real counterpart that a search should ask now and then."""

    def refinement(self) -> Refinement | None:
        """Return what a search may spend; None where the model should stay as it is.

        The answer depends on options and context alone and costs nothing to ask for.
        """
        ...
