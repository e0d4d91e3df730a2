"""How far the predicted objectives of a search can be trusted, in numbers for every output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.calibration import kendall_tau, spearman_rho
from hwnas.cost import FitReport, Judged
from hwnas.errors import HwnasError
from hwnas.search import ParetoFront, Problem
from hwnas.workflows.rescoring import Rescored

__all__ = ["FrontAgreement", "Verdict", "fit_reports", "judge"]


@dataclass(frozen=True)
class FrontAgreement:
    """Predictions of the front beside the values that it was scored by again.

    These designs were picked because they were predicted to be good, and they lie close together:
    expect less agreement than on designs drawn at random.
    """

    name: str
    designs: int
    kendall_tau: float | None
    spearman: float | None

    def __str__(self) -> str:
        """One clause for people."""
        words = [
            f"{name} {value:.2f}"
            for name, value in (("Kendall tau", self.kendall_tau), ("Spearman", self.spearman))
            if value is not None
        ]
        agreement = ", ".join(words) or "no order to compare"
        return f"on the {self.designs} designs of the front against {self.name}: {agreement}"


@dataclass(frozen=True)
class Verdict:
    """What is known of one predicted objective; `report` says which values were held out."""

    report: FitReport
    on_front: FrontAgreement | None

    def __str__(self) -> str:
        """One sentence for people."""
        return "; ".join(str(part) for part in (self.report, self.on_front) if part is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        front = None if self.on_front is None else dict(self.on_front.__dict__)
        return {**self.report.to_dict(), "on_front": front}


def fit_reports(problem: Problem) -> dict[str, FitReport]:
    """The report of each column that has one."""
    found: dict[str, FitReport] = {}
    for column in problem.columns:
        if isinstance(column.model, Judged):
            try:
                report = column.model.fit_report()
            except HwnasError:  # the search itself has told what is wrong with it
                continue
            if report is not None:
                found[column.name] = report
    return found


def judge(problem: Problem, front: ParetoFront, rescored: Rescored | None) -> dict[str, Verdict]:
    """Report of each predicted column, compared on the front with a score in the same unit."""
    return {
        name: Verdict(report, _on_front(name, front, rescored))
        for name, report in fit_reports(problem).items()
    }


def _on_front(name: str, front: ParetoFront, rescored: Rescored | None) -> FrontAgreement | None:
    at = front.names.index(name)
    if rescored is None or rescored.unit != front.units[at]:
        return None
    predicted = front.values[:, at]
    real = _values(rescored.values, front.ids)
    return FrontAgreement(
        rescored.name, len(front), kendall_tau(real, predicted), spearman_rho(real, predicted)
    )


def _values(
    rescored: Mapping[str, tuple[float, float | None]], ids: tuple[str, ...]
) -> list[float]:
    return [rescored[arch_id][0] for arch_id in ids]
