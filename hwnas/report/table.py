"""The front as rows of text."""

from __future__ import annotations

from hwnas.records import Evaluation
from hwnas.report.data import ReportData, Rescoring
from hwnas.report.design_text import design_summary
from hwnas.report.quantity import format_number, format_with_error, shown_costs
from hwnas.report.selection import selected_designs

__all__ = ["best_first", "front_rows", "rescored_text", "rescored_title"]


def front_rows(data: ReportData) -> list[dict[str, str]]:
    """One row for each design of the front, best first in the first objective.

    The keys are the heads of columns; those of costs have unit and kind of number:
    `latency (ms), estimated`. Costs without a value and designs that were not scored again say
    `n/a`. A column `note` names the selected designs, if any are selected.
    """
    shown = shown_costs(data)
    labels = {arch_id: label for label, arch_id in selected_designs(data).items()}
    rows = []
    for design in best_first(data):
        row = {"arch": design.arch_id, "design": design_summary(design.genes)}
        row |= {cost.title: cost.text(design) for cost in shown}
        row |= {rescored_title(r): rescored_text(r, design.arch_id) for r in data.rescorings}
        rows.append(row | ({"note": labels.get(design.arch_id, "")} if labels else {}))
    return rows


def best_first(data: ReportData) -> list[Evaluation]:
    """The front, sorted by its first objective."""
    first = data.objectives[0]
    sign = 1 if first.direction == "min" else -1
    return sorted(data.front_designs, key=lambda design: sign * design.values[first.name])


def rescored_title(rescoring: Rescoring) -> str:
    """Head of its column: `iou (re-scored)`."""
    unit = f", {rescoring.unit}" if rescoring.unit else ""
    return f"{rescoring.name}{unit} (re-scored)"


def rescored_text(rescoring: Rescoring, arch_id: str) -> str:
    """Value and standard error, `0.812 +/- 0.013` with the real sign, or `n/a`."""
    found = rescoring.values.get(arch_id)
    if found is None:
        return "n/a"
    value, error = found
    return format_number(value) if error is None else format_with_error(value, error)
