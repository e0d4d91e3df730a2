"""Which designs a report shows first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hwnas.report.data import ReportData

__all__ = ["selected_designs"]


def selected_designs(data: ReportData) -> Mapping[str, str]:
    """Label -> arch id: those the workflow chose, else the best of each objective and a balance.

    The balanced design is the one nearest to the ideal point, with every objective scaled to
    its range on the front. A design that wins twice has both labels in one.
    """
    if data.selected or not data.front:
        return data.selected
    values = _minimized(data)
    winners = {}
    if len(data.objectives) > 1:
        winners["balanced"] = int(np.argmin(np.linalg.norm(values, axis=1)))
    for column, cost in enumerate(data.objectives):
        extreme = "lowest" if cost.direction == "min" else "highest"
        winners[f"{extreme} {cost.name}"] = int(np.argmin(values[:, column]))
    labels: dict[int, list[str]] = {}
    for label, row in winners.items():
        labels.setdefault(row, []).append(label)
    return {", ".join(names): data.front[row] for row, names in labels.items()}


def _minimized(data: ReportData) -> NDArray[np.float64]:
    """Objectives of the front scaled to 0 (best) .. 1 (worst); shape (n, n_obj)."""
    columns = []
    for cost in data.objectives:
        column = np.array([design.values[cost.name] for design in data.front_designs])
        column = column if cost.direction == "min" else -column
        span = float(np.ptp(column)) or 1.0
        columns.append((column - column.min()) / span)
    return np.stack(columns, axis=1)
